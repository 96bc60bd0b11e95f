"""One entry for every scene: a folder, or `synthetic:NAME`."""

import os

from . import analytic
from .formats import load
from .posed_images import SplitImages

SYNTHETIC = "synthetic:"


def load_scene(
    spec: str | os.PathLike[str],
    *,
    downscale: int | float | None = None,
    longest_side: int = 1600,
    with_depth: bool = False,
    depth_scale: float | None = None,
    holdout: int = 8,
    num_train: int = 40,
    num_test: int = 8,
    num_val: int = 0,
    size: int = 100,
    seed: int = 0,
) -> SplitImages:
    """Loads a scene by what the user typed.

    Args:
      spec: a folder in any format `formats.load` knows, or its transforms*.json, or
        "synthetic:NAME" with NAME one of `analytic.names()`.
      downscale, longest_side, with_depth, depth_scale, holdout: passed to `formats.load`; analytic
        scenes always have depth, in their own unit, and are rendered at `size` / `downscale`.
      num_train, num_test, num_val, size, seed: passed to `analytic.posed_images`.
    Raises:
      FileNotFoundError, ValueError: naming the file and field, or the names that exist.
    """
    text = os.fspath(spec)
    if text.startswith(SYNTHETIC):
        if depth_scale is not None:
            raise ValueError(f"{text}: depth_scale is for depth maps, and this scene has no files")
        return analytic.posed_images(
            text[len(SYNTHETIC) :],
            num_train=num_train,
            num_test=num_test,
            num_val=num_val,
            size=max(1, round(size / (downscale or 1))),
            seed=seed,
        )
    return load(
        text,
        downscale=downscale,
        longest_side=longest_side,
        with_depth=with_depth,
        depth_scale=depth_scale,
        holdout=holdout,
    )
