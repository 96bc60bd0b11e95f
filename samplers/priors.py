"""What pixels promise before any training: edges, change between frames, labels.

Each function turns images or label maps into one non-negative strength per pixel, at most about 1.
They run once, at `init`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped, UInt8


def edge_strength(
    images: UInt8[Array, "views rows cols channels"],
) -> Float[Array, "views rows cols"]:
    """Measures the image gradient: the length of the Sobel response of the luminance in [0, 1]."""
    grey = luminance(images)
    smooth = jnp.array([1.0, 2.0, 1.0]) / 4.0
    slope = jnp.array([-1.0, 0.0, 1.0]) / 2.0
    down = _along(_along(grey, slope, 1), smooth, 2)
    right = _along(_along(grey, smooth, 1), slope, 2)
    return jnp.sqrt(down**2 + right**2)


def frame_change(
    images: UInt8[Array, "views rows cols channels"],
) -> Float[Array, "views rows cols"]:
    """Measures change over time, for views that are the frames of one video in order.

    The larger of the differences to the frame before and to the median frame.
    Source: importance by temporal difference as in DyNeRF (Li et al. 2022).
    """
    grey = luminance(images)
    before = jnp.abs(grey - jnp.concatenate([grey[:1], grey[:-1]]))
    return jnp.maximum(before, jnp.abs(grey - jnp.median(grey, axis=0, keepdims=True)))


def label_boundaries(labels: Int[Array, "views rows cols"]) -> Float[Array, "views rows cols"]:
    """Marks pixels with a different label among their four neighbours by 1, others by 0."""
    padded = jnp.pad(labels, ((0, 0), (1, 1), (1, 1)), mode="edge")
    middle = padded[:, 1:-1, 1:-1]
    is_boundary = (
        (padded[:, :-2, 1:-1] != middle)
        | (padded[:, 2:, 1:-1] != middle)
        | (padded[:, 1:-1, :-2] != middle)
        | (padded[:, 1:-1, 2:] != middle)
    )
    return is_boundary.astype(jnp.float32)


def class_balance(
    labels: Int[Array, "views rows cols"], num_classes: int
) -> Float[Array, "views rows cols"]:
    """Weighs pixels so that all classes present weigh the same in total; the rarest get 1.

    Bad input: labels outside [0, num_classes) weigh 0.
    """
    is_known = (labels >= 0) & (labels < num_classes)
    place = jnp.where(is_known, labels, num_classes)
    counts = jnp.zeros(num_classes + 1, jnp.int32).at[place].add(1)  # float32 stops at 2^24
    counts = counts.astype(jnp.float32)
    present = (counts > 0) & (jnp.arange(num_classes + 1) < num_classes)
    rarest = jnp.min(jnp.where(present, counts, jnp.inf))
    share = jnp.where(present, rarest / jnp.maximum(counts, 1.0), 0.0)
    return share[place]


def luminance(
    images: Shaped[Array, "views rows cols channels"],
) -> Float[Array, "views rows cols"]:
    """Computes the Rec. 709 luma of 8-bit images in [0, 1]; of one channel, the channel itself."""
    if images.shape[-1] < 3:
        return images[..., 0].astype(jnp.float32) / 255.0
    red, green, blue = (images[..., channel].astype(jnp.float32) for channel in range(3))
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255.0


def _along(
    values: Float[Array, "views rows cols"], kernel: Float[Array, "3"], axis: int
) -> Float[Array, "views rows cols"]:
    """Correlates along one axis with three taps, edges repeated."""
    size = values.shape[axis]
    widths = [(0, 0)] * 3
    widths[axis] = (1, 1)
    padded = jnp.pad(values, widths, mode="edge")
    parts = [
        kernel[tap] * jax.lax.slice_in_dim(padded, tap, tap + size, axis=axis) for tap in range(3)
    ]
    return parts[0] + parts[1] + parts[2]
