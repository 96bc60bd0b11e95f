"""Guidance by pictures of the world: the mean squared error to posed images."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt8

from .protocol import Guidance, Pull, Query


class TargetData(NamedTuple):
    """Pictures to match, one per camera."""

    images: UInt8[Array, "views rows cols 3"]


def target(images: UInt8[Array, "views rows cols 3"]) -> Guidance:
    """Pulls each view towards its picture; L is the mean squared error over pixels and channels."""
    return Guidance("target", TargetData(images), pull)


def pull(data: TargetData, key: Key[Array, ""], query: Query) -> Pull:
    """Gradient of the mean squared error. Uses no randomness."""
    wanted = data.images[query.views].astype(query.images.dtype) / 255.0
    error = query.images - wanted
    count = error[0].size
    value = jnp.sum(jnp.square(error), axis=(1, 2, 3)) / count
    psnr: Float[Array, ""] = -10.0 * jnp.log10(jnp.maximum(jnp.mean(value), 1e-10))
    return Pull(2.0 * error / count, value, {"guide_psnr": psnr})
