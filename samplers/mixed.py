"""`mixed`: error-weighted, top-k and uniform draws, with shares that adapt to training. Unbiased.

    q = α_1 W_tile / ΣW / area + α_2 [tile in pool] / Σ pool + α_3 / N

The shares follow the rule for mixtures that lower the variance of the estimate: each component's
share moves towards the part of Σ (loss * weight)^2 it is responsible for,

    α_d <- (1 - η) α_d + η Σ ω ρ_d / Σ ω,   ω = (loss / (N q))^2,   ρ_d = α_d q_d / q.

So while errors are spread out the uniform part grows, and it shrinks when they concentrate; there
is no schedule to tune. Every share keeps a minimum, which also bounds the weights.

Source: Douc, Guillin, Marin & Robert 2007 (minimum variance importance sampling via population
Monte Carlo); the components are those of the error-driven ray samplers.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from . import corrections, masked_tiles, pyramid, pyramid_write, scores
from .base import Draw, Feedback, Sampler, bind, check_at_least, check_fraction, usable_rows
from .masked_tiles import AllowedPixels, MaskedTiles
from .pyramid import WeightPyramid
from .ranked_pool import rank_tiles
from .scores import MeanLoss
from .tiles import TileGrid


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixedConfig:
    """Settings of `mixed`.

    Attributes:
      num_views: images.
      rows: their height in pixels.
      cols: their width.
      batch_size: pixels per draw.
      tile: side of a tile in pixels.
      min_share: what every component keeps; at most 1/3.
      adapt_rate: η, how fast the shares move.
      pool_fraction: share of the tiles in the top-k pool.
      rank_frequency: steps between rankings of the pool.
      decay: how much of a tile's old score survives a visit.
      correction: exponent of the weights; 1 is unbiased.
      warmup_steps: steps drawn uniformly while scores are collected.
      mean_decay: decay of the running mean loss that scores are relative to.
    """

    num_views: int
    rows: int
    cols: int
    batch_size: int
    tile: int = 8
    min_share: float = 0.1
    adapt_rate: float = 0.02
    pool_fraction: float = 0.1
    rank_frequency: int = 100
    decay: float = 0.7
    correction: float = 1.0
    warmup_steps: int = 100
    mean_decay: float = 0.9

    def __post_init__(self) -> None:
        check_at_least("num_tiles", self.grid.num_tiles, 1)
        check_at_least("batch_size", self.batch_size, 1)
        if not 0 < self.min_share <= 1 / 3:
            raise ValueError(f"min_share must be in (0, 1/3], got {self.min_share}")
        check_fraction("pool_fraction", self.pool_fraction, is_open_at_zero=True)
        for name in ("adapt_rate", "decay", "correction", "mean_decay"):
            check_fraction(name, getattr(self, name))
        check_at_least("rank_frequency", self.rank_frequency, 1)
        check_at_least("warmup_steps", self.warmup_steps, 0)

    @property
    def grid(self) -> TileGrid:
        """The tiles."""
        return TileGrid(num_views=self.num_views, rows=self.rows, cols=self.cols, tile=self.tile)


class MixedState(NamedTuple):
    """What `mixed` remembers.

    Attributes:
      weights: area * score per tile, with the sums above.
      pool: area of the tiles in the pool.
      shares: of error-weighted, top-k and uniform draws, before the minimum is applied.
      mean: running mean loss over all pixels.
      step: updates seen.
      allowed: what a mask allows; None: every pixel.
    """

    weights: WeightPyramid
    pool: WeightPyramid
    shares: Float[Array, "3"]
    mean: MeanLoss
    step: Int[Array, ""]
    allowed: AllowedPixels | None = None


def init(
    config: MixedConfig, key: Key[Array, ""], *, mask: Bool[Array, "..."] | None = None
) -> MixedState:
    """Starts with equal shares and every tile average and in the pool.

    Args:
      mask: False marks pixels that are never drawn.
    Raises:
      ValueError: for a mask of another size or one that forbids everything.
    """
    del key
    tiles = MaskedTiles(config.grid, masked_tiles.allow(config.grid, mask))
    areas = tiles.areas()
    return MixedState(
        weights=pyramid.build(areas / config.tile**2),
        pool=pyramid.build(areas),
        shares=jnp.full(3, 1.0 / 3.0, jnp.float32),
        mean=scores.init_mean_loss(),
        step=jnp.zeros((), jnp.int32),
        allowed=tiles.allowed,
    )


def shares(config: MixedConfig, state: MixedState) -> Float[Array, "3"]:
    """Gives the shares in force: error-weighted, top-k, uniform; all uniform in the warm-up."""
    low = config.min_share
    mixed = low + (1.0 - 3.0 * low) * state.shares
    usable = (state.step >= config.warmup_steps) & (pyramid.total(state.weights) > 0)
    return jnp.where(usable, mixed, jnp.array([0.0, 0.0, 1.0]))


def probabilities(config: MixedConfig, state: MixedState) -> Float[Array, "views rows cols"]:
    """Gives the exact probability of every pixel, in O(N)."""
    index = jnp.arange(config.grid.num_tiles, dtype=jnp.int32)
    return _tiles(config, state).to_pixels(jnp.sum(_components(config, state, index), axis=0))


def sample(config: MixedConfig, key: Key[Array, ""], state: MixedState) -> Draw:
    """Draws each pixel from one component at random."""
    tiles = _tiles(config, state)
    num_words = pyramid.num_words(state.weights)
    words = jax.random.bits(key, (num_words + 6, config.batch_size), jnp.uint32)
    in_force = shares(config, state)
    branch = (words[-1] >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)
    weighted = pyramid.descend(state.weights, words[:num_words])
    pooled = pyramid.descend(state.pool, words[:num_words])
    anywhere = tiles.any_tile(words[:num_words], words[num_words : num_words + 3])
    tile = jnp.where(branch < in_force[0], weighted, pooled)
    tile = jnp.where(branch >= in_force[0] + in_force[1], anywhere, tile)
    tile, probs = pyramid.read_first(
        lambda part: jnp.sum(_components(config, state, part), axis=0), tile
    )
    items = tiles.pixel_inside(tile, words[num_words + 3 : num_words + 5])
    weights = corrections.importance_weights(probs, tiles.num_pixels, exponent=config.correction)
    return Draw(items=items, probs=probs, weights=weights)


def update(config: MixedConfig, state: MixedState, draw: Draw, feedback: Feedback) -> MixedState:
    """Moves tile scores and shares, and ranks the pool anew when that is due."""
    tiles = _tiles(config, state)
    usable = usable_rows(feedback)
    full = corrections.importance_weights(draw.probs, tiles.num_pixels)
    mean = scores.update_mean_loss(
        state.mean, feedback.value, full, usable, decay=config.mean_decay
    )
    relative = scores.relative_loss(feedback.value, scores.mean_loss(mean))
    tile = tiles.grid.tile_of(draw.items)
    tile, _ = pyramid.read_first(lambda part: jnp.zeros(part.shape, jnp.float32), tile)
    parts = _components(config, state, tile)
    responsible = parts / jnp.maximum(jnp.sum(parts, axis=0, keepdims=True), 1e-37)
    importance = jnp.where(usable, jnp.minimum(relative * full, 1e6) ** 2, 0.0)
    wanted = jnp.sum(responsible * importance[None], axis=1)
    amount = jnp.sum(wanted)
    is_adapting = (amount > 0) & (state.step >= config.warmup_steps)
    rate = jnp.where(is_adapting, config.adapt_rate, 0.0)
    new_shares = (1.0 - rate) * state.shares + rate * wanted / jnp.maximum(amount, 1e-37)
    area = jnp.maximum(tiles.area(tile), 1.0) / config.tile**2
    written = pyramid_write.write(
        state.weights,
        tile,
        relative,
        valid=usable,
        blend_fn=lambda old, new: area * scores.moving_average(old / area, new, config.decay),
    )
    step = state.step + 1
    is_due = (step >= config.warmup_steps) & (
        (step - config.warmup_steps) % config.rank_frequency == 0
    )
    pool = jax.lax.cond(
        is_due,
        lambda: rank_tiles(
            tiles, _per_pixel(tiles, written), config.pool_fraction, is_hardest=True
        ),
        lambda: state.pool,
    )
    return MixedState(written, pool, new_shares / jnp.sum(new_shares), mean, step, state.allowed)


def make(config: MixedConfig) -> Sampler[MixedState]:
    """Binds the config."""
    return bind(config, init, sample, update, probabilities)


def _tiles(config: MixedConfig, state: MixedState) -> MaskedTiles:
    return MaskedTiles(config.grid, state.allowed)


def _components(
    config: MixedConfig, state: MixedState, tile: Int[Array, " n"]
) -> Float[Array, "3 n"]:
    """Gives α_d q_d of one pixel of each tile."""
    tiles, in_force = _tiles(config, state), shares(config, state)
    return jnp.stack(
        [
            in_force[0] * tiles.per_pixel(pyramid.probability(state.weights, tile), tile),
            in_force[1] * tiles.per_pixel(pyramid.probability(state.pool, tile), tile),
            jnp.broadcast_to(in_force[2] / tiles.num_pixels, tile.shape),
        ]
    )


def _per_pixel(tiles: MaskedTiles, weights: WeightPyramid) -> WeightPyramid:
    """Divides weights by area, so that small border tiles rank by their score."""
    index = jnp.arange(weights.leaves.size, dtype=jnp.int32)
    area = jnp.maximum(tiles.area(jnp.minimum(index, tiles.grid.num_tiles - 1)), 1.0)
    return weights._replace(leaves=weights.leaves / area.reshape(weights.leaves.shape))
