"""`spatial`: image tiles in proportion to their recent loss, pixels at random inside. Unbiased.

Remembers one relative loss per tile (see `scores`). The probability of a pixel is exact,

    q = (1 - λ - μ) W_tile / ΣW / area + μ prior_tile / area + λ / N,   W = area * score^focus,

so weights (1 / (N q))^correction are at most λ^-correction.

With a mask, area and N count the pixels it allows and the others are never drawn.

Options:
* `smoothing` spreads a tile's weight to its 8 neighbours (binomial kernel, mirrored at borders and
  kept where a neighbour has no pixel to draw);
* `patch` returns whole tiles as patches of tile x tile pixels, for losses that need neighbours; a
  mask then leaves the tiles it allows as a whole;
* `prior` adds a fixed share μ from the images: "edges", or "change" from frame to frame;
* `forget_steps` lets scores drift back to average where nothing has been drawn for long.

Wins where errors cluster in the image and pixels outnumber visits, which is nearly always; loses
to `error_weighted` where single pixels differ and each is visited often.

Source: error maps as in instant-ngp and torch-ngp, with exact densities, floor and weights.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from . import corrections, masked_tiles, priors, pyramid, pyramid_write, schedules, scores
from .base import Draw, Feedback, Sampler, bind, check_at_least, check_fraction, usable_rows
from .masked_tiles import AllowedPixels, MaskedTiles
from .pixels import PixelIndex
from .pyramid import WeightPyramid
from .scores import MeanLoss
from .tiles import TileGrid

PRIORS = ("none", "edges", "change")
_LEAST_SCORE = 1e-6
"""Of a tile without loss; with a weight of 0 it would look forbidden, and stay so for ever."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpatialConfig:
    """Settings of `spatial`.

    Attributes:
      num_views: images.
      rows: their height in pixels.
      cols: their width.
      batch_size: pixels per draw.
      tile: side of a tile in pixels.
      decay: how much of a tile's old score survives a visit.
      focus: exponent of the score.
      uniform_fraction: λ, the share of uniform draws; in (0, 1].
      correction: exponent of the weights; 1 is unbiased.
      warmup_steps: steps drawn uniformly while scores are collected.
      ramp_steps: steps over which the uniform fraction then falls to λ.
      handback_from: share of the run after which sampling returns to uniform, once `plan` has said
        how long the run is; None: never.
      handback_over: share of the run that the return takes.
      update_frequency: scores are written every so many steps.
      mean_decay: decay of the running mean loss that scores are relative to.
      smoothing: spread weights to neighbouring tiles.
      patch: return whole tiles; batch_size and image sides must then be multiples.
      prior: "none", "edges" or "change"; others than "none" need images at `init`.
      prior_fraction: μ, the share drawn from the prior; λ + μ is at most 1.
      forget_steps: steps after which a deviation from average has shrunk to 1/e; None: never.
      draw_method: "multinomial", "stratified" or "systematic", see `pyramid.draw`.
    """

    num_views: int
    rows: int
    cols: int
    batch_size: int
    tile: int = 8
    decay: float = 0.7
    focus: float = 1.0
    uniform_fraction: float = 0.25
    correction: float = 1.0
    warmup_steps: int = 100
    ramp_steps: int = 0
    handback_from: float | None = None
    handback_over: float = 0.15
    update_frequency: int = 1
    mean_decay: float = 0.9
    smoothing: bool = False
    patch: bool = False
    prior: str = "none"
    prior_fraction: float = 0.0
    forget_steps: int | None = None
    draw_method: str = "multinomial"

    def __post_init__(self) -> None:
        grid = self.grid
        check_at_least("batch_size", self.batch_size, 1)
        check_fraction("decay", self.decay)
        check_fraction("mean_decay", self.mean_decay)
        check_fraction("uniform_fraction", self.uniform_fraction, is_open_at_zero=True)
        check_fraction("prior_fraction", self.prior_fraction)
        check_fraction(
            "uniform_fraction + prior_fraction", self.uniform_fraction + self.prior_fraction
        )
        check_fraction("correction", self.correction)
        for name in ("focus", "warmup_steps", "ramp_steps"):
            check_at_least(name, getattr(self, name), 0)
        schedules.check_handback(self.handback_from, self.handback_over)
        check_at_least("update_frequency", self.update_frequency, 1)
        if self.prior not in PRIORS or (self.prior == "none") != (self.prior_fraction == 0):
            raise ValueError(
                f"prior must be one of {PRIORS}, with a prior_fraction above 0 unless none; "
                f"got {self.prior!r} with {self.prior_fraction}"
            )
        if self.forget_steps is not None:
            check_at_least("forget_steps", self.forget_steps, 1)
        if self.draw_method not in ("multinomial", "stratified", "systematic"):
            raise ValueError(f"draw_method is none of those known: {self.draw_method!r}")
        if self.patch and (
            self.rows % grid.tile or self.cols % grid.tile or self.batch_size % grid.tile**2
        ):
            raise ValueError(
                f"patches of {grid.tile} x {grid.tile} need rows and cols divisible by {grid.tile} "
                f"and batch_size by {grid.tile**2}, got {self.rows} x {self.cols} and "
                f"{self.batch_size}"
            )

    @property
    def grid(self) -> TileGrid:
        """The tiles."""
        return TileGrid(num_views=self.num_views, rows=self.rows, cols=self.cols, tile=self.tile)


