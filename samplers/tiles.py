"""Images cut into square tiles: the arithmetic between tiles and pixels.

Tiles are numbered in C order over (view, tile row, tile col). Tiles at the right and lower border
may be smaller. Neighbouring pixels share a tile's score, so it is visited often enough to be
fresh; inside a tile pixels are equally likely.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped, UInt32

from .base import MAX_ITEMS, check_at_least, multiply_high
from .pixels import PixelIndex


@dataclasses.dataclass(frozen=True, kw_only=True)
class TileGrid:
    """A set of equally large images cut into tiles of `tile` x `tile` pixels."""

    num_views: int
    rows: int
    cols: int
    tile: int

    def __post_init__(self) -> None:
        for name in ("num_views", "rows", "cols", "tile"):
            check_at_least(name, getattr(self, name), 1)
        if self.num_tiles > MAX_ITEMS or max(self.rows, self.cols) > 2**15:
            raise ValueError(f"too many tiles or too large images for 32-bit indices: {self}")

    @property
    def tile_rows(self) -> int:
        """Tiles from top to bottom of a view."""
        return -(-self.rows // self.tile)

    @property
    def tile_cols(self) -> int:
        """Tiles from left to right of a view."""
        return -(-self.cols // self.tile)

    @property
    def num_tiles(self) -> int:
        """Tiles of all views."""
        return self.num_views * self.tile_rows * self.tile_cols

    @property
    def num_pixels(self) -> int:
        """Pixels of all views; may exceed 2^31."""
        return self.num_views * self.rows * self.cols

    def tile_of(self, pixels: PixelIndex) -> Int[Array, "*n"]:
        """Gives the tile each pixel lies in."""
        return self.join(pixels.view, pixels.row // self.tile, pixels.col // self.tile)

    def join(
        self, view: Int[Array, "*n"], tile_row: Int[Array, "*n"], tile_col: Int[Array, "*n"]
    ) -> Int[Array, "*n"]:
        """Joins (view, tile row, tile col) to a tile number."""
        return (view * self.tile_rows + tile_row) * self.tile_cols + tile_col

    def split(
        self, index: Int[Array, "*n"]
    ) -> tuple[Int[Array, "*n"], Int[Array, "*n"], Int[Array, "*n"]]:
        """Splits a tile number into (view, tile row, tile col)."""
        line = index // self.tile_cols
        return line // self.tile_rows, line % self.tile_rows, index - line * self.tile_cols

    def size(self, index: Int[Array, "*n"]) -> tuple[Int[Array, "*n"], Int[Array, "*n"]]:
        """Gives height and width of tiles in pixels."""
        _, tile_row, tile_col = self.split(index)
        height = jnp.minimum(self.tile, self.rows - tile_row * self.tile)
        return height, jnp.minimum(self.tile, self.cols - tile_col * self.tile)

    def area(self, index: Int[Array, "*n"]) -> Float[Array, "*n"]:
        """Gives the pixels of tiles."""
        height, width = self.size(index)
        return (height * width).astype(jnp.float32)

    def areas(self) -> Float[Array, " tiles"]:
        """Gives the pixels of every tile."""
        return self.area(jnp.arange(self.num_tiles, dtype=jnp.int32))

    def pixel_inside(self, index: Int[Array, " n"], words: UInt32[Array, "2 n"]) -> PixelIndex:
        """Picks a pixel of each tile, all equally likely, by two random words."""
        view, tile_row, tile_col = self.split(index)
        height, width = self.size(index)
        row = multiply_high(words[0], height.astype(jnp.uint32)).astype(jnp.int32)
        col = multiply_high(words[1], width.astype(jnp.uint32)).astype(jnp.int32)
        return PixelIndex(view, tile_row * self.tile + row, tile_col * self.tile + col)

    def any_pixel(self, words: UInt32[Array, "3 n"]) -> PixelIndex:
        """Picks a pixel of the whole set, all equally likely, by three random words."""
        view, row, col = (
            multiply_high(word, np.uint32(size)).astype(jnp.int32)
            for word, size in zip(words, (self.num_views, self.rows, self.cols), strict=True)
        )
        return PixelIndex(view, row, col)

    def mean_inside(
        self, values: Float[Array, "views rows cols"]
    ) -> Float[Array, "views tile_rows tile_cols"]:
        """Averages a map of pixels over each tile."""
        shape = (self.num_views, self.tile_rows, self.tile_cols)
        return jnp.sum(self.cut(values), axis=(2, 4)) / self.areas().reshape(shape)

    def cut(
        self, values: Shaped[Array, "views rows cols"]
    ) -> Shaped[Array, "views tile_rows tile tile_cols tile"]:
        """Cuts a map of pixels into tiles; 0 beyond the image's border."""
        tall, wide = self.tile_rows * self.tile, self.tile_cols * self.tile
        padding = ((0, 0), (0, tall - self.rows), (0, wide - self.cols))
        return jnp.pad(values, padding).reshape(
            self.num_views, self.tile_rows, self.tile, self.tile_cols, self.tile
        )

    def as_map(self, values: Float[Array, " tiles"]) -> Float[Array, "views tile_rows tile_cols"]:
        """Arranges one value per tile as a stack of maps."""
        return values.reshape(self.num_views, self.tile_rows, self.tile_cols)

    def to_pixels(self, values: Float[Array, " tiles"]) -> Float[Array, "views rows cols"]:
        """Repeats one value per tile over its pixels."""
        wide = jnp.repeat(self.as_map(values), self.tile, axis=1)[:, : self.rows]
        return jnp.repeat(wide, self.tile, axis=2)[:, :, : self.cols]
