"""Losses per ray.

Each returns one non-negative number per ray; the train step weights and averages them. Losses that
know the depth of rays are in `depth`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from . import segments


def squared_error(
    predicted: Float[Array, "rays 3"], target: Float[Array, "rays 3"]
) -> Float[Array, " rays"]:
    """Mean over channels of the squared difference."""
    return jnp.mean(jnp.square(predicted - target), axis=-1)


def huber(
    predicted: Float[Array, "rays 3"], target: Float[Array, "rays 3"], *, delta: float = 0.1
) -> Float[Array, " rays"]:
    """Mean over channels of the Huber loss divided by delta: |d| - delta/2 beyond delta, d^2 / (2
    delta) below.

    Source: Huber 1964; the scaling by 1/delta is that of instant-ngp, so the slope is 1 for large
    errors.
    """
    difference = jnp.abs(predicted - target)
    small = jnp.square(difference) / (2.0 * delta)
    return jnp.mean(jnp.where(difference <= delta, small, difference - 0.5 * delta), axis=-1)


def opacity_entropy(opacity: Float[Array, " rays"]) -> Float[Array, " rays"]:
    """Entropy of each ray's opacity in nats: small where a ray sees either a surface or nothing.

    Source: ngp_pl's opacity regulariser. Finite, value and gradient, for opacities 0 and 1.
    """
    p = jnp.clip(opacity, 1e-5, 1.0 - 1e-5)
    return -(p * jnp.log(p) + (1.0 - p) * jnp.log1p(-p))


def distortion(
    weights: Float[Array, " n"],
    place: Float[Array, " n"],
    width: Float[Array, " n"],
    ray: Int[Array, " n"],
    *,
    num_rays: int,
    longest: int,
) -> Float[Array, " rays"]:
    """How far apart the weights of a ray lie: sum_ij w_i w_j |x_i - x_j| + 1/3 sum_i w_i^2 b_i.

    Small where a ray ends in one place. In the unit of `place`, so divide by the longest march.

    Args:
      weights, place, width: of packed samples, rising along each ray; unused slots weigh 0.
      ray: non-decreasing ray number of each sample.
      longest: static bound on the samples of one ray.
    Source: Barron et al. 2022, eq. 15; by running sums instead of pairs.
    """
    before = segments.exclusive_sums(weights, ray, longest=longest)
    moment = segments.exclusive_sums(weights * place, ray, longest=longest)
    terms = 2.0 * weights * (place * before - moment) + jnp.square(weights) * width / 3.0
    return jax.ops.segment_sum(terms, ray, num_segments=num_rays, indices_are_sorted=True)
