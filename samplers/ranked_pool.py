"""`top_k` and `curriculum`: only the hardest, or only the easiest, share of the tiles. Biased.

Tiles are ranked by their recent loss every `rank_frequency` steps; draws are uniform over the
pixels of the pool, with a share λ from everywhere so that scores outside it stay alive. Weights
are (1 / (N q))^correction with correction 0 by default: the preference is the point.

`top_k` keeps the pool's share fixed; it finds hard regions fast and forgets the rest, so use it
with a floor or inside `mixed`. `curriculum` lets the share of the easiest grow from
`first_fraction` to all, as the square root of progress.

Source: online hard example mining (Shrivastava et al. 2016); competence-based curriculum
(Platanios et al. 2019).
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from . import corrections, masked_tiles, pyramid, pyramid_write, schedules, scores
from .base import Draw, Feedback, Sampler, bind, check_at_least, check_fraction, usable_rows
from .masked_tiles import AllowedPixels, MaskedTiles
from .pyramid import WeightPyramid
from .scores import MeanLoss
from .tiles import TileGrid


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankedPoolConfig:
    """Settings of `top_k` and `curriculum`.

    Attributes:
      num_views: images.
      rows: their height in pixels.
      cols: their width.
      batch_size: pixels per draw.
      tile: side of a tile in pixels.
      is_hardest: the pool is the hardest share; False: the easiest.
      first_fraction: share of the tiles in the pool at the start.
      last_fraction: the same at the end.
      grow_steps: steps from first to last, as the square root of progress.
      rank_frequency: steps between rankings.
      decay: how much of a tile's old score survives a visit.
      uniform_fraction: λ, the share of uniform draws; in [0, 1].
      correction: exponent of the weights; 0 keeps the preference, 1 undoes it (needs λ > 0).
      warmup_steps: steps drawn uniformly before the first ranking.
      mean_decay: decay of the running mean loss that scores are relative to.
    """

    num_views: int
    rows: int
    cols: int
    batch_size: int
    tile: int = 8
    is_hardest: bool = True
    first_fraction: float = 0.1
    last_fraction: float = 0.1
    grow_steps: int = 1000
    rank_frequency: int = 100
    decay: float = 0.7
    uniform_fraction: float = 0.1
    correction: float = 0.0
    warmup_steps: int = 100
    mean_decay: float = 0.9

    def __post_init__(self) -> None:
        check_at_least("num_tiles", self.grid.num_tiles, 1)
        check_at_least("batch_size", self.batch_size, 1)
        for name in ("first_fraction", "last_fraction"):
            check_fraction(name, getattr(self, name), is_open_at_zero=True)
        for name in ("decay", "uniform_fraction", "correction", "mean_decay"):
            check_fraction(name, getattr(self, name))
        for name in ("grow_steps", "rank_frequency"):
            check_at_least(name, getattr(self, name), 1)
        check_at_least("warmup_steps", self.warmup_steps, 0)
        if self.correction > 0 and self.uniform_fraction == 0:
            raise ValueError("a correction needs uniform_fraction above 0, got 0")

    @property
    def grid(self) -> TileGrid:
        """The tiles."""
        return TileGrid(num_views=self.num_views, rows=self.rows, cols=self.cols, tile=self.tile)


class RankedPoolState(NamedTuple):
    """What the pool samplers remember.

    Attributes:
      scores: relative loss per tile.
      pool: pixels of each tile in the pool, 0 for the others, with the sums above.
      mean: running mean loss over all pixels.
      step: updates seen.
      allowed: what a mask allows; None: every pixel.
    """

    scores: WeightPyramid
    pool: WeightPyramid
    mean: MeanLoss
    step: Int[Array, ""]
    allowed: AllowedPixels | None = None


def init(
    config: RankedPoolConfig, key: Key[Array, ""], *, mask: Bool[Array, "..."] | None = None
) -> RankedPoolState:
    """Starts with all tiles average and in the pool.

    Args:
      mask: False marks pixels that are never drawn.
    Raises:
      ValueError: for a mask of another size or one that forbids everything.
    """
    del key
    tiles = MaskedTiles(config.grid, masked_tiles.allow(config.grid, mask))
    areas = tiles.areas()
    start = jnp.ones_like(areas) if mask is None else (areas > 0).astype(jnp.float32)
    return RankedPoolState(
        scores=pyramid.build(start),
        pool=pyramid.build(areas),
        mean=scores.init_mean_loss(),
        step=jnp.zeros((), jnp.int32),
        allowed=tiles.allowed,
    )


def probabilities(
    config: RankedPoolConfig, state: RankedPoolState
) -> Float[Array, "views rows cols"]:
    """Gives the exact probability of every pixel, in O(N); 0 outside the pool when λ = 0."""
    index = jnp.arange(config.grid.num_tiles, dtype=jnp.int32)
    return _tiles(config, state).to_pixels(_pixel_probability(config, state, index))


def sample(config: RankedPoolConfig, key: Key[Array, ""], state: RankedPoolState) -> Draw:
    """Draws pixels uniformly from the pool, or from everywhere with probability λ."""
    tiles = _tiles(config, state)
    num_words = pyramid.num_words(state.pool)
    words = jax.random.bits(key, (num_words + 6, config.batch_size), jnp.uint32)
    anywhere = tiles.any_tile(words[:num_words], words[num_words : num_words + 3])
    branch = (words[-1] >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)
    is_uniform = branch < _uniform_fraction(config, state)
    tile = jnp.where(is_uniform, anywhere, pyramid.descend(state.pool, words[:num_words]))
    tile, probs = pyramid.read_first(lambda part: _pixel_probability(config, state, part), tile)
    items = tiles.pixel_inside(tile, words[num_words + 3 : num_words + 5])
    weights = corrections.importance_weights(probs, tiles.num_pixels, exponent=config.correction)
    return Draw(items=items, probs=probs, weights=weights)


def update(
    config: RankedPoolConfig, state: RankedPoolState, draw: Draw, feedback: Feedback
) -> RankedPoolState:
    """Moves the scores of the drawn tiles, and ranks all tiles when that is due."""
    tiles = _tiles(config, state)
    usable = usable_rows(feedback)
    full = corrections.importance_weights(draw.probs, tiles.num_pixels)
    mean = scores.update_mean_loss(
        state.mean, feedback.value, full, usable, decay=config.mean_decay
    )
    relative = scores.relative_loss(feedback.value, scores.mean_loss(mean))
    written = pyramid_write.write(
        state.scores,
        tiles.grid.tile_of(draw.items),
        relative,
        valid=usable,
        blend_fn=lambda old, new: scores.moving_average(old, new, config.decay),
    )
    step = state.step + 1
    is_due = (step >= config.warmup_steps) & (
        (step - config.warmup_steps) % config.rank_frequency == 0
    )
    pool = jax.lax.cond(
        is_due,
        lambda: rank_tiles(
            tiles, written, pool_fraction(config, step), is_hardest=config.is_hardest
        ),
        lambda: state.pool,
    )
    return RankedPoolState(written, pool, mean, step, state.allowed)


def make(config: RankedPoolConfig) -> Sampler[RankedPoolState]:
    """Binds the config."""
    return bind(config, init, sample, update, probabilities)


def pool_fraction(config: RankedPoolConfig, step: Int[Array, ""]) -> Float[Array, ""]:
    """Gives the share of the tiles in the pool at a step."""
    progress = jnp.sqrt(schedules.ramp(step, start=config.warmup_steps, length=config.grow_steps))
    return config.first_fraction + (config.last_fraction - config.first_fraction) * progress


def rank_tiles(
    tiles: MaskedTiles,
    score_pyramid: WeightPyramid,
    fraction: float | Float[Array, ""],
    *,
    is_hardest: bool,
) -> WeightPyramid:
    """Puts the hardest or easiest share of the tiles into a pool, weighted by area; O(N log N).

    All tiles as hard as the last one taken are in, so tiles that are all alike are all in. Tiles
    without a pixel to draw are not counted and never in.
    """
    num_tiles, areas = tiles.grid.num_tiles, tiles.areas()
    score = pyramid.leaf_weights(score_pyramid, num_tiles)
    rank = -score if is_hardest else score
    count: int | Float[Array, ""] = num_tiles
    if tiles.allowed is not None:
        rank = jnp.where(areas > 0, rank, jnp.inf)
        count = jnp.sum(areas > 0).astype(jnp.float32)
    size = jnp.maximum(jnp.ceil(fraction * count), 1.0).astype(jnp.int32)
    is_in = rank <= jnp.sort(rank)[size - 1]
    fan = score_pyramid.leaves.shape[1]
    return pyramid.build(jnp.where(is_in, areas, 0.0), fan_out=fan)


def _tiles(config: RankedPoolConfig, state: RankedPoolState) -> MaskedTiles:
    return MaskedTiles(config.grid, state.allowed)


def _uniform_fraction(config: RankedPoolConfig, state: RankedPoolState) -> Float[Array, ""]:
    return schedules.uniform_fraction(
        state.step, floor=config.uniform_fraction, warmup_steps=config.warmup_steps
    )


def _pixel_probability(
    config: RankedPoolConfig, state: RankedPoolState, tile: Int[Array, " n"]
) -> Float[Array, " n"]:
    tiles, share = _tiles(config, state), _uniform_fraction(config, state)
    pooled = tiles.per_pixel(pyramid.probability(state.pool, tile), tile)
    return (1.0 - share) * pooled + share / tiles.num_pixels
