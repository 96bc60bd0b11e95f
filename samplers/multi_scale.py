"""`multi_scale`: coarse-to-fine over the levels of one pyramid of tiles. Unbiased.

Tiles are numbered so that 16 neighbours in the pyramid are a square of 4 x 4 tiles, 256 one of
16 x 16, and so on: the block sums above the leaves are the error map at coarser scales, at no
extra cost. A draw takes a node of scale h by its weight and a pixel uniformly inside:

    q = (1 - λ) Σ_h α_h W_h(pixel) / ΣW / area_h(pixel) + λ / N.

The shares α move from the coarsest scale to the finest while training proceeds; a small share
always keeps the overview. With a mask, area and N count the pixels it allows. Coarse scales collect
many visits early and are trustworthy long before fine ones; fine ones focus better late.

Source: Morton order (Morton 1966); progressive refinement of error maps as in the block and
quadtree samplers for radiance fields, without trees.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from . import corrections, masked_tiles, pyramid, pyramid_write, schedules, scores
from .base import (
    MAX_ITEMS,
    Draw,
    Feedback,
    Sampler,
    bind,
    check_at_least,
    check_fraction,
    multiply_high,
    usable_rows,
)
from .masked_tiles import AllowedPixels, MaskedTiles
from .pixels import PixelIndex
from .pyramid import WeightPyramid
from .scores import MeanLoss
from .tiles import TileGrid

FAN = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiScaleConfig:
    """Settings of `multi_scale`.

    Attributes:
      num_views: images.
      rows: their height in pixels.
      cols: their width.
      batch_size: pixels per draw.
      tile: side of the finest tiles in pixels.
      num_scales: scales used, each 4 times coarser than the one before; at most what fits a view.
      overview: share of the weighted draws kept at the coarser scales to the end.
      refine_steps: steps from the coarsest to the finest scale after the warm-up.
      decay: how much of a tile's old score survives a visit.
      uniform_fraction: λ, the share of uniform draws; in (0, 1].
      correction: exponent of the weights; 1 is unbiased.
      warmup_steps: steps drawn uniformly while scores are collected.
      mean_decay: decay of the running mean loss that scores are relative to.
    """

    num_views: int
    rows: int
    cols: int
    batch_size: int
    tile: int = 8
    num_scales: int = 3
    overview: float = 0.1
    refine_steps: int = 2000
    decay: float = 0.7
    uniform_fraction: float = 0.25
    correction: float = 1.0
    warmup_steps: int = 100
    mean_decay: float = 0.9

    def __post_init__(self) -> None:
        check_at_least("num_views", self.num_views, 1)
        check_at_least("batch_size", self.batch_size, 1)
        check_at_least("num_scales", self.num_scales, 1)
        check_at_least("refine_steps", self.refine_steps, 0)
        check_at_least("warmup_steps", self.warmup_steps, 0)
        for name in ("overview", "decay", "correction", "mean_decay"):
            check_fraction(name, getattr(self, name))
        check_fraction("uniform_fraction", self.uniform_fraction, is_open_at_zero=True)
        if self.num_views * FAN**self.depth > MAX_ITEMS:
            raise ValueError(f"too many tiles for 32-bit indices: {self.grid}")

    @property
    def grid(self) -> TileGrid:
        """The finest tiles, for their pixel arithmetic only; numbered differently here."""
        return TileGrid(num_views=self.num_views, rows=self.rows, cols=self.cols, tile=self.tile)

    @property
    def depth(self) -> int:
        """Scales between a tile and a whole view, which is a square of 4^depth tiles."""
        side = max(self.grid.tile_rows, self.grid.tile_cols)
        depth = 0
        while 4**depth < side:
            depth += 1
        return depth

    @property
    def coarsest(self) -> int:
        """The coarsest scale used; scale h has tiles of tile * 4^h pixels."""
        return min(self.num_scales - 1, self.depth)


class MultiScaleState(NamedTuple):
    """What `multi_scale` remembers.

    Attributes:
      weights: area * score per tile, area as a share of a full tile, with all coarser scales.
      mean: running mean loss over all pixels.
      step: updates seen.
      allowed: what a mask allows, in the order of the grid; None: every pixel.
      counts: the pixels it allows per tile, in the order of the weights; None without a mask.
    """

    weights: WeightPyramid
    mean: MeanLoss
    step: Int[Array, ""]
    allowed: AllowedPixels | None = None
    counts: WeightPyramid | None = None


def init(
    config: MultiScaleConfig, key: Key[Array, ""], *, mask: Bool[Array, "..."] | None = None
) -> MultiScaleState:
    """Starts with every tile counting as average.

    Args:
      mask: False marks pixels that are never drawn.
    Raises:
      ValueError: for a mask of another size or one that forbids everything.
    """
    del key
    index = jnp.arange(config.num_views * FAN**config.depth, dtype=jnp.int32)
    area = _box_area(config, index, 0)
    allowed = masked_tiles.allow(config.grid, mask)
    counts = None
    if allowed is not None:
        view, row, col = _place(config, index)
        tile = config.grid.join(
            view,
            jnp.minimum(row, config.grid.tile_rows - 1),
            jnp.minimum(col, config.grid.tile_cols - 1),
        )
        area = jnp.where(area > 0, pyramid.take(allowed.counts.leaves, tile), 0.0)
        counts = pyramid.build(area, fan_out=FAN)
    return MultiScaleState(
        weights=pyramid.build(area / config.tile**2, fan_out=FAN),
        mean=scores.init_mean_loss(),
        step=jnp.zeros((), jnp.int32),
        allowed=allowed,
        counts=counts,
    )


def scale_shares(config: MultiScaleConfig, step: Int[Array, ""]) -> Float[Array, " scales"]:
    """Gives α: the share of weighted draws made at each scale, finest first; sums to 1."""
    count = config.coarsest + 1
    progress = schedules.ramp(step, start=config.warmup_steps, length=config.refine_steps)
    centre = config.coarsest * (1.0 - progress)
    hat = jnp.maximum(1.0 - jnp.abs(jnp.arange(count) - centre), 0.0)
    return (1.0 - config.overview) * hat / jnp.sum(hat) + config.overview / count


def probabilities(
    config: MultiScaleConfig, state: MultiScaleState
) -> Float[Array, "views rows cols"]:
    """Gives the exact probability of every pixel, in O(N)."""
    shape = (config.num_views, config.rows, config.cols)
    view, row, col = (jnp.broadcast_to(part, shape) for part in jnp.indices(shape, sparse=True))
    pixels = PixelIndex(view.reshape(-1), row.reshape(-1), col.reshape(-1))
    probs = _probability(config, state, tile_number(config, pixels)).reshape(shape)
    if state.allowed is None:
        return probs
    tiles = MaskedTiles(config.grid, state.allowed)
    return probs * tiles.to_pixels(jnp.ones(config.grid.num_tiles))


def sample(config: MultiScaleConfig, key: Key[Array, ""], state: MultiScaleState) -> Draw:
    """Draws a node of a random scale, and a pixel uniformly inside."""
    if state.counts is not None:
        return _sample_allowed(config, key, state, state.counts)
    num_words = pyramid.num_words(state.weights)
    words = jax.random.bits(key, (num_words + 7, config.batch_size), jnp.uint32)
    leaf = pyramid.descend(state.weights, words[:num_words])
    coins = (words[-2:] >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)
    scale = _scale_of(config, state, coins[0])
    pixels = _pixel_inside(config, leaf, scale, words[num_words : num_words + 2])
    anywhere = config.grid.any_pixel(words[num_words + 2 : num_words + 5])
    share = _uniform_fraction(config, state)
    is_uniform = (coins[1] < share) | (pyramid.total(state.weights) <= 0)
    pixels = PixelIndex(
        *(jnp.where(is_uniform, a, b) for a, b in zip(anywhere, pixels, strict=True))
    )
    offset_row, offset_col = pixels.row % config.tile, pixels.col % config.tile
    leaf, probs = pyramid.read_first(
        lambda part: _probability(config, state, part), tile_number(config, pixels)
    )
    view, row, col = _place(config, leaf)
    items = PixelIndex(view, row * config.tile + offset_row, col * config.tile + offset_col)
    weights = corrections.importance_weights(
        probs, config.grid.num_pixels, exponent=config.correction
    )
    return Draw(items=items, probs=probs, weights=weights)


def update(
    config: MultiScaleConfig, state: MultiScaleState, draw: Draw, feedback: Feedback
) -> MultiScaleState:
    """Moves the scores of the finest tiles; the coarser scales are their sums."""
    usable = usable_rows(feedback)
    num_pixels = MaskedTiles(config.grid, state.allowed).num_pixels
    full = corrections.importance_weights(draw.probs, num_pixels)
    mean = scores.update_mean_loss(
        state.mean, feedback.value, full, usable, decay=config.mean_decay
    )
    relative = scores.relative_loss(feedback.value, scores.mean_loss(mean))
    leaf = tile_number(config, draw.items)
    area = jnp.maximum(_area(config, state, leaf, 0), 1.0) / config.tile**2
    weights = pyramid_write.write(
        state.weights,
        leaf,
        relative,
        valid=usable,
        blend_fn=lambda old, new: area * scores.moving_average(old / area, new, config.decay),
    )
    return state._replace(weights=weights, mean=mean, step=state.step + 1)


def make(config: MultiScaleConfig) -> Sampler[MultiScaleState]:
    """Binds the config."""
    return bind(config, init, sample, update, probabilities)


def tile_number(config: MultiScaleConfig, pixels: PixelIndex) -> Int[Array, " n"]:
    """Numbers the finest tile of each pixel so that blocks of 16^h tiles are squares."""
    row, col = pixels.row // config.tile, pixels.col // config.tile
    number = pixels.view
    for digit in range(config.depth - 1, -1, -1):
        number = number * FAN + (row >> 2 * digit & 3) * 4 + (col >> 2 * digit & 3)
    return number


def _place(
    config: MultiScaleConfig, leaf: Int[Array, " n"]
) -> tuple[Int[Array, " n"], Int[Array, " n"], Int[Array, " n"]]:
    """Gives view, tile row and tile column of finest tiles."""
    row, col = jnp.zeros_like(leaf), jnp.zeros_like(leaf)
    for digit in range(config.depth):
        part = leaf >> 4 * digit
        row = row | (part >> 2 & 3) << 2 * digit
        col = col | (part & 3) << 2 * digit
    return leaf >> 4 * config.depth, row, col


def _box(
    config: MultiScaleConfig, leaf: Int[Array, " n"], scale: Int[Array, " n"] | int
) -> tuple[Int[Array, " n"], ...]:
    """Gives view, first row, first column, height and width of the node above a tile."""
    view, row, col = _place(config, leaf)
    side = config.tile * (1 << 2 * jnp.asarray(scale))
    top = (row * config.tile) // side * side
    left = (col * config.tile) // side * side
    height = jnp.clip(config.rows - top, 0, side)
    width = jnp.clip(config.cols - left, 0, side)
    return view, top, left, height, width


def _sample_allowed(
    config: MultiScaleConfig, key: Key[Array, ""], state: MultiScaleState, counts: WeightPyramid
) -> Draw:
    """Draws as `sample` does, among the pixels a mask allows."""
    num_words = pyramid.num_words(state.weights)
    words = jax.random.bits(
        key, (2 * num_words + config.coarsest + 4, config.batch_size), jnp.uint32
    )
    coins = (words[-2:] >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)
    leaf = pyramid.descend(state.weights, words[:num_words])
    leaf = _leaf_inside(config, counts, leaf, _scale_of(config, state, coins[0]), words[num_words:])
    anywhere = pyramid.descend(counts, words[-4 - num_words : -4])
    share = _uniform_fraction(config, state)
    is_uniform = (coins[1] < share) | (pyramid.total(state.weights) <= 0)
    leaf, probs = pyramid.read_first(
        lambda part: _probability(config, state, part), jnp.where(is_uniform, anywhere, leaf)
    )
    tiles = MaskedTiles(config.grid, state.allowed)
    items = tiles.pixel_inside(config.grid.join(*_place(config, leaf)), words[-4:-2])
    weights = corrections.importance_weights(probs, tiles.num_pixels, exponent=config.correction)
    return Draw(items=items, probs=probs, weights=weights)


def _leaf_inside(
    config: MultiScaleConfig,
    counts: WeightPyramid,
    leaf: Int[Array, " n"],
    scale: Int[Array, " n"],
    words: Array,
) -> Int[Array, " n"]:
    """Draws a finest tile below the node of a scale above each leaf, by its allowed pixels."""
    offsets = pyramid.level_offsets(*counts.leaves.shape)
    top = len(offsets) - 1
    node = leaf >> 4 * scale
    for height in range(config.coarsest, 0, -1):
        fraction = (words[height - 1] >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)
        # rows of a finer scale are not that high yet: any block will do, the result is not used
        parent = jnp.where(scale >= height, node, leaf >> 4 * height)
        if height == 1:
            below, first = counts.leaves, 0
        else:
            below, first = counts.sums, offsets[top - height + 1]
        block = pyramid.take_block(below, first // FAN + parent, FAN)
        child, _ = pyramid.choose_child(block, fraction, jnp.zeros_like(fraction))
        node = jnp.where(scale >= height, parent * FAN + child, node)
    return node


def _scale_of(
    config: MultiScaleConfig, state: MultiScaleState, coin: Float[Array, " n"]
) -> Int[Array, " n"]:
    edges = jnp.cumsum(scale_shares(config, state.step))[:-1]
    return jnp.sum((coin[None] >= edges[:, None]).astype(jnp.int32), axis=0)


def _node_sum(weights: WeightPyramid, leaf: Int[Array, " n"], scale: int) -> Float[Array, " n"]:
    """Gives the sum over the node of a scale above each leaf."""
    if scale == 0:
        return pyramid.take(weights.leaves, leaf)
    offsets = pyramid.level_offsets(*weights.leaves.shape)
    top = len(offsets) - 1
    if scale > top:
        return jnp.broadcast_to(pyramid.total(weights), leaf.shape)
    return pyramid.take(weights.sums, offsets[top - scale] + (leaf >> 4 * scale))


def _area(
    config: MultiScaleConfig, state: MultiScaleState, leaf: Int[Array, " n"], scale: int
) -> Float[Array, " n"]:
    """Gives the pixels of the node of a scale above each leaf that may be drawn."""
    if state.counts is None:
        return _box_area(config, leaf, scale)
    return _node_sum(state.counts, leaf, scale)


def _box_area(config: MultiScaleConfig, leaf: Int[Array, " n"], scale: int) -> Float[Array, " n"]:
    _, _, _, height, width = _box(config, leaf, scale)
    return height.astype(jnp.float32) * width.astype(jnp.float32)


def _pixel_inside(
    config: MultiScaleConfig, leaf: Int[Array, " n"], scale: Int[Array, " n"], words: Array
) -> PixelIndex:
    view, top, left, height, width = _box(config, leaf, scale)
    row = top + multiply_high(words[0], height.astype(jnp.uint32)).astype(jnp.int32)
    col = left + multiply_high(words[1], width.astype(jnp.uint32)).astype(jnp.int32)
    return PixelIndex(view, row, col)


def _probability(
    config: MultiScaleConfig, state: MultiScaleState, leaf: Int[Array, " n"]
) -> Float[Array, " n"]:
    """Gives the exact probability of one pixel of each finest tile."""
    root = pyramid.total(state.weights)
    share = jnp.where(root > 0, _uniform_fraction(config, state), 1.0)
    shares = scale_shares(config, state.step)
    weighted = jnp.zeros(leaf.shape, jnp.float32)
    for scale in range(config.coarsest + 1):
        weight = _node_sum(state.weights, leaf, scale)
        density = weight / jnp.maximum(_area(config, state, leaf, scale), 1.0)
        weighted = weighted + shares[scale] * density
    weighted = weighted / jnp.where(root > 0, root, 1.0)
    num_pixels = MaskedTiles(config.grid, state.allowed).num_pixels
    return (1.0 - share) * weighted + share / num_pixels


def _uniform_fraction(config: MultiScaleConfig, state: MultiScaleState) -> Float[Array, ""]:
    return schedules.uniform_fraction(
        state.step, floor=config.uniform_fraction, warmup_steps=config.warmup_steps
    )