class SpatialState(NamedTuple):
    """What `spatial` remembers.

    Attributes:
      weights: per tile area * score^focus, area as a share of a full tile, with the sums above.
      prior: fixed weights per tile, or None; the area where the images show nothing.
      mean: running mean loss over all pixels.
      step: updates seen.
      position: where the forgetting sweep goes on.
      run_length: steps of the run; infinite until `plan` says.
      allowed: what a mask allows; None: every pixel.
    """

    weights: WeightPyramid
    prior: WeightPyramid | None
    mean: MeanLoss
    step: Int[Array, ""]
    position: Int[Array, ""]
    run_length: Float[Array, ""]
    allowed: AllowedPixels | None = None


def init(
    config: SpatialConfig,
    key: Key[Array, ""],
    images: UInt8[Array, "views rows cols channels"] | None = None,
    *,
    mask: Bool[Array, "..."] | None = None,
) -> SpatialState:
    """Starts with every tile counting as average.

    Args:
      images: needed for a prior only.
      mask: False marks pixels that are never drawn.
    Raises:
      ValueError: when a prior is asked for without images, these or the mask have another size, or
        the mask forbids everything (with patches: leaves no whole tile).
    """
    del key
    allow = masked_tiles.allow_whole if config.patch else masked_tiles.allow
    tiles = MaskedTiles(config.grid, allow(config.grid, mask))
    grid = tiles.grid
    prior = None
    if config.prior != "none":
        expected = (config.num_views, config.rows, config.cols)
        if images is None or images.shape[:3] != expected:
            got = None if images is None else images.shape
            raise ValueError(f"prior {config.prior!r} needs images {expected}, got {got}")
        strength_fn = {"edges": priors.edge_strength, "change": priors.frame_change}[config.prior]
        strength = strength_fn(images)
        if mask is not None:
            strength = jnp.where(mask.reshape(strength.shape), strength, 0.0)
        per_tile = grid.mean_inside(strength).reshape(-1) * grid.areas()
        per_tile = jnp.where(tiles.areas() > 0, per_tile, 0.0)  # patches leave partial tiles out
        prior = pyramid.build(jnp.where(jnp.any(per_tile > 0), per_tile, tiles.areas()))
    return SpatialState(
        weights=pyramid.build(tiles.areas() / float(grid.tile**2)),
        prior=prior,
        mean=scores.init_mean_loss(),
        step=jnp.zeros((), jnp.int32),
        position=jnp.zeros((), jnp.int32),
        run_length=jnp.full((), jnp.inf, jnp.float32),
        allowed=tiles.allowed,
    )


def probabilities(config: SpatialConfig, state: SpatialState) -> Float[Array, "views rows cols"]:
    """Gives the exact probability of every pixel, in O(N)."""
    index = jnp.arange(config.grid.num_tiles, dtype=jnp.int32)
    return _tiles(config, state).to_pixels(_pixel_probability(config, state, index))


