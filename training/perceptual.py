"""LPIPS, the perceptual distance that papers report beside PSNR and SSIM; made when asked for.

The package `lpips` brings the network's last layers, which were fitted to people's judgements. The
rest is an image classifier that torchvision trained; its weights are read from a file and never
downloaded: a run that needs the network after an hour of training is a run lost.

Source: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
version 0.1 of the weights, pictures scaled to [-1, 1].
"""

import importlib.util
import os
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

Backbone = Literal["alex", "vgg"]

_FILES: dict[str, str] = {
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
}
_SMALLEST = {"alex": 31, "vgg": 16}
"""Rows and columns a picture needs at least."""


class Lpips:
    """LPIPS between pictures; 0 for equal ones, larger for what looks less alike."""

    def __init__(self, backbone: Backbone, weights: str | None = None):
        """Reads the network.

        Args:
          weights: file of the classifier's weights, as torchvision saves them; None looks in the
            folder where torchvision keeps what it has downloaded.
        Raises:
          ValueError: when the package is missing or the file does not hold this classifier.
          FileNotFoundError: when there is no such file; says where it was looked for and where it
            comes from.
        """
        self._torch, self._network = _load(backbone, weights)
        self.backbone = backbone

    def check_size(self, rows: int, cols: int) -> None:
        """Refuses pictures that shrink to nothing on their way through the network.

        Raises:
          ValueError: naming the least size.
        """
        least = _SMALLEST[self.backbone]
        if min(rows, cols) < least:
            raise ValueError(
                f"outputs.lpips={self.backbone} needs views of at least {least} x {least} pixels, "
                f"these have {cols} x {rows}"
            )

    def __call__(
        self, color: Float[np.ndarray, "rows cols 3"], target: Float[np.ndarray, "rows cols 3"]
    ) -> float:
        """Compares two pictures with values in [0, 1]."""
        pair = [
            self._torch.from_numpy(
                np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32)
            )
            for picture in (color, target)
        ]
        with self._torch.inference_mode():
            return float(self._network(*pair, normalize=True))


def weights_path(backbone: Backbone, weights: str | None = None) -> Path:
    """Finds the file of the classifier's weights, without reading it.

    Raises:
      ValueError: when the package `lpips` is missing.
      FileNotFoundError: naming the file, and where it comes from.
    """
    if importlib.util.find_spec("lpips") is None:
        raise ValueError('LPIPS needs the package lpips: pip install "hardlight[lpips]"')
    home = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "torch"
    home = Path(os.environ.get("TORCH_HOME", home)).expanduser()
    name = _FILES[backbone]
    path = home / "hub" / "checkpoints" / name if weights is None else Path(weights)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: LPIPS with {backbone} needs these weights of torchvision's classifier; "
            f"download https://download.pytorch.org/models/{name} there, or name the file "
            "with --set outputs.lpips_weights=FILE"
        )
    return path


def _load(backbone: Backbone, weights: str | None) -> tuple[Any, Any]:
    path = weights_path(backbone, weights)
    with warnings.catch_warnings():
        # lpips asks torchvision for its models by an argument that is on its way out
        warnings.simplefilter("ignore")
        import lpips
        import torch

        network = lpips.LPIPS(net=backbone, pnet_rand=True, verbose=False)
        try:
            stored = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ValueError(
                f"{path}: not a file of weights that torch can read: {error}"
            ) from error
    wanted = network.net.state_dict()
    found = {}
    for name, value in wanted.items():
        source = "features." + name.split(".", 1)[1]
        has = stored.get(source) if isinstance(stored, dict) else None
        if has is None or has.shape != value.shape:
            got = "nothing" if has is None else f"shape {tuple(has.shape)}"
            raise ValueError(
                f"{path}: not the weights of torchvision's {backbone}: {source} should have shape "
                f"{tuple(value.shape)}, got {got}"
            )
        found[name] = has
    network.net.load_state_dict(found)
    return torch, network
