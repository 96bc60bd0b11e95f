"""Draws from a small distribution by inverting its cumulative sum.

Deterministic cores take the uniforms; thin wrappers take keys. O(N + n log N) per draw: right for
cameras and motion bins, up to some 10^5 items; larger sets go through the weight pyramid.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from .base import uniform_bits


def invert_cdf(probs: Float[Array, " items"], u: Float[Array, " n"]) -> Int[Array, " n"]:
    """Finds for each u in [0, 1) the item whose share of the cumulative sum contains it.

    Probabilities need not sum to 1 exactly; an item of probability 0 is never found while another
    has more. The sum is taken in blocks of 128, which keeps float32 exact enough for 2^20 items.
    """
    cumulative = _cumulative(probs)
    target = jnp.minimum(u, 1.0 - 2.0**-24) * cumulative[-1]
    index = jnp.searchsorted(cumulative, target, side="right")
    return jnp.minimum(index, probs.shape[0] - 1).astype(jnp.int32)


def stratified_positions(u: Float[Array, " n"]) -> Float[Array, " n"]:
    """Puts the j-th uniform into the j-th of n equal parts of [0, 1)."""
    n = u.shape[0]
    return jnp.minimum((jnp.arange(n) + u) / n, 1.0 - 2.0**-24)


def systematic_positions(n: int, offset: Float[Array, ""]) -> Float[Array, " {n}"]:
    """Places n points one n-th apart, all shifted by the same offset in [0, 1)."""
    return jnp.minimum((jnp.arange(n) + offset) / n, 1.0 - 2.0**-24)


def systematic_counts(
    probs: Float[Array, " items"], n: int, offset: Float[Array, ""]
) -> Int[Array, " items"]:
    """Allocates n draws to items: floor(n p) or ceil(n p) each, n p on average over offsets."""
    index = invert_cdf(probs, systematic_positions(n, offset))
    return jnp.zeros(probs.shape[0], jnp.int32).at[index].add(1)


def draw_items(
    key: Key[Array, ""], probs: Float[Array, " items"], n: int, *, method: str = "multinomial"
) -> Int[Array, " {n}"]:
    """Draws n items with replacement: "multinomial", "stratified" or "systematic".

    The last two give rows in the order of the items; their counts vary less.
    Raises:
      ValueError: for another method.
    """
    if method == "multinomial":
        return invert_cdf(probs, uniform_bits(key, (n,)))
    if method == "stratified":
        return invert_cdf(probs, stratified_positions(uniform_bits(key, (n,))))
    if method == "systematic":
        return invert_cdf(probs, systematic_positions(n, uniform_bits(key, ())))
    raise ValueError(f"method must be multinomial, stratified or systematic, got {method!r}")


def draw_distinct(
    key: Key[Array, ""], probs: Float[Array, " items"], n: int
) -> tuple[Int[Array, " {n}"], Float[Array, " {n}"]]:
    """Draws n different items, one after the other in proportion to what is left.

    Returns:
      The items in the order drawn (-1 where nothing was left), and their keys log p + Gumbel.
    Raises:
      ValueError: when n exceeds the number of items.
    Source: the Gumbel top-k trick (Vieira 2014; Kool et al. 2019).
    """
    if n > probs.shape[0]:
        raise ValueError(f"cannot draw {n} different items out of {probs.shape[0]}")
    log_probs = jnp.where(probs > 0, jnp.log(jnp.where(probs > 0, probs, 1.0)), -jnp.inf)
    scored = log_probs + jax.random.gumbel(key, probs.shape)
    best, index = jax.lax.top_k(scored, n)
    return jnp.where(jnp.isfinite(best), index, -1).astype(jnp.int32), best


def _cumulative(probs: Float[Array, " items"]) -> Float[Array, " items"]:
    """Sums within blocks and then over blocks; monotone, since equal steps add equal amounts."""
    if probs.shape[0] <= 128:
        return jnp.cumsum(probs)
    blocks = jnp.pad(probs, (0, -probs.shape[0] % 128)).reshape(-1, 128)
    inside = jnp.cumsum(blocks, axis=1)
    before = jnp.cumsum(inside[:, -1]) - inside[:, -1]
    flat = (inside + before[:, None]).reshape(-1)[: probs.shape[0]]
    return jax.lax.cummax(flat)