def sample(config: SpatialConfig, key: Key[Array, ""], state: SpatialState) -> Draw:
    """Draws tiles from the mixture, and pixels uniformly inside (or whole tiles as patches).

    Patches come one after the other, each row by row: reshape to [-1, tile, tile].
    """
    tiles = _tiles(config, state)
    grid = tiles.grid
    num_draws = config.batch_size // grid.tile**2 if config.patch else config.batch_size
    words_needed = pyramid.num_words(state.weights)
    words = jax.random.bits(key, (words_needed + 9, num_draws), jnp.uint32)
    descent, other = words[:words_needed], words[words_needed:]
    tile = pyramid.descend(
        state.weights,
        descent.at[0].set(pyramid.spread_words(descent[0], config.draw_method)),
    )
    if config.smoothing:
        tile = _step_aside(tiles, tile, other[0])
    anywhere = tiles.any_tile(descent, other[1:4])
    branch = (other[4] >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)
    share = _uniform_fraction(config, state)
    is_uniform = (branch < share) | (pyramid.total(state.weights) <= 0)
    if state.prior is not None:
        is_prior = branch >= 1.0 - (1.0 - share) * _prior_share(config)
        tile = jnp.where(is_prior, pyramid.descend(state.prior, descent), tile)
    tile = jnp.where(is_uniform, anywhere, tile)
    tile, probs = pyramid.read_first(lambda part: _pixel_probability(config, state, part), tile)
    if config.patch:
        items, probs = _whole_tiles(grid, tile), jnp.repeat(probs, grid.tile**2)
    else:
        items = tiles.pixel_inside(tile, other[5:7])
    weights = corrections.importance_weights(probs, tiles.num_pixels, exponent=config.correction)
    return Draw(items=items, probs=probs, weights=weights)


def update(
    config: SpatialConfig, state: SpatialState, draw: Draw, feedback: Feedback
) -> SpatialState:
    """Moves the scores of the drawn tiles towards their new relative loss.

    Rows of one tile are averaged first. Rows that are invalid, non-finite or negative are ignored.
    """
    tiles = _tiles(config, state)
    usable = usable_rows(feedback)
    full = corrections.importance_weights(draw.probs, tiles.num_pixels)
    mean = scores.update_mean_loss(
        state.mean, feedback.value, full, usable, decay=config.mean_decay
    )
    relative = scores.relative_loss(feedback.value, scores.mean_loss(mean))
    tile = tiles.grid.tile_of(draw.items)
    area = _area_share(tiles, tile)

    def blend(old: Float[Array, " n"], new: Float[Array, " n"]) -> Float[Array, " n"]:
        score = scores.power_inverse(old / area, config.focus)
        score = scores.moving_average(score, new, config.decay)
        return area * jnp.maximum(score, _LEAST_SCORE) ** config.focus

    weights, position = state.weights, state.position
    if config.focus > 0:
        weights = pyramid_write.write(
            weights,
            tile,
            relative,
            valid=usable & scores.is_due(state.step, config.update_frequency),
            blend_fn=blend,
        )
    if config.forget_steps is not None:
        weights, position = _forget(config, tiles, weights, position)
    return state._replace(weights=weights, mean=mean, step=state.step + 1, position=position)


def make(config: SpatialConfig) -> Sampler[SpatialState]:
    """Binds the config."""
    return bind(config, init, sample, update, probabilities, plan=schedules.set_run_length)


def tile_scores(
    config: SpatialConfig, state: SpatialState
) -> Float[Array, "views tile_rows tile_cols"]:
    """Gives the error map: the relative loss of every tile, 1 is average."""
    grid = config.grid
    index = jnp.arange(grid.num_tiles, dtype=jnp.int32)
    area = _area_share(_tiles(config, state), index)
    raw = pyramid.leaf_weights(state.weights, grid.num_tiles) / area
    return grid.as_map(scores.power_inverse(raw, config.focus))


def _tiles(config: SpatialConfig, state: SpatialState) -> MaskedTiles:
    return MaskedTiles(config.grid, state.allowed)


def _uniform_fraction(config: SpatialConfig, state: SpatialState) -> Float[Array, ""]:
    return schedules.uniform_fraction(
        state.step,
        floor=config.uniform_fraction,
        warmup_steps=config.warmup_steps,
        ramp_steps=config.ramp_steps,
        handback_from=config.handback_from,
        handback_over=config.handback_over,
        run_length=state.run_length,
    )


