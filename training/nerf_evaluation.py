"""Held-out quality: a quick estimate during the run, every pixel at the end.

The quick one renders a regular lattice of pixels of every held-out view: each stride-th row and
column. A lattice is itself a small picture taken by an adapted camera, so the program that renders
whole pictures renders it too, exactly at the pixels' centres.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from nerf import images
from nerf.images import FieldSnapshot, RenderedImage, RenderImage
from scenes import metrics
from scenes.cameras import Cameras
from scenes.posed_images import world_scale

from .nerf_setup import Setup, bounds

_SSIM_WINDOW = 11
_WORST_SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Shares of the held-out pixels, worst first, whose part of the error is told."""


class ViewResult(NamedTuple):
    """One held-out view."""

    name: str
    rendered: RenderedImage
    target: Float[np.ndarray, "rows cols 3"]
    counted: Bool[np.ndarray, "rows cols"] | None
    """Pixels that a mask leaves; None: all."""
    psnr: float
    """NaN where nothing counts."""
    psnr_color_fitted: float
    """After the affine map of the rendered colours that fits the truth best."""
    ssim: float | None
    """None for pictures smaller than SSIM's window."""
    depth_rmse: float | None
    """Over all pixels whose depth is known, in the unit of the data; None where none is."""
    depth_relative: float | None
    """Mean of their error over their true depth."""
    depth_within_quarter: float | None
    """Share of them whose depth is right within a factor of 1.25."""
    squared_errors: Float32[np.ndarray, " pixels"]
    """Of the pixels that count, averaged over colours."""


