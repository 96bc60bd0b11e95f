"""Losses per ray.

Each returns one non-negative number per ray; the train step weights and averages them.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


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
