"""Samples of each ray where the field itself absorbs light: a coarse look, then the samples.

The occupied parts of a ray, laid end to end, are cut into `coarse` strata of equal length. The
density at one random place of each gives the share w_j of the light that the stratum absorbs. The
samples are then placed by the distribution

    p_j = (1 - l) w'_j / sum w' + l / coarse,      w'_j = (max(w_j-1, w_j) + max(w_j, w_j+1)) / 2,

one in each of equal parts of its mass, so surfaces get short intervals and the air before them long
ones. Blurring and the floor l keep what one look missed within reach. Nothing is differentiated:
where samples lie is no parameter.

Source: hierarchical sampling of Mildenhall et al. 2020, section 5.2, with one field for both looks;
the blur is that of Barron et al. 2021 (mip-NeRF), equation 18.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from . import marching
from .marching import Candidates, MarchingConfig, PackedSamples
from .spaces import SceneBounds

DepthFn = Callable[[PackedSamples], Float[Array, " n"]]
"""Optical depth of samples: density times length."""


def place(
    config: MarchingConfig,
    key: Key[Array, ""] | None,
    candidates: Candidates,
    bounds: SceneBounds,
    optical_depth_fn: DepthFn,
    *,
    num_samples: int,
) -> PackedSamples:
    """Places `num_samples` samples on every ray.

    Args:
      key: of where in its part each one lies; None: in the middle, for pictures.
    Returns:
      rays * num_samples samples, ray after ray; those of rays with nothing occupied are not valid.
    """
    key_look, key_place = (None, None) if key is None else jax.random.split(key)
    edges = look(config, key_look, candidates, bounds, optical_depth_fn)
    u = strata(key_place, edges.shape[0], num_samples)
    occupied = marching.num_samples(candidates) * candidates.step
    y = occupied[:, None] * invert(edges, u)
    return marching.fill_occupied(config, candidates, bounds, y)


def look(
    config: MarchingConfig,
    key: Key[Array, ""] | None,
    candidates: Candidates,
    bounds: SceneBounds,
    optical_depth_fn: DepthFn,
) -> Float[Array, "rays edges"]:
    """Looks at `num_coarse` densities of every ray and gives the distribution of its samples.

    Returns:
      The distribution at the edges of the strata, see `cumulative`.
    """
    occupied = (marching.num_samples(candidates) * candidates.step)[:, None]
    y = occupied * strata(key, occupied.shape[0], config.num_coarse)
    width = jnp.broadcast_to(occupied / config.num_coarse, y.shape)
    coarse = marching.place_on_occupied(config, candidates, bounds, y, width)
    depth = optical_depth_fn(jax.lax.stop_gradient(coarse)).reshape(y.shape)
    return jax.lax.stop_gradient(cumulative(absorbed(depth), config.uniform_fraction))


def absorbed(depth: Float[Array, "rays coarse"]) -> Float[Array, "rays coarse"]:
    """Gives the share of a ray's light that each stratum absorbs."""
    before = jnp.cumsum(depth, axis=1) - depth
    return jnp.exp(-before) * -jnp.expm1(-depth)


def cumulative(
    weights: Float[Array, "rays coarse"], uniform_fraction: float
) -> Float[Array, "rays edges"]:
    """Gives the distribution of samples at the edges of the strata, from 0 to 1.

    Rays that absorb nothing get even samples.
    """
    near = jnp.pad(weights, ((0, 0), (1, 1)))
    pairs = jnp.maximum(near[:, 1:], near[:, :-1])
    blurred = 0.5 * (pairs[:, 1:] + pairs[:, :-1])
    total = jnp.sum(blurred, axis=1, keepdims=True)
    even = 1.0 / weights.shape[1]
    is_seen = total > 1e-6
    share = jnp.where(is_seen, blurred / jnp.where(is_seen, total, 1.0), even)
    mass = (1.0 - uniform_fraction) * share + uniform_fraction * even
    edges = jnp.cumsum(mass, axis=1)
    return jnp.pad(edges / edges[:, -1:], ((0, 0), (1, 0)))


def invert(
    edges: Float[Array, "rays edges"], u: Float[Array, "rays samples"]
) -> Float[Array, "rays samples"]:
    """Finds where the distribution reaches u, linearly between edges; in shares of the ray."""
    num = edges.shape[1] - 1
    stratum = jnp.sum(edges[:, None, 1:-1] <= u[:, :, None], axis=-1)
    low = jnp.take_along_axis(edges, stratum, axis=1)
    high = jnp.take_along_axis(edges, stratum + 1, axis=1)
    return (stratum + jnp.clip((u - low) / jnp.maximum(high - low, 1e-9), 0.0, 1.0)) / num


def strata(
    key: Key[Array, ""] | None, num_rays: int, num_strata: int
) -> Float[Array, "rays strata"]:
    """Takes one place in each of equal parts of [0, 1): random, or the middle without a key."""
    shape = (num_rays, num_strata)
    inside = jnp.full(shape, 0.5) if key is None else jax.random.uniform(key, shape)
    return (jnp.arange(num_strata)[None] + inside) / num_strata
