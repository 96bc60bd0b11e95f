"""Leaf formats of the weight pyramid: float32, bfloat16, or one byte per leaf.

The byte is a logarithmic code: 0 means weight 0, code c means 2^((c - 192) / 8), so weights from
2^-24 to 235 in steps of 9 %. Probabilities stay exact: they are those of the stored weights.

A moving average moves by less than a step of a coarse format and would stall, so values are rounded
up or down at random in proportion to the distance (stochastic rounding), with bits hashed from the
value, the item and the number of writes so far; no key is needed and equal updates of equal states
give equal states.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped, UInt32

LeafFormat = Literal["float32", "bfloat16", "uint8"]

_ONE = 192.0
_STEPS_PER_DOUBLING = 8.0


def leaf_dtype(leaf_format: str) -> jnp.dtype:
    """Gives the dtype of a format; ValueError for an unknown one."""
    if leaf_format not in get_args(LeafFormat):
        raise ValueError(f"leaf format must be float32, bfloat16 or uint8, got {leaf_format!r}")
    return jnp.dtype(leaf_format)


def decode(codes: Shaped[Array, "*n"]) -> Float[Array, "*n"]:
    """Gives the weights that stored leaves stand for."""
    if codes.dtype == jnp.uint8:
        level = (codes.astype(jnp.float32) - _ONE) / _STEPS_PER_DOUBLING
        return jnp.where(codes == 0, 0.0, jnp.exp2(level))
    return codes.astype(jnp.float32)


def encode(
    weights: Float[Array, "*n"],
    dtype: jnp.dtype,
    index: Int[Array, "*n"] | None = None,
    salt: UInt32[Array, ""] | None = None,
) -> Shaped[Array, "*n"]:
    """Stores clean weights in a format.

    Args:
      weights: finite and not negative.
      dtype: float32, bfloat16 or uint8.
      index: the items; with them coarse formats round stochastically, without to nearest.
      salt: another one at every write, so that a value rounded back is not rounded back for ever.
    Bad input: bytes hold positive weights from 2^-24 to 235; outside, the nearest of these.
    """
    if dtype == jnp.float32:
        return weights
    if dtype == jnp.bfloat16:
        if index is None:
            return weights.astype(jnp.bfloat16)
        bits = jax.lax.bitcast_convert_type(weights, jnp.uint32) + (
            _hash(weights, index, salt) >> 16
        )
        return jax.lax.bitcast_convert_type(bits & jnp.uint32(0xFFFF0000), jnp.float32).astype(
            jnp.bfloat16
        )
    level = jnp.log2(jnp.maximum(weights, 1e-30)) * _STEPS_PER_DOUBLING + _ONE
    if index is None:
        code = jnp.round(level)
    else:
        low = jnp.floor(level)
        lower = jnp.exp2((low - _ONE) / _STEPS_PER_DOUBLING)
        share = (weights / jnp.maximum(lower, 1e-30) - 1.0) / (2.0 ** (1 / _STEPS_PER_DOUBLING) - 1)
        dither = (_hash(weights, index, salt) >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)
        code = low + (dither < share)
    return jnp.where(weights > 0, jnp.clip(code, 1.0, 255.0), 0.0).astype(jnp.uint8)


def _hash(
    weights: Float[Array, "*n"], index: Int[Array, "*n"], salt: UInt32[Array, ""] | None
) -> UInt32[Array, "*n"]:
    """Mixes the bits of value, item and salt (the finaliser of MurmurHash3)."""
    bits = jax.lax.bitcast_convert_type(weights, jnp.uint32)
    bits = bits ^ (index.astype(jnp.uint32) * jnp.uint32(0x9E3779B9))
    if salt is not None:
        bits = bits ^ (salt * jnp.uint32(0x632BE5AB))
        bits = (bits ^ (bits >> 15)) * jnp.uint32(0x2C1B3C6D)
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)
