"""`depth_guided`: points along rays around a depth prior, mixed with strata. Unbiased.

Of n points per ray a share g is drawn around the prior depth d, from a normal truncated to
[near, far] or from an interval of width 2 σ around d; the others are one per stratum of
[near, far]. The density of the mixture is exact,

    q(t) = g p(t) + (1 - g) / (far - near),

so weights 1 / ((far - near) q) make the mean over points unbiased for the mean along the ray, and
are at most 1 / (1 - g). Rays without a prior (not finite, not positive, or with almost no mass
between near and far) get strata only. Depth means distance along the unit ray.

Source: depth-guided sampling as in DONeRF (Neff et al. 2021) and depth-supervised fields;
truncation instead of clipping, which would pile points up at the ends.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import erf, erfinv
from jaxtyping import Array, Float, Int, Key

from .base import Draw, Feedback, Sampler, bind, check_at_least, check_fraction

SHAPES = ("normal", "interval")
_ROOT_2 = 2.0**0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class DepthGuidedConfig:
    """Settings of `depth_guided`.

    Attributes:
      num_samples: points per ray.
      guided_fraction: g, the share around the prior; below 1.
      shape: "normal" or "interval".
      min_sigma: the prior is never taken to be sharper than this, in scene units.
      min_mass: share of the prior that must lie between near and far for it to be used.
      decay: how much of a stored depth survives feedback; 1 keeps the prior as it is.
    """

    num_samples: int
    guided_fraction: float = 0.5
    shape: str = "normal"
    min_sigma: float = 1e-3
    min_mass: float = 1e-2
    decay: float = 1.0

    def __post_init__(self) -> None:
        check_at_least("num_samples", self.num_samples, 1)
        check_fraction("guided_fraction", self.guided_fraction)
        check_fraction("min_mass", self.min_mass, is_open_at_zero=True)
        check_fraction("decay", self.decay)
        if self.guided_fraction == 1:
            raise ValueError("guided_fraction must be below 1: some points must cover the ray")
        if not self.min_sigma > 0:
            raise ValueError(f"min_sigma must be positive, got {self.min_sigma}")
        if self.shape not in SHAPES:
            raise ValueError(f"shape must be one of {SHAPES}, got {self.shape!r}")

    @property
    def num_guided(self) -> int:
        """Points around the prior."""
        return min(round(self.guided_fraction * self.num_samples), self.num_samples - 1)


class RayQuery(NamedTuple):
    """The rays to place points on: index into the stored depths, and the range to cover."""

    pixel: Int[Array, " rays"]
    near: Float[Array, " rays"]
    far: Float[Array, " rays"]


class RayPoints(NamedTuple):
    """Points along rays: distances t, ascending."""

    pixel: Int[Array, " rays"]
    t: Float[Array, "rays samples"]


class DepthGuidedState(NamedTuple):
    """The prior depth of every pixel and its standard deviation; NaN depth: unknown."""

    depth: Float[Array, " pixels"]
    sigma: Float[Array, " pixels"]


def init(
    config: DepthGuidedConfig,
    key: Key[Array, ""],
    depth: Float[Array, " pixels"],
    sigma: Float[Array, " pixels"],
) -> DepthGuidedState:
    """Stores the prior: depth along the unit ray, and its uncertainty in the same unit; an infinite
    one means that nothing is known, one that is not a number `min_sigma`."""
    del config, key
    # copies, for the caller's own arrays would be donated with the state
    return DepthGuidedState(depth=jnp.array(depth, copy=True), sigma=jnp.array(sigma, copy=True))


def sample(
    config: DepthGuidedConfig, key: Key[Array, ""], state: DepthGuidedState, query: RayQuery
) -> Draw:
    """Draws sorted points on each ray.

    Bad input: a range with far <= near is taken to be 1e-6 long.
    """
    n, num_guided = config.num_samples, config.num_guided
    near = query.near[:, None]
    length = jnp.maximum(query.far - query.near, 1e-6)[:, None]
    far = near + length
    depth = state.depth[query.pixel][:, None]
    sigma = state.sigma[query.pixel][:, None]
    has_prior = jnp.isfinite(depth) & (depth > 0) & ~jnp.isposinf(sigma)
    sigma = jnp.where(jnp.isfinite(sigma), jnp.maximum(sigma, config.min_sigma), config.min_sigma)
    safe_depth = jnp.where(has_prior, depth, near)
    low, high, mass = _range_of_prior(config, safe_depth, sigma, near, far)
    has_prior = has_prior & (mass >= config.min_mass)
    u = jax.random.uniform(key, (query.pixel.shape[0], n))
    slot = jnp.arange(n)[None]
    all_strata = near + length * (slot + u) / n
    if num_guided == 0:
        t = all_strata
    else:
        ug = (jnp.arange(num_guided)[None] + u[:, :num_guided]) / num_guided
        guided = _invert_prior(config, safe_depth, sigma, low, high, ug)
        rest = n - num_guided
        strata = near + length * (jnp.arange(rest)[None] + u[:, num_guided:]) / max(rest, 1)
        t = jnp.where(has_prior, jnp.concatenate([guided, strata], axis=1), all_strata)
    t = jnp.sort(jnp.clip(t, near, far), axis=1)
    flat = jnp.broadcast_to(1.0 / length, t.shape)
    peak = _density_of_prior(config, t, safe_depth, sigma, low, high, mass)
    share = num_guided / n
    density = jnp.where(has_prior, share * peak + (1.0 - share) * flat, flat)
    return Draw(
        items=RayPoints(pixel=query.pixel, t=t),
        probs=density,
        weights=1.0 / (length * density),
    )


def update(
    config: DepthGuidedConfig, state: DepthGuidedState, draw: Draw, feedback: Feedback
) -> DepthGuidedState:
    """Moves stored depths towards rendered ones (`value`, one per ray) unless decay is 1.

    Bad input: rays with an unusable rendered depth change nothing; of several rays of one pixel one
    counts.
    """
    if config.decay == 1:
        return state
    value = feedback.value if feedback.value.ndim == 1 else feedback.value[:, 0]
    usable = jnp.isfinite(value) & (value > 0)
    if feedback.valid is not None:
        usable = usable & (feedback.valid if feedback.valid.ndim == 1 else feedback.valid[:, 0])
    pixel = draw.items.pixel
    old = state.depth[pixel]
    start = jnp.where(jnp.isfinite(old), old, value)
    new = config.decay * start + (1.0 - config.decay) * value
    place = jnp.where(usable, pixel, state.depth.shape[0])
    return state._replace(depth=state.depth.at[place].set(new, mode="drop"))


def make(config: DepthGuidedConfig) -> Sampler[DepthGuidedState]:
    """Binds the config."""
    return bind(config, init, sample, update)


def _range_of_prior(
    config: DepthGuidedConfig, depth: Array, sigma: Array, near: Array, far: Array
) -> tuple[Array, Array, Array]:
    """Gives the ends of the prior's range, in its own units, and the mass between them."""
    if config.shape == "interval":
        low, high = jnp.maximum(depth - sigma, near), jnp.minimum(depth + sigma, far)
        return low, high, jnp.maximum(high - low, 0.0) / (2.0 * sigma)
    low = erf((near - depth) / sigma / _ROOT_2)
    high = erf((far - depth) / sigma / _ROOT_2)
    return low, high, 0.5 * (high - low)


def _invert_prior(
    config: DepthGuidedConfig, depth: Array, sigma: Array, low: Array, high: Array, u: Array
) -> Array:
    value = low + u * (high - low)
    if config.shape == "interval":
        return value
    return depth + sigma * _ROOT_2 * erfinv(jnp.clip(value, -1.0 + 1e-6, 1.0 - 1e-6))


def _density_of_prior(
    config: DepthGuidedConfig,
    t: Array,
    depth: Array,
    sigma: Array,
    low: Array,
    high: Array,
    mass: Array,
) -> Array:
    if config.shape == "interval":
        is_inside = (t >= low) & (t <= high)
        return jnp.where(is_inside, 1.0 / jnp.maximum(high - low, 1e-9), 0.0)
    z = (t - depth) / sigma
    return jnp.exp(-0.5 * z * z) / (sigma * 2.5066283 * jnp.maximum(mass, 1e-9))
