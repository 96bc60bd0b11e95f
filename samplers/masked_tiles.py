"""Tiles of which only some pixels may be drawn: how many, and how to draw among them.

A mask is kept twice: as flags in the order of the tiles, so that the pixels of a tile are read by
one gather, and as a pyramid of how many pixels each tile has left, so that a tile can be drawn by
it. Without a mask everything is the arithmetic of `TileGrid`, at no cost.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, UInt8, UInt32

from . import pyramid
from .base import check_mask, multiply_high
from .pixels import PixelIndex
from .pyramid import WeightPyramid
from .tiles import TileGrid


class AllowedPixels(NamedTuple):
    """A mask, by tile; part of a sampler's state.

    Attributes:
      inside: 1 where a pixel may be drawn, row by row in each tile; 0 beyond the image's border.
      counts: how many these are, per tile.
    """

    inside: UInt8[Array, "tiles pixels"]
    counts: WeightPyramid


def allow(grid: TileGrid, mask: Bool[Array, "..."] | None) -> AllowedPixels | None:
    """Sorts a mask of pixels by tile; None stays None, everything allowed.

    Raises:
      ValueError: for a mask of another size or one that forbids everything.
    """
    if mask is None:
        return None
    check_mask(mask, grid.num_pixels)
    cut = grid.cut(mask.reshape(grid.num_views, grid.rows, grid.cols).astype(jnp.uint8))
    inside = jnp.swapaxes(cut, 2, 3).reshape(grid.num_tiles, grid.tile**2)
    return AllowedPixels(inside, pyramid.build(jnp.sum(inside, axis=1, dtype=jnp.float32)))


def allow_whole(grid: TileGrid, mask: Bool[Array, "..."] | None) -> AllowedPixels | None:
    """Keeps the tiles of which a mask allows every pixel; None stays None.

    Raises:
      ValueError: for a mask of another size, or when no tile is left.
    """
    allowed = allow(grid, mask)
    if allowed is None:
        return None
    is_whole = jnp.min(allowed.inside, axis=1) > 0
    if not isinstance(mask, Tracer) and not bool(jnp.any(is_whole)):
        raise ValueError(f"the mask leaves no whole tile of {grid.tile} x {grid.tile} pixels")
    inside = jnp.where(is_whole[:, None], allowed.inside, 0)
    return AllowedPixels(inside, pyramid.build(jnp.where(is_whole, grid.tile**2, 0.0)))


@dataclasses.dataclass(frozen=True)
class MaskedTiles:
    """A grid of tiles and what a mask leaves of it; made where needed, never stored."""

    grid: TileGrid
    allowed: AllowedPixels | None

    @property
    def num_pixels(self) -> float | Float[Array, ""]:
        """Pixels that may be drawn, perhaps more than an int32 can count."""
        if self.allowed is None:
            return float(self.grid.num_pixels)
        return pyramid.total(self.allowed.counts)

    def is_allowed(self, pixels: PixelIndex) -> Bool[Array, " n"]:
        """Says which pixels may be drawn."""
        if self.allowed is None:
            return jnp.ones(pixels.view.shape, bool)
        side = self.grid.tile
        inside = pixels.row % side * side + pixels.col % side
        flags = self.allowed.inside.at[self.grid.tile_of(pixels), inside]
        return flags.get(mode="promise_in_bounds") > 0

    def area(self, index: Int[Array, "*n"]) -> Float[Array, "*n"]:
        """Gives the pixels of tiles that may be drawn."""
        if self.allowed is None:
            return self.grid.area(index)
        return pyramid.take(self.allowed.counts.leaves, index)

    def areas(self) -> Float[Array, " tiles"]:
        """Gives the same for every tile."""
        if self.allowed is None:
            return self.grid.areas()
        return pyramid.leaf_weights(self.allowed.counts, self.grid.num_tiles)

    def per_pixel(self, probs: Float[Array, " n"], index: Int[Array, " n"]) -> Float[Array, " n"]:
        """Shares the probability of tiles among their pixels; 0 where none may be drawn."""
        if self.allowed is None:
            return probs / self.grid.area(index)
        area = self.area(index)
        return jnp.where(area > 0, probs / jnp.maximum(area, 1.0), 0.0)

    def any_tile(
        self, descent: UInt32[Array, "words n"], words: UInt32[Array, "3 n"]
    ) -> Int[Array, " n"]:
        """Gives the tiles of pixels drawn from all that may be, each equally likely.

        Args:
          descent: words for a descent of a pyramid over the tiles; used with a mask.
          words: used without one.
        """
        if self.allowed is None:
            return self.grid.tile_of(self.grid.any_pixel(words))
        return pyramid.descend(self.allowed.counts, descent)

    def pixel_inside(self, index: Int[Array, " n"], words: UInt32[Array, "2 n"]) -> PixelIndex:
        """Picks a pixel of each tile among those that may be drawn, all equally likely."""
        if self.allowed is None:
            return self.grid.pixel_inside(index, words)
        side = self.grid.tile
        flags = self.allowed.inside.at[index].get(mode="promise_in_bounds")
        flags = flags.reshape(-1, side, side).astype(jnp.float32)
        per_row = jnp.sum(flags, axis=2)
        count = jnp.maximum(jnp.sum(per_row, axis=1), 1.0).astype(jnp.uint32)
        rank = multiply_high(words[0], count).astype(jnp.float32)
        row, before = _find(per_row, rank)
        in_row = jnp.take_along_axis(flags, row[:, None, None], axis=1)[:, 0]
        col, _ = _find(in_row, rank - before)
        view, tile_row, tile_col = self.grid.split(index)
        return PixelIndex(view, tile_row * side + row, tile_col * side + col)

    def to_pixels(self, values: Float[Array, " tiles"]) -> Float[Array, "views rows cols"]:
        """Repeats one value per tile over its pixels, 0 where none may be drawn."""
        grid = self.grid
        spread = grid.to_pixels(values)
        if self.allowed is None:
            return spread
        shape = (grid.num_views, grid.tile_rows, grid.tile_cols, grid.tile, grid.tile)
        flags = jnp.swapaxes(self.allowed.inside.reshape(shape), 2, 3)
        flags = flags.reshape(
            grid.num_views, grid.tile_rows * grid.tile, grid.tile_cols * grid.tile
        )
        return spread * flags[:, : grid.rows, : grid.cols]


def _find(
    counts: Float[Array, "n side"], rank: Float[Array, " n"]
) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
    """Gives the place in which the item of a rank lies, and how many lie before that place."""
    side = counts.shape[1]
    # a product with a triangle beats a cumulative sum along a short axis
    triangle = jnp.triu(jnp.ones((side, side), counts.dtype))
    upto = jnp.matmul(counts, triangle, precision="highest")
    is_before = upto <= rank[:, None]
    place = jnp.minimum(jnp.sum(is_before.astype(jnp.int32), axis=1), side - 1)
    return place, jnp.max(jnp.where(is_before, upto, 0.0), axis=1)
