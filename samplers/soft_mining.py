"""`soft_mining`: pixels that walk through the images by Langevin dynamics. Biased.

Each slot of the batch holds a continuous place and moves every step along the gradient of the log
loss plus noise, so that slots gather where the loss is high:

    x <- x + a ∇ log loss + b ξ,   ξ ~ N(0, I).

Its stationary density is loss^κ with κ = 2 a / b^2, known only up to a constant, so probabilities
are relative and weights self-normalised.

Presets:
* `soft_mining_released` reproduces the published program: a and b independent (κ about 0.03 at its
  settings), slots bound to one image for ever, uniform places always in the last slots, respawn on
  edges.
* `soft_mining` ties a = κ b^2 / 2 in pixel units, reflects at the borders, draws its uniform slots
  at random, and lets respawned slots change image.

With a mask, a slot that comes to a forbidden pixel starts afresh at an allowed one, all equally
likely.

It needs the derivative of the loss with respect to the pixel's place (`Feedback.grad`, per uv),
which costs a backward pass through the camera; `spatial` reaches the same aim without one.

Source: Kheradmand et al. 2024 (Accelerating Neural Field Training via Soft Mining).
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from . import corrections, masked_tiles, priors, pyramid
from .base import (
    Draw,
    Feedback,
    Sampler,
    bind,
    check_at_least,
    check_fraction,
    check_mask,
    usable_rows,
)
from .masked_tiles import AllowedPixels, MaskedTiles
from .pixels import PixelCoord, pixel_centres, pixel_indices
from .tiles import TileGrid


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoftMiningConfig:
    """Settings of `soft_mining`.

    Attributes:
      num_views: images.
      rows: their height in pixels.
      cols: their width.
      batch_size: slots.
      is_released: follow the published program, see the module.
      concentration: κ, the exponent of the stationary density (corrected only).
      noise_pixels: b in pixels (corrected only).
      step_size: a as published; divided by batch and image size there (released only).
      noise_scale: b as a share of the image (released only).
      restart_fraction: share of the slots with the lowest losses that respawn each step.
      uniform_fraction: share of the slots that get a uniform place each step.
      softness: exponent of the correction; 0 corrects nothing, 1 the most. Published: 0.6 for
        synthetic scenes, 0.8 for photographed ones that face forward.
      softness_steps: steps over which the exponent would rise from 0 to 1; it stops at softness.
      edge_tile: side of the tiles that respawning on edges is resolved to.
    """

    num_views: int
    rows: int
    cols: int
    batch_size: int
    is_released: bool = False
    concentration: float = 1.0
    noise_pixels: float = 8.0
    step_size: float = 20.0
    noise_scale: float = 0.02
    restart_fraction: float = 0.1
    uniform_fraction: float = 0.1
    softness: float = 0.6
    softness_steps: int = 1000
    edge_tile: int = 4

    def __post_init__(self) -> None:
        check_at_least("num_tiles", self.grid.num_tiles, 1)
        check_at_least("batch_size", self.batch_size, 1)
        for name in ("concentration", "noise_pixels", "step_size", "noise_scale"):
            check_at_least(name, getattr(self, name), 0)
        for name in ("restart_fraction", "uniform_fraction", "softness"):
            check_fraction(name, getattr(self, name))
        check_at_least("softness_steps", self.softness_steps, 0)
        if self.is_released and self.batch_size < self.num_views:
            raise ValueError(
                f"the released preset needs a slot for each of {self.num_views} images, "
                f"got batch_size {self.batch_size}"
            )

    @property
    def grid(self) -> TileGrid:
        """The tiles of the edge map."""
        return TileGrid(
            num_views=self.num_views, rows=self.rows, cols=self.cols, tile=self.edge_tile
        )


class SoftMiningState(NamedTuple):
    """Where the slots are and what they saw last.

    Attributes:
      view: image of each slot.
      uv: place in it.
      loss: last loss there; negative means never seen.
      drift: last gradient of the log loss with respect to uv.
      edges: per image the cumulative edge strength of its tiles.
      step: updates seen.
      allowed: what a mask allows; None: every pixel.
    """

    view: Int[Array, " n"]
    uv: Float[Array, "n 2"]
    loss: Float[Array, " n"]
    drift: Float[Array, "n 2"]
    edges: Float[Array, "views tiles"]
    step: Int[Array, ""]
    allowed: AllowedPixels | None = None


def init(
    config: SoftMiningConfig,
    key: Key[Array, ""],
    images: UInt8[Array, "views rows cols channels"],
    *,
    mask: Bool[Array, "..."] | None = None,
) -> SoftMiningState:
    """Starts at uniform places, slots shared out evenly over the images.

    Args:
      mask: False marks pixels that are never drawn.
    Raises:
      ValueError: when the images or the mask have another size than the settings say, or the mask
        forbids everything.
    """
    expected = (config.num_views, config.rows, config.cols)
    if images.shape[:3] != expected:
        raise ValueError(f"soft_mining needs images {expected}, got {images.shape}")
    n = config.batch_size
    edges = jnp.clip(priors.edge_strength(images), 1e-5, 1.0)
    if mask is not None:
        check_mask(mask, config.grid.num_pixels)
        edges = jnp.where(mask.reshape(edges.shape), edges, 0.0)
    per_tile = config.grid.mean_inside(edges).reshape(config.num_views, -1)
    per_tile = per_tile * config.grid.areas().reshape(per_tile.shape)
    return SoftMiningState(
        view=(jnp.arange(n, dtype=jnp.float32) * (config.num_views / n)).astype(jnp.int32),
        uv=jax.random.uniform(key, (n, 2)),
        loss=jnp.full(n, -1.0, jnp.float32),
        drift=jnp.zeros((n, 2), jnp.float32),
        edges=jnp.cumsum(per_tile, axis=1),
        step=jnp.zeros((), jnp.int32),
        allowed=masked_tiles.allow(config.grid, mask),
    )


def sample(config: SoftMiningConfig, key: Key[Array, ""], state: SoftMiningState) -> Draw:
    """Moves every slot; places outside, the lowest losses and the uniform share start afresh.

    Weights come from the loss before the move, for loops that cannot wait for the errors at the new
    places; `reweigh` takes those.
    """
    n = config.batch_size
    key_noise, key_edge, key_uniform, key_slots = jax.random.split(key, 4)
    is_seen = state.loss >= 0
    moved = _move(config, state, jax.random.normal(key_noise, (n, 2)))
    is_outside = jnp.any((moved < 0) | (moved > 1), axis=1)
    if not config.is_released:
        moved = jnp.abs(jnp.mod(moved + 1.0, 2.0) - 1.0)
        is_outside = jnp.zeros(n, bool)
    num_restarts = int(config.restart_fraction * n)
    ordered = jnp.sort(jnp.where(is_seen, state.loss, jnp.inf))
    is_low = is_seen & (state.loss <= ordered[min(num_restarts, n - 1)]) if num_restarts else False
    uniform_uv = jax.random.uniform(key_uniform, (n, 2))
    slots = jax.random.uniform(key_slots, (2, n))
    any_view = jnp.minimum((slots[1] * config.num_views).astype(jnp.int32), config.num_views - 1)
    is_restart = is_outside | is_low
    if config.is_released:
        is_uniform = jnp.arange(n) >= n - int(config.uniform_fraction * n)
        view = state.view
    else:
        is_uniform = slots[0] < config.uniform_fraction
        view = jnp.where(is_uniform | is_restart, any_view, state.view)
    uv = jnp.where(is_uniform[:, None], uniform_uv, moved)
    on_edge = _edge_places(config, state.edges, view, jax.random.uniform(key_edge, (n, 3)))
    is_on_edge = is_restart if config.is_released else is_restart & ~is_uniform
    uv = jnp.clip(jnp.where(is_on_edge[:, None], on_edge, uv), 0.0, 1.0)
    is_known = is_seen & ~is_uniform & ~is_on_edge
    if state.allowed is not None:
        tiles = MaskedTiles(config.grid, state.allowed)
        pixels = pixel_indices(PixelCoord(view, uv), config.rows, config.cols)
        is_allowed = tiles.is_allowed(pixels)
        other = _any_allowed(config, tiles, jax.random.fold_in(key, 4))
        view = jnp.where(is_allowed, view, other.view)
        uv = jnp.where(is_allowed[:, None], uv, other.uv)
        is_known = is_known & is_allowed
    fallback = jnp.sum(jnp.where(is_seen, state.loss, 0.0)) / jnp.maximum(jnp.sum(is_seen), 1)
    loss = jnp.where(is_known, state.loss, jnp.where(fallback > 0, fallback, 1.0))
    weights = jnp.maximum(loss, 1e-6) ** (-0.5 * _softness(config, state))
    return Draw(
        items=PixelCoord(view=view, uv=uv),
        probs=jnp.maximum(loss, 1e-12) / jnp.sum(jnp.maximum(loss, 1e-12)),
        weights=corrections.scale_to_mean_one(jnp.clip(weights, 1e-6, 1e6)),
    )


def update(
    config: SoftMiningConfig, state: SoftMiningState, draw: Draw, feedback: Feedback
) -> SoftMiningState:
    """Stores the new places with their losses and log-loss gradients.

    The chain's density follows the loss it is told: with squared errors, and with a Huber loss
    where it is one, that of errors below delta, it is error^2κ; error^κ where it is linear.

    Args:
      feedback: `grad` is the derivative of each row's own loss with respect to its uv.
    Raises:
      ValueError: when traced without `grad`.
    Bad input: slots with an unusable loss or gradient count as never seen.
    """
    del config
    if feedback.grad is None:
        raise ValueError("soft_mining needs Feedback.grad, the derivative of the loss by uv")
    usable = usable_rows(feedback) & jnp.all(jnp.isfinite(feedback.grad), axis=1)
    loss = jnp.minimum(jnp.where(usable, feedback.value, 0.0), 1e18)
    gradient = jnp.where(usable[:, None], feedback.grad, 0.0)
    drift = jnp.clip(gradient / jnp.maximum(loss, 1e-8)[:, None], -1e4, 1e4)
    return state._replace(
        view=draw.items.view,
        uv=draw.items.uv,
        loss=jnp.where(usable, loss, -1.0),
        drift=drift,
        step=state.step + 1,
    )


def reweigh(
    config: SoftMiningConfig,
    state: SoftMiningState,
    draw: Draw,
    errors: Float[Array, " n"],
) -> Float[Array, " n"]:
    """Gives the weights 1 / error^softness of the places drawn, clipped as published.

    The released program leaves them as they are, so steps become larger as errors fall; the
    corrected one scales them to mean 1.

    Args:
      errors: mean absolute difference of each row's colours, without gradient.
    """
    del draw
    weights = corrections.soft_mining_weights(errors, exponent=_softness(config, state))
    return weights if config.is_released else corrections.scale_to_mean_one(weights)


def make(config: SoftMiningConfig) -> Sampler[SoftMiningState]:
    """Binds the config."""
    return bind(config, init, sample, update, reweigh=reweigh)


def _softness(config: SoftMiningConfig, state: SoftMiningState) -> Float[Array, ""]:
    return jnp.minimum(state.step / max(config.softness_steps, 1), config.softness)


def stationary_exponent(config: SoftMiningConfig) -> tuple[float, float]:
    """Gives κ along u and v: the chain's density tends to loss^κ."""
    if not config.is_released:
        return config.concentration, config.concentration
    scale = 2.0 * config.step_size / config.batch_size / config.noise_scale**2
    return scale / max(config.cols - 1, 1), scale / max(config.rows - 1, 1)


