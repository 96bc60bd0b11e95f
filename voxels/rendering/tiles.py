"""Cuts an image into square tiles and puts it together again.

Neighbouring rays cross about the same number of cells, so a square tile wastes fewer lanes on
rays that have ended than a stretch of a row would.
"""

import jax.numpy as jnp
from jaxtyping import Array, Shaped


def tile_counts(rows: int, cols: int, tile: int) -> tuple[int, int]:
    """How many tiles cover the image along rows and columns."""
    return -(-rows // tile), -(-cols // tile)


def split_tiles(
    image: Shaped[Array, "rows cols *rest"], tile: int, *, is_border_zero: bool = False
) -> Shaped[Array, "tiles lanes *rest"]:
    """Cuts an image into tiles, row by row; where a tile sticks out the border repeats, or is zero.

    A tile of 0 gives the whole image as one.
    """
    rows, cols, *rest = image.shape
    if tile == 0:
        return image.reshape(1, rows * cols, *rest)
    down, right = tile_counts(rows, cols, tile)
    pad = ((0, down * tile - rows), (0, right * tile - cols), *((0, 0) for _ in rest))
    padded = jnp.pad(image, pad, mode="constant" if is_border_zero else "edge")
    blocks = jnp.swapaxes(padded.reshape(down, tile, right, tile, *rest), 1, 2)
    return blocks.reshape(down * right, tile * tile, *rest)


def join_tiles(
    tiles: Shaped[Array, "tiles lanes *rest"], rows: int, cols: int
) -> Shaped[Array, "{rows} {cols} *rest"]:
    """Undoes `split_tiles`."""
    num_tiles, lanes, *rest = tiles.shape
    if num_tiles == 1 and lanes == rows * cols:
        return tiles.reshape(rows, cols, *rest)
    tile = round(lanes**0.5)
    down, right = tile_counts(rows, cols, tile)
    blocks = jnp.swapaxes(tiles.reshape(down, right, tile, tile, *rest), 1, 2)
    return blocks.reshape(down * tile, right * tile, *rest)[:rows, :cols]
