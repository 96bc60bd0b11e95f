"""Which cells may cover which tile of the image, front to back: the lists the splat works on.

For a point eye in a uniform grid, |x - ex| + |y - ey| + |z - ez| between a cell's index and the
eye's rises by exactly one from each cell of a ray to the next. One integer per cell therefore
sorts the crossings of every ray at once, and cells with equal keys never share a ray.
Each (cell, tile) pair is an entry of a list of fixed capacity: sorting by the key first and then
stably by tile leaves every tile's stretch in front-to-back order.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .crossings import eye_cell, product

_MARGIN = 0.1  # pixels; covers float32 rounding of the projection, exactness comes from the rays


class Frame(NamedTuple):
    """A pinhole in cell units: camera axes as columns (OpenGL), focal and principal in pixels."""

    rotation: Float[Array, "3 3"]
    focal: Float[Array, " 2"]
    principal: Float[Array, " 2"]


class Bins(NamedTuple):
    """Front-to-back lists of cells per tile.

    Attributes:
      cell: row of the cell of each entry; entries of a tile are consecutive, nearest first.
      start: first entry of each tile, and the end of the last.
      num_pairs: entries needed; where it exceeds the capacity, the rest is missing.
    """

    cell: Int[Array, " pairs"]
    start: Int[Array, " tiles+1"]
    num_pairs: Int[Array, ""]


class TileSpan(NamedTuple):
    """Tiles a cell may cover, both ends included; none where last < first."""

    first_row: Int[Array, " cells"]
    last_row: Int[Array, " cells"]
    first_col: Int[Array, " cells"]
    last_col: Int[Array, " cells"]

    @property
    def count(self) -> Int[Array, " cells"]:
        """How many tiles."""
        down = jnp.maximum(self.last_row - self.first_row + 1, 0)
        return down * jnp.maximum(self.last_col - self.first_col + 1, 0)


def visibility_key(cells: Int[Array, "*cells 3"], eye: Float[Array, " 3"]) -> Int[Array, "*cells"]:
    """Steps between the eye's cell and each cell: sorts crossings of all rays front to back."""
    return jnp.sum(jnp.abs(cells - eye_cell(eye).reshape(*(1,) * (cells.ndim - 1), 3)), axis=-1)


def tile_span(
    cells: Int[Array, "cells 3"],
    is_listed: Bool[Array, " cells"],
    eye: Float[Array, " 3"],
    frame: Frame,
    near_depth: Float[Array, ""],
    rows: int,
    cols: int,
    tile: int,
) -> TileSpan:
    """Bounds the projection of each cell, clipped where it comes nearer than `near_depth`.

    Never too small, so a camera inside or beside a cell loses nothing.
    """
    corners = jnp.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    edges = [(a, b) for a in range(8) for b in range(8) if b > a and (b - a) in (1, 2, 4)]
    edges = [(a, b) for a, b in edges if bin(a ^ b).count("1") == 1]
    offset = (cells[:, None] + corners[None]).astype(eye.dtype) - eye.reshape(1, 1, 3)
    local = product(offset, frame.rotation)
    depth = -local[..., 2]
    plane = jnp.stack([local[..., 0], -local[..., 1]], axis=-1)
    is_ahead = depth >= near_depth
    a, b = jnp.array([e[0] for e in edges]), jnp.array([e[1] for e in edges])
    is_cut = is_ahead[:, a] != is_ahead[:, b]
    rise = jnp.where(is_cut, depth[:, b] - depth[:, a], 1.0)
    share = jnp.clip((near_depth - depth[:, a]) / rise, 0.0, 1.0)[..., None]
    cut = plane[:, a] + share * (plane[:, b] - plane[:, a])
    points = jnp.concatenate(
        [plane / jnp.where(is_ahead, depth, 1.0)[..., None], cut / near_depth], axis=1
    )
    is_point = jnp.concatenate([is_ahead, is_cut], axis=1)[..., None]
    pixels = points * frame.focal.reshape(1, 1, 2) + frame.principal.reshape(1, 1, 2)
    low = jnp.min(jnp.where(is_point, pixels, jnp.inf), axis=1) - _MARGIN
    high = jnp.max(jnp.where(is_point, pixels, -jnp.inf), axis=1) + _MARGIN
    size = jnp.array([[cols, rows]], eye.dtype)
    first = jnp.clip(jnp.ceil(low - 0.5), 0, size).astype(jnp.int32) // tile
    last = jnp.clip(jnp.floor(high - 0.5), -1, size - 1).astype(jnp.int32)
    last = jnp.where(last < 0, -1, last // tile)
    # first may be one tile past the image: then last < first along that axis, so the span is empty
    is_seen = is_listed & jnp.any(is_point[..., 0], axis=1) & jnp.all(low - 0.5 <= size - 1, axis=1)
    last = jnp.where(is_seen[:, None], last, -1)
    return TileSpan(first[:, 1], last[:, 1], first[:, 0], last[:, 0])


def bin_cells(
    key: Int[Array, " cells"], span: TileSpan, capacity: int, tiles_down: int, tiles_right: int
) -> Bins:
    """Lists the cells of every tile, nearest first."""
    num_tiles = tiles_down * tiles_right
    order = jnp.argsort(key, stable=True).astype(jnp.int32)
    span = jax.tree.map(lambda x: x[order], span)
    count = span.count
    ends = jnp.cumsum(count)
    num_pairs = ends[-1]
    entry = jnp.arange(capacity, dtype=jnp.int32)
    ranks = jnp.arange(order.shape[0], dtype=jnp.int32)
    rank = jnp.repeat(ranks, count, total_repeat_length=capacity)
    within = entry - (ends - count)[rank].astype(jnp.int32)
    width = jnp.maximum(span.last_col - span.first_col + 1, 1)[rank]
    row, col = span.first_row[rank] + within // width, span.first_col[rank] + within % width
    tile = jnp.where(entry < num_pairs, row * tiles_right + col, num_tiles)
    tile, rank = jax.lax.sort((tile, rank), num_keys=1, is_stable=True)
    start = jnp.searchsorted(tile, jnp.arange(num_tiles + 1, dtype=tile.dtype))
    return Bins(order[rank], start.astype(jnp.int32), num_pairs.astype(jnp.int32))