def _move(
    config: SoftMiningConfig, state: SoftMiningState, noise: Float[Array, "n 2"]
) -> Float[Array, "n 2"]:
    sides = jnp.array([[config.cols, config.rows]], jnp.float32)
    if config.is_released:
        step = config.step_size / (config.batch_size * jnp.maximum(sides - 1.0, 1.0))
        return state.uv + step * state.drift + config.noise_scale * noise
    sigma = config.noise_pixels / sides
    step = 0.5 * config.concentration * sigma**2 * state.drift
    return state.uv + jnp.clip(step, -0.25, 0.25) + sigma * noise


def _any_allowed(config: SoftMiningConfig, tiles: MaskedTiles, key: Key[Array, ""]) -> PixelCoord:
    """Draws a place in the middle of an allowed pixel for every slot, all pixels equally likely."""
    assert tiles.allowed is not None
    descent = pyramid.num_words(tiles.allowed.counts)
    words = jax.random.bits(key, (descent + 5, config.batch_size), jnp.uint32)
    tile = tiles.any_tile(words[:descent], words[descent : descent + 3])
    pixels = tiles.pixel_inside(tile, words[descent + 3 :])
    view, xy = pixel_centres(pixels, config.rows, config.cols)
    return PixelCoord(view, xy / jnp.array([[config.cols, config.rows]], jnp.float32))


def _edge_places(
    config: SoftMiningConfig,
    edges: Float[Array, "views tiles"],
    view: Int[Array, " n"],
    u: Float[Array, "n 3"],
) -> Float[Array, "n 2"]:
    """Draws a tile of each slot's image by edge strength, and a place uniformly inside."""
    num_tiles = edges.shape[1]
    target = u[:, 0] * edges[view, -1]
    low = jnp.zeros(view.shape, jnp.int32)
    high = jnp.full(view.shape, num_tiles - 1, jnp.int32)
    for _ in range(num_tiles.bit_length()):
        middle = (low + high) // 2
        is_right = edges[view, middle] <= target
        low = jnp.minimum(jnp.where(is_right, middle + 1, low), num_tiles - 1)
        high = jnp.maximum(jnp.where(is_right, high, middle), low)
    grid = config.grid
    _, tile_row, tile_col = grid.split(low)
    height, width = grid.size(low)
    row = tile_row * grid.tile + u[:, 1] * height
    col = tile_col * grid.tile + u[:, 2] * width
    return jnp.stack([col / config.cols, row / config.rows], axis=-1)