def _prior_share(config: SpatialConfig) -> float:
    """The prior's part of what is not uniform; it warms up and is handed back with the rest."""
    return config.prior_fraction / max(1.0 - config.uniform_fraction, 1e-9)


def _pixel_probability(
    config: SpatialConfig, state: SpatialState, tile: Int[Array, " n"]
) -> Float[Array, " n"]:
    tiles = _tiles(config, state)
    share = jnp.where(pyramid.total(state.weights) > 0, _uniform_fraction(config, state), 1.0)
    if config.smoothing:
        weighted = _smoothed_probability(tiles, state.weights, tile)
    else:
        weighted = pyramid.probability(state.weights, tile)
    if state.prior is not None:
        part = _prior_share(config)
        weighted = (1.0 - part) * weighted + part * pyramid.probability(state.prior, tile)
    return (1.0 - share) * tiles.per_pixel(weighted, tile) + share / tiles.num_pixels


def _area_share(tiles: MaskedTiles, tile: Int[Array, "*n"]) -> Float[Array, "*n"]:
    """Gives the pixels of tiles as a share of a full one; a tile without any counts as having 1."""
    area = tiles.area(tile)
    if tiles.allowed is not None:
        area = jnp.maximum(area, 1.0)
    return area / float(tiles.grid.tile**2)


def _step_aside(
    tiles: MaskedTiles, tile: Int[Array, " n"], word: Int[Array, " n"] | Array
) -> Int[Array, " n"]:
    """Moves by -1, 0 or 1 tiles each way with probability 1/4, 1/2, 1/4, mirrored at borders."""
    grid = tiles.grid
    view, row, col = grid.split(tile)
    coins = [((word >> bit) & 1).astype(jnp.int32) for bit in range(4)]
    row = _mirror(row + coins[0] - coins[1], grid.tile_rows)
    col = _mirror(col + coins[2] - coins[3], grid.tile_cols)
    aside = grid.join(view, row, col)
    return aside if tiles.allowed is None else jnp.where(tiles.area(aside) > 0, aside, tile)


def _smoothed_probability(
    tiles: MaskedTiles, weights: WeightPyramid, tile: Int[Array, " n"]
) -> Float[Array, " n"]:
    grid = tiles.grid
    own = pyramid.probability(weights, tile)
    view, row, col = grid.split(tile)
    total = jnp.zeros(tile.shape, jnp.float32)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            near = grid.join(
                view, _mirror(row + down, grid.tile_rows), _mirror(col + right, grid.tile_cols)
            )
            kernel = 0.25 * 0.25 * (2 - abs(down)) * (2 - abs(right))
            part = pyramid.probability(weights, near)
            if tiles.allowed is not None:
                part = jnp.where(tiles.area(near) > 0, part, own)
            total = total + kernel * part
    return total


def _mirror(place: Int[Array, " n"], size: int) -> Int[Array, " n"]:
    return jnp.clip(place, 0, size - 1)


def _whole_tiles(grid: TileGrid, tile: Int[Array, " draws"]) -> PixelIndex:
    view, row, col = grid.split(tile)
    inside = jnp.arange(grid.tile**2, dtype=jnp.int32)[None]
    return PixelIndex(
        view=jnp.repeat(view, grid.tile**2),
        row=(row[:, None] * grid.tile + inside // grid.tile).reshape(-1),
        col=(col[:, None] * grid.tile + inside % grid.tile).reshape(-1),
    )


def _forget(
    config: SpatialConfig, tiles: MaskedTiles, weights: WeightPyramid, position: Int[Array, ""]
) -> tuple[WeightPyramid, Int[Array, ""]]:
    grid, blocks = config.grid, weights.leaves.shape
    per_call = -(-config.batch_size // blocks[1])
    assert config.forget_steps is not None
    keep = math.exp(-math.ceil(blocks[0] / per_call) / config.forget_steps)

    def revert(old: Float[Array, "..."], tile: Int[Array, "..."]) -> Float[Array, "..."]:
        area = _area_share(tiles, jnp.minimum(tile, grid.num_tiles - 1))
        score = scores.power_inverse(old / area, config.focus)
        return area * scores.revert_to_average(score, keep) ** config.focus

    return pyramid_write.sweep(weights, position, per_call, revert)
