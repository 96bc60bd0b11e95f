"""`stratified`: one pixel from each of n equal parts of the images. Unbiased, weights about 1.

Pixels are counted through tile by tile and the count is cut into n runs of nearly equal length;
each run gives one pixel of the batch. So every batch covers every region of every image as evenly
as its size allows, and the mean over a batch varies less than with independent draws wherever
neighbouring pixels resemble each other. With a mask the pixels it allows are counted through.

Source: textbook stratified sampling.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from . import pyramid
from .base import Draw, Feedback, Sampler, bind, check_items, check_mask, multiply_high
from .pixels import PixelIndex, index_from_pixels
from .pyramid import WeightPyramid


@dataclasses.dataclass(frozen=True, kw_only=True)
class StratifiedConfig:
    """Settings of `stratified`.

    Attributes:
      num_views: images.
      rows: their height in pixels.
      cols: their width.
      batch_size: pixels per draw, at most all there are.
      tile: side of the tiles pixels are counted through; runs are compact down to this size.
    """

    num_views: int
    rows: int
    cols: int
    batch_size: int
    tile: int = 16

    def __post_init__(self) -> None:
        check_items(self.num_items, self.batch_size)
        if self.tile < 1 or self.batch_size > self.num_items:
            raise ValueError(f"needs tile >= 1 and batch_size <= {self.num_items}, got {self}")

    @property
    def num_items(self) -> int:
        """Pixels of all views."""
        return self.num_views * self.rows * self.cols


class StratifiedState(NamedTuple):
    """The number of updates seen, and the pixels a mask allows, in tile order (None: all)."""

    step: Int[Array, ""]
    allowed: WeightPyramid | None = None


def init(
    config: StratifiedConfig, key: Key[Array, ""], *, mask: Bool[Array, "..."] | None = None
) -> StratifiedState:
    """Starts; there is nothing to remember but the mask.

    Raises:
      ValueError: for a mask of another size or one that forbids everything.
    """
    del key
    allowed = None
    if mask is not None:
        check_mask(mask, config.num_items)
        in_order = mask.reshape(-1)[_flat_in_tile_order(config)]
        allowed = pyramid.build_mask(in_order, config.num_items)
    return StratifiedState(step=jnp.zeros((), jnp.int32), allowed=allowed)


def probabilities(config: StratifiedConfig, state: StratifiedState) -> Float[Array, " items"]:
    """Gives the chance of each pixel for a row of the batch chosen at random; near 1 / N."""
    flat = _flat_in_tile_order(config)
    if state.allowed is not None:
        share = pyramid.probabilities(state.allowed, config.num_items)
        return jnp.zeros(config.num_items, jnp.float32).at[flat].set(share)
    start, length = _runs(config)
    order = jnp.arange(config.num_items, dtype=jnp.int32)
    run = jnp.searchsorted(start, order, side="right") - 1
    share = 1.0 / (config.batch_size * length[run].astype(jnp.float32))
    return jnp.zeros(config.num_items, jnp.float32).at[flat].set(share)


def sample(config: StratifiedConfig, key: Key[Array, ""], state: StratifiedState) -> Draw:
    """Draws one pixel from each run; rows come in the order of the runs."""
    if state.allowed is not None:
        return _sample_allowed(config, key, state.allowed)
    start, length = _runs(config)
    words = jax.random.bits(key, (config.batch_size,), jnp.uint32)
    offset = multiply_high(words, length.astype(jnp.uint32)).astype(jnp.int32)
    items = pixel_in_tile_order(start + offset, config.rows, config.cols, config.tile)
    probs = 1.0 / (config.batch_size * length.astype(jnp.float32))
    return Draw(items=items, probs=probs, weights=1.0 / (config.num_items * probs))


def update(
    config: StratifiedConfig, state: StratifiedState, draw: Draw, feedback: Feedback
) -> StratifiedState:
    """Counts the step; feedback changes nothing."""
    del config, draw, feedback
    return state._replace(step=state.step + 1)


def make(config: StratifiedConfig) -> Sampler[StratifiedState]:
    """Binds the config."""
    return bind(config, init, sample, update, probabilities)


def pixel_in_tile_order(order: Int[Array, "*n"], rows: int, cols: int, tile: int) -> PixelIndex:
    """Gives the pixel at a place in the count through views, rows of tiles, tiles, pixels."""
    view = order // (rows * cols)
    place = order - view * (rows * cols)
    band = place // (tile * cols)
    height = jnp.minimum(tile, rows - band * tile)
    place = place - band * (tile * cols)
    column = place // (height * tile)
    width = jnp.minimum(tile, cols - column * tile)
    place = place - column * (height * tile)
    row = place // width
    return PixelIndex(view, band * tile + row, column * tile + place - row * width)


def _sample_allowed(config: StratifiedConfig, key: Key[Array, ""], allowed: WeightPyramid) -> Draw:
    """Draws one pixel from each of n equal parts of those allowed; every pixel has the same q."""
    words = jax.random.bits(key, (pyramid.num_words(allowed), config.batch_size), jnp.uint32)
    words = words.at[0].set(pyramid.spread_words(words[0], "stratified"))
    order = pyramid.descend(allowed, words)
    probs = pyramid.probability(allowed, order)
    items = pixel_in_tile_order(order, config.rows, config.cols, config.tile)
    return Draw(items=items, probs=probs, weights=jnp.ones_like(probs))


def _flat_in_tile_order(config: StratifiedConfig) -> Int[Array, " items"]:
    """Gives the flat index of every pixel, in the order they are counted through."""
    order = jnp.arange(config.num_items, dtype=jnp.int32)
    pixels = pixel_in_tile_order(order, config.rows, config.cols, config.tile)
    return index_from_pixels(pixels, config.rows, config.cols)


def _runs(config: StratifiedConfig) -> tuple[Int[Array, " n"], Int[Array, " n"]]:
    """Cuts the count into n runs whose lengths differ by at most 1."""
    short, num_long = divmod(config.num_items, config.batch_size)
    slot = jnp.arange(config.batch_size, dtype=jnp.int32)
    return slot * short + jnp.minimum(slot, num_long), short + (slot < num_long)
