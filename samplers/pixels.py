"""Names for a pixel: by flat index, by (view, row, col), or by a continuous place in an image.

Conventions: row counts down, col counts right, both from 0; `uv` is in [0, 1] with u to the
right and v down; `xy` is in pixel units from the image corner, so the centre of pixel
(row, col) is (col + 0.5, row + 0.5).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class PixelIndex(NamedTuple):
    """A pixel of a set of equally large images."""

    view: Int[Array, " n"]
    row: Int[Array, " n"]
    col: Int[Array, " n"]


class PixelCoord(NamedTuple):
    """A continuous place in one of a set of images; uv in [0, 1], u right, v down."""

    view: Int[Array, " n"]
    uv: Float[Array, "n 2"]


def pixels_from_index(index: Int[Array, " n"], rows: int, cols: int) -> PixelIndex:
    """Splits a flat index in C order over (view, row, col).

    Examples:
      >>> [int(part[0]) for part in pixels_from_index(jnp.array([7]), 2, 3)]
      [1, 0, 1]
    """
    line = index // cols
    return PixelIndex(view=line // rows, row=line % rows, col=index - line * cols)


def index_from_pixels(pixels: PixelIndex, rows: int, cols: int) -> Int[Array, " n"]:
    """Joins (view, row, col) to a flat index; the caller keeps views * rows * cols below 2^31."""
    return (pixels.view * rows + pixels.row) * cols + pixels.col


def pixel_indices(
    items: Int[Array, " n"] | PixelIndex | PixelCoord, rows: int, cols: int
) -> PixelIndex:
    """Gives the pixel each item lies in, for any of the three kinds of item.

    Bad input: coordinates outside [0, 1] give the nearest pixel of the image.
    """
    if isinstance(items, PixelIndex):
        return items
    if isinstance(items, PixelCoord):
        col = jnp.clip(jnp.floor(items.uv[:, 0] * cols), 0, cols - 1).astype(jnp.int32)
        row = jnp.clip(jnp.floor(items.uv[:, 1] * rows), 0, rows - 1).astype(jnp.int32)
        return PixelIndex(view=items.view, row=row, col=col)
    return pixels_from_index(items, rows, cols)


def pixel_centres(
    items: Int[Array, " n"] | PixelIndex | PixelCoord, rows: int, cols: int
) -> tuple[Int[Array, " n"], Float[Array, "n 2"]]:
    """Gives the view and the place (x right, y down, pixel units) each item stands for.

    Returns:
      view, and xy: the pixel's centre, or the exact place for continuous items.
    """
    if isinstance(items, PixelCoord):
        return items.view, items.uv * jnp.array([[cols, rows]], items.uv.dtype)
    pixels = pixel_indices(items, rows, cols)
    xy = jnp.stack([pixels.col, pixels.row], axis=-1).astype(jnp.float32) + 0.5
    return pixels.view, xy
