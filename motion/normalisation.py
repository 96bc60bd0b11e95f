"""Running mean and variance of observations.

Batches are merged by counts (Chan et al. 1979), so the order and the size of batches do not matter
beyond rounding. Nothing is forgotten.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from samplers.device_axis import ALONE, DeviceAxis

LEAST_DEVIATION = 1e-2
"""Deviations count as at least this, so that a number that never changes is not blown up."""
LARGEST = 10.0
"""Normalised observations are kept within this of 0."""


class Moments(NamedTuple):
    """Moments of everything seen.

    Attributes:
      mean: per number.
      variance: per number; 1 before anything was seen.
      count: of observations.
    """

    mean: Float[Array, " size"]
    variance: Float[Array, " size"]
    count: Float[Array, ""]


def init_moments(size: int) -> Moments:
    """Nothing seen: observations pass unchanged."""
    return Moments(jnp.zeros(size), jnp.ones(size), jnp.zeros(()))


def merge(moments: Moments, batch: Float[Array, "*n size"], *, axis: DeviceAxis = ALONE) -> Moments:
    """Adds a batch.

    Args:
      axis: devices that each have a part of the batch.
    Bad input: rows with a number that is not finite are left out.
    """
    rows = batch.reshape(-1, batch.shape[-1])
    is_usable = jnp.all(jnp.isfinite(rows), axis=1, keepdims=True)
    rows = jnp.where(is_usable, rows, 0.0)
    new = axis.sum(jnp.sum(is_usable.astype(jnp.float32)))
    safe = jnp.maximum(new, 1.0)
    mean = axis.sum(jnp.sum(rows, axis=0)) / safe
    gaps = jnp.where(is_usable, rows - mean[None], 0.0)
    variance = axis.sum(jnp.sum(gaps**2, axis=0)) / safe
    total = jnp.maximum(moments.count + new, 1.0)
    share = new / total
    gap = mean - moments.mean
    merged = Moments(
        mean=moments.mean + share * gap,
        variance=(1 - share) * moments.variance + share * variance + share * (1 - share) * gap**2,
        count=moments.count + new,
    )
    has_none = new == 0
    return Moments(*(jnp.where(has_none, a, b) for a, b in zip(moments, merged, strict=True)))


def normalise(moments: Moments, seen: Float[Array, "*n size"]) -> Float[Array, "*n size"]:
    """Subtracts the mean and divides by the deviation; the result is within 10 of 0."""
    shape = (1,) * (seen.ndim - 1) + (-1,)
    deviation = jnp.maximum(jnp.sqrt(moments.variance), LEAST_DEVIATION).reshape(shape)
    scaled = (seen - moments.mean.reshape(shape)) / deviation
    return jnp.clip(scaled, -LARGEST, LARGEST)
