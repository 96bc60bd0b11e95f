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

from .base import Draw, Feedback, Sampler, bind, check_items, check_mask, multiply_high
from .pixels import PixelIndex, index_from_pixels, pixels_from_index


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
    """What `stratified` remembers.

    Attributes:
      step: updates seen.
      order: the flat index of every pixel, those that a mask allows first, in tile order; None
        without a mask.
      num_allowed: how many these are.
    """

    step: Int[Array, ""]
    order: Int[Array, " items"] | None = None
    num_allowed: Int[Array, ""] | None = None


def init(
    config: StratifiedConfig, key: Key[Array, ""], *, mask: Bool[Array, "..."] | None = None
) -> StratifiedState:
    """Starts; there is nothing to remember but the mask.

    Raises:
      ValueError: for a mask of another size or one that forbids everything.
    """
    del key
    step = jnp.zeros((), jnp.int32)
    if mask is None:
        return StratifiedState(step)
    check_mask(mask, config.num_items)
    flat = _flat_in_tile_order(config)
    is_allowed = mask.reshape(-1)[flat]
    order = flat[jnp.argsort(~is_allowed, stable=True)]
    return StratifiedState(step, order, jnp.sum(is_allowed, dtype=jnp.int32))


def probabilities(config: StratifiedConfig, state: StratifiedState) -> Float[Array, " items"]:
    """Gives the chance of each pixel for a row of the batch chosen at random; near 1 / N."""
    runs = _runs(config, state)
    rank = jnp.arange(config.num_items, dtype=jnp.int32)
    run = jnp.searchsorted(runs.start, rank, side="right") - 1
    if state.order is None:
        return (
            jnp.zeros(config.num_items, jnp.float32)
            .at[_flat_in_tile_order(config)]
            .set(runs.share[run])
        )
    assert state.num_allowed is not None
    shares = jnp.zeros(config.num_items, jnp.float32).at[runs.start].max(runs.share)
    shares = jnp.where(state.num_allowed < config.batch_size, shares, runs.share[run])
    shares = jnp.where(rank < state.num_allowed, shares, 0.0)
    return jnp.zeros(config.num_items, jnp.float32).at[state.order].set(shares)


def sample(config: StratifiedConfig, key: Key[Array, ""], state: StratifiedState) -> Draw:
    """Draws one pixel from each run; rows come in the order of the runs.

    Bad input: where a mask leaves fewer pixels than the batch has rows, all of them are drawn, as
    equally often as goes.
    """
    runs = _runs(config, state)
    words = jax.random.bits(key, (config.batch_size,), jnp.uint32)
    rank = runs.start + multiply_high(words, runs.length.astype(jnp.uint32)).astype(jnp.int32)
    if state.order is None:
        items = pixel_in_tile_order(rank, config.rows, config.cols, config.tile)
        count: int | Int[Array, ""] = config.num_items
    else:
        assert state.num_allowed is not None
        flat = state.order.at[rank].get(mode="promise_in_bounds")
        items, count = pixels_from_index(flat, config.rows, config.cols), state.num_allowed
    return Draw(items=items, probs=runs.share, weights=1.0 / (count * runs.share))


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


def _flat_in_tile_order(config: StratifiedConfig) -> Int[Array, " items"]:
    """Gives the flat index of every pixel, in the order they are counted through."""
    order = jnp.arange(config.num_items, dtype=jnp.int32)
    pixels = pixel_in_tile_order(order, config.rows, config.cols, config.tile)
    return index_from_pixels(pixels, config.rows, config.cols)


class _Runs(NamedTuple):
    """First place and number of pixels of each run, and the chance of a pixel for a random row."""

    start: Int[Array, " n"]
    length: Int[Array, " n"]
    share: Float[Array, " n"]


def _runs(config: StratifiedConfig, state: StratifiedState) -> _Runs:
    """Cuts the count into n runs whose lengths differ by at most 1."""
    batch = config.batch_size
    slot = jnp.arange(batch, dtype=jnp.int32)
    if state.num_allowed is None:
        short, num_long = divmod(config.num_items, batch)
    else:
        short = state.num_allowed // batch
        num_long = state.num_allowed - short * batch
    start = slot * short + jnp.minimum(slot, num_long)
    length = short + (slot < num_long)
    share = 1.0 / (batch * jnp.maximum(length, 1).astype(jnp.float32))
    if state.num_allowed is None:
        return _Runs(start, length, share)
    # fewer pixels than rows: row j gets pixel j, and begins again at the first
    count = jnp.maximum(state.num_allowed, 1)
    again, is_few = slot % count, state.num_allowed < batch
    times = batch // count + (again < batch - batch // count * count)
    return _Runs(
        start=jnp.where(is_few, again, start),
        length=jnp.where(is_few, 1, length),
        share=jnp.where(is_few, times.astype(jnp.float32) / batch, share),
    )