class Evaluator:
    """Renders a job's held-out views and compares them with the truth."""

    def __init__(self, setup: Setup):
        self._posed = setup.scene.test
        self._world_scale = world_scale(setup.scene)
        self._bounds = bounds(self._posed)
        self._background = setup.background
        self.render: RenderImage = images.make_image_renderer(
            setup.job.train, rays_per_chunk=setup.job.loop.rays_per_chunk
        )
        masks = self._posed.masks
        if masks is not None and not masks.any():
            raise ValueError("the masks of the held-out views leave no pixel to judge by")
        pixels = self._posed.num_views * self._posed.rows * self._posed.cols
        self.stride = max(1, math.ceil(math.sqrt(pixels / setup.job.loop.eval_rays)))

    def quick_psnr(self, snapshot: FieldSnapshot) -> float:
        """Mean over the held-out views of the PSNR on the lattice."""
        return self.quick(snapshot)[0]

    def quick(self, snapshot: FieldSnapshot) -> tuple[float, dict[str, float]]:
        """Looks at the lattice alone: the mean PSNR, and `error_concentration` of its pixels."""
        values, errors = [], []
        for view in range(self._posed.num_views):
            color = self._render(snapshot, view, self.stride).color
            target, mask = self._truth(view, self.stride)
            values.append(_psnr(color, target, mask))
            errors.append(_squared(color, target, mask).mean(-1))
        known = [value for value in values if np.isfinite(value)]
        psnr = float(np.mean(known)) if known else 0.0
        return psnr, error_concentration(np.concatenate(errors))

    def preview(
        self, snapshot: FieldSnapshot, *, max_side: int = 128
    ) -> UInt8[np.ndarray, "r c 3"]:
        """A small picture of the first held-out view beside the truth."""
        stride = max(1, math.ceil(max(self._posed.rows, self._posed.cols) / max_side))
        color = self._render(snapshot, 0, stride).color
        pair = np.concatenate([color, self._truth(0, stride)[0]], axis=1)
        return np.round(pair * 255).astype(np.uint8)

    def every_view(self, snapshot: FieldSnapshot) -> Iterator[ViewResult]:
        """Renders every held-out view whole."""
        for view in range(self._posed.num_views):
            rendered = self._render(snapshot, view, 1)
            target, mask = self._truth(view, 1)
            is_large = min(target.shape[:2]) >= _SSIM_WINDOW
            depth = self._depth_errors(rendered, view, mask)
            yield ViewResult(
                name=self._posed.names[view],
                rendered=rendered,
                target=target,
                counted=mask,
                psnr=_psnr(rendered.color, target, mask),
                psnr_color_fitted=_psnr(fit_colors(rendered.color, target, mask), target, mask),
                ssim=float(metrics.ssim(rendered.color, target, mask)) if is_large else None,
                depth_rmse=None if depth is None else float(depth.rmse) * self._world_scale,
                depth_relative=None if depth is None else float(depth.absolute_relative),
                depth_within_quarter=None if depth is None else float(depth.within_quarter),
                squared_errors=_squared(rendered.color, target, mask).mean(-1, dtype=np.float32),
            )

    def _render(self, snapshot: FieldSnapshot, view: int, stride: int) -> RenderedImage:
        rows = len(range(stride // 2, self._posed.rows, stride))
        cols = len(range(stride // 2, self._posed.cols, stride))
        cameras = lattice_cameras(self._posed.cameras, stride)
        return self.render(snapshot, self._bounds, cameras, view, rows, cols, self._background)

    def _truth(
        self, view: int, stride: int
    ) -> tuple[Float[np.ndarray, "rows cols 3"], Bool[np.ndarray, "rows cols"] | None]:
        lattice = slice(stride // 2, None, stride)
        image = self._posed.images[view, lattice, lattice]
        masks = self._posed.masks
        mask = None if masks is None else masks[view, lattice, lattice]
        return over(image, self._background), mask

    def _depth_errors(
        self, rendered: RenderedImage, view: int, mask: Bool[np.ndarray, "rows cols"] | None
    ) -> metrics.DepthErrors | None:
        """Compares all known depth, where nothing is rendered too: a hole is an error."""
        if self._posed.depth is None:
            return None
        truth = self._posed.depth[view]
        if mask is not None:
            truth = np.where(mask, truth, np.nan)
        if not np.isfinite(truth).any():
            return None
        return metrics.depth_errors(rendered.depth, truth)


def lattice_cameras(cameras: Cameras, stride: int) -> Cameras:
    """Cameras whose small picture is each stride-th pixel of the large one, from stride // 2 on.

    Pixel centre c + 1/2 of the small picture is stride * c + stride // 2 + 1/2 of the large one.
    """
    shift = stride // 2 + 0.5 - 0.5 * stride
    return cameras._replace(
        focal=np.asarray(cameras.focal, np.float32) / np.float32(stride),
        principal=(np.asarray(cameras.principal, np.float32) - np.float32(shift))
        / np.float32(stride),
    )


def over(
    image: UInt8[np.ndarray, "rows cols channels"], background: Float[np.ndarray, " 3"]
) -> Float[np.ndarray, "rows cols 3"]:
    """Lays a stored picture over a colour, in [0, 1]."""
    values = image.astype(np.float32) / 255.0
    if values.shape[-1] == 3:
        return values
    return values[..., :3] * values[..., 3:] + background * (1.0 - values[..., 3:])


def fit_colors(
    color: Float[np.ndarray, "rows cols 3"],
    target: Float[np.ndarray, "rows cols 3"],
    mask: Bool[np.ndarray, "rows cols"] | None = None,
) -> Float[np.ndarray, "rows cols 3"]:
    """Applies the affine map of colours that brings a picture nearest to another.

    A field that learned the exposure of each photograph cannot know that of a held-out one; this
    is the customary way to leave it out of the comparison.
    """
    inputs = np.concatenate([color, np.ones_like(color[..., :1])], axis=-1, dtype=np.float64)
    counted = np.ones(color.shape[:2], bool) if mask is None else mask
    affine = np.linalg.lstsq(inputs[counted], target[counted], rcond=None)[0]
    return np.clip(inputs @ affine, 0.0, 1.0)


def error_concentration(errors: Float[np.ndarray, " pixels"]) -> dict[str, float]:
    """Gives the share of the squared error that the worst pixels hold, by their share of all.

    Spread evenly, the worst tenth of the pixels would hold a tenth of the error.
    """
    errors = np.sort(errors if errors.size else np.zeros(1))  # masks may leave nothing that counts
    total = max(float(errors.sum(dtype=np.float64)), 1e-30)
    found = {}
    for share in _WORST_SHARES:
        worst = errors[-max(round(share * errors.size), 1) :]
        found[f"{share:g}"] = round(float(worst.sum(dtype=np.float64)) / total, 4)
    return found


def _psnr(color: np.ndarray, target: np.ndarray, mask: np.ndarray | None) -> float:
    squared = _squared(color, target, mask)
    if squared.size == 0:
        return float("nan")
    # a perfect picture would be infinite; 8-bit truth cannot show more than about 100 dB
    return float(-10.0 * np.log10(max(float(np.mean(squared)), 1e-10)))


def _squared(
    color: np.ndarray, target: np.ndarray, mask: np.ndarray | None
) -> Float[np.ndarray, "pixels 3"]:
    """Squared differences of the pixels that count."""
    squared = np.square(color - target, dtype=np.float64)
    return squared.reshape(-1, 3) if mask is None else squared[mask]
