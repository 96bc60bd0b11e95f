"""Image quality: PSNR and SSIM, and depth errors, as published numbers define them.

SSIM follows Wang et al. 2004: a Gaussian window of sigma 1.5 cut at 11 x 11, population
covariances, the mean over all windows that lie inside the image; the same number as
scikit-image's structural_similarity(gaussian_weights=True, sigma=1.5,
use_sample_covariance=False, data_range=1).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

_WINDOW = 11
_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2


class DepthErrors(NamedTuple):
    """Errors of a depth map over the pixels whose true depth is known; NaN if there are none."""

    rmse: Float[Array, ""]
    absolute_relative: Float[Array, ""]
    within_quarter: Float[Array, ""]  # share with max(a/b, b/a) < 1.25


def psnr(
    image: Float[Array | np.ndarray, "*shape channels"],
    target: Float[Array | np.ndarray, "*shape channels"],
    mask: Bool[Array | np.ndarray, "*shape"] | None = None,
) -> Float[Array, ""]:
    """Peak signal-to-noise ratio in dB for values in [0, 1]; equal images give +inf.

    Args:
      mask: pixels to count; with none set the result is NaN.
    """
    squared = jnp.square(jnp.asarray(image) - jnp.asarray(target))
    if mask is None:
        return psnr_from_mse(jnp.mean(squared))
    weight = jnp.broadcast_to(jnp.asarray(mask)[..., None], squared.shape)
    total = jnp.sum(jnp.where(weight, squared, 0.0))
    return psnr_from_mse(total / jnp.sum(weight))


def psnr_from_mse(mse: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Turns a mean squared error of values in [0, 1] into dB."""
    return -10.0 * jnp.log10(mse)


def ssim(
    image: Float[Array | np.ndarray, "rows cols channels"],
    target: Float[Array | np.ndarray, "rows cols channels"],
    mask: Bool[Array | np.ndarray, "rows cols"] | None = None,
) -> Float[Array, ""]:
    """Mean structural similarity of two images with values in [0, 1].

    Args:
      mask: True where a pixel counts; the mean is over windows with a counting centre, in which the
        target stands in for pixels that do not count. NaN where there is none.
    Raises:
      ValueError: if the images are smaller than the 11-pixel window.
    """
    rows, cols, channels = image.shape
    if min(rows, cols) < _WINDOW:
        raise ValueError(f"SSIM needs images of at least 11 x 11 pixels, got {cols} x {rows}")
    if mask is not None:
        image = jnp.where(jnp.asarray(mask)[..., None], image, target)
    a, b = jnp.moveaxis(jnp.asarray(image), -1, 0), jnp.moveaxis(jnp.asarray(target), -1, 0)
    level = jnp.mean(b, axis=(1, 2), keepdims=True)  # a common shift, against cancellation
    a, b = a - level, b - level
    blurred = _blur(jnp.concatenate([a, b, a * a, b * b, a * b]))
    mean_a, mean_b, square_a, square_b, product = blurred.reshape(5, channels, *blurred.shape[1:])
    variance_a, variance_b = square_a - mean_a**2, square_b - mean_b**2
    covariance = product - mean_a * mean_b
    mean_a, mean_b = mean_a + level, mean_b + level
    top = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    bottom = (mean_a**2 + mean_b**2 + _C1) * (variance_a + variance_b + _C2)
    if mask is None:
        return jnp.mean(top / bottom)
    edge = _WINDOW // 2
    counts = jnp.asarray(mask)[edge : rows - edge, edge : cols - edge]
    total = jnp.sum(jnp.where(counts, jnp.mean(top / bottom, axis=0), 0.0))
    return total / jnp.sum(counts)


def depth_errors(
    depth: Float[Array | np.ndarray, "*shape"], target: Float[Array | np.ndarray, "*shape"]
) -> DepthErrors:
    """Compares depth maps where the target is finite and positive."""
    target, depth = jnp.asarray(target), jnp.asarray(depth)
    known = jnp.isfinite(target) & (target > 0)
    count = jnp.sum(known)
    truth = jnp.where(known, target, 1.0)
    guess = jnp.where(known, depth, 1.0)
    error = guess - truth
    ratio = jnp.maximum(guess / truth, truth / jnp.maximum(guess, 1e-12))

    def mean(values: Array) -> Array:
        return jnp.sum(jnp.where(known, values, 0.0)) / count

    return DepthErrors(
        rmse=jnp.sqrt(mean(error**2)),
        absolute_relative=mean(jnp.abs(error) / truth),
        within_quarter=mean((ratio < 1.25).astype(jnp.float32)),
    )


def _blur(planes: Float[Array, "planes rows cols"]) -> Float[Array, "planes inner_rows inner_cols"]:
    """Gaussian means over the windows that lie inside each plane."""
    offsets = np.arange(_WINDOW) - _WINDOW // 2
    window = np.exp(-0.5 * (offsets / _SIGMA) ** 2)
    window = jnp.asarray(window / window.sum(), planes.dtype)

    def convolve(values: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(
            values, kernel, (1, 1), "VALID", precision=jax.lax.Precision.HIGHEST
        )

    values = convolve(planes[:, None], window.reshape(1, 1, _WINDOW, 1))
    return convolve(values, window.reshape(1, 1, 1, _WINDOW))[:, 0]
