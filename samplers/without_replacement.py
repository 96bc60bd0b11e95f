"""Weighted draws without replacement from a weight pyramid, in O(n F log N).

Every item gets the key log w + Gumbel; the n largest keys are a draw without replacement, one item
after the other in proportion to what is left. Instead of N keys, the largest key of each node is
drawn from the top down, given that of its parent, and only the n best nodes of a level expanded.

Source: stochastic beam search (Kool et al. 2019); the estimator is priority sampling (Duffield et
al. 2007).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, Key

from .base import check_key
from .pyramid import MIN_WEIGHT, WeightPyramid, build, draw, level_offsets, take, total

_NONE = -1e30


class DistinctDraw(NamedTuple):
    """Different items, in the order drawn.

    Attributes:
      items: indices; -1 where fewer items than asked for weigh anything.
      valid: which of them are items.
      inclusion: probability that the item is among those drawn, given the others' keys;
        sum(f / inclusion) is unbiased for the sum of f over all items.
    """

    items: Int[Array, " n"]
    valid: Bool[Array, " n"]
    inclusion: Float[Array, " n"]


def draw_distinct(key: Key[Array, ""], pyramid: WeightPyramid, n: int) -> DistinctDraw:
    """Draws n different items, one after the other in proportion to the weights left.

    Raises:
      ValueError: for an old-style key.
    Bad input: items of weight 0 are never drawn; what is missing then is marked invalid.
    """
    check_key(key)
    fan = pyramid.leaves.shape[1]
    offsets = level_offsets(*pyramid.leaves.shape)
    depth = len(offsets)
    root = jnp.maximum(total(pyramid), 1e-37)
    node = jnp.zeros(1, jnp.int32)
    best = jax.random.gumbel(jax.random.fold_in(key, depth), (1,))
    log_share = jnp.zeros(1, jnp.float32)
    for level in range(depth):
        is_leaf = level == depth - 1
        nodes = pyramid.leaves if is_leaf else pyramid.sums
        child = (node[:, None] * fan + jnp.arange(fan)[None]).reshape(-1)
        weight = take(nodes, child if is_leaf else offsets[level] + child)
        log_share = jnp.where(weight > 0, jnp.log(jnp.maximum(weight, 1e-37) / root), _NONE)
        noise = jax.random.gumbel(jax.random.fold_in(key, level), child.shape)
        scored = jnp.where(weight > 0, log_share + noise, _NONE).reshape(-1, fan)
        best = _given_largest(scored, best).reshape(-1)
        num_kept = min(n + 1, child.shape[0])
        best, kept = jax.lax.top_k(best, num_kept)
        node, log_share = child[kept], log_share[kept]
    found = node.shape[0]
    if found < n + 1:
        node = jnp.pad(node, (0, n + 1 - found))
        best = jnp.pad(best, (0, n + 1 - found), constant_values=_NONE)
        log_share = jnp.pad(log_share, (0, n + 1 - found), constant_values=_NONE)
    valid = best[:n] > _NONE / 2
    odds = jnp.exp(jnp.minimum(log_share[:n] - jnp.maximum(best[n], -80.0), 80.0))
    inclusion = jnp.where(best[n] > _NONE / 2, -jnp.expm1(-odds), 1.0)
    return DistinctDraw(
        items=jnp.where(valid, node[:n], -1),
        valid=valid,
        inclusion=jnp.where(valid, inclusion, 1.0),
    )


def choice(
    key: Key[Array, ""],
    weights: Float[Array | np.ndarray, " items"] | Sequence[float],
    n: int,
    *,
    replace: bool = True,
) -> Int[Array, " {n}"]:
    """Draws n indices in proportion to weights, for sets of any size; works inside jit.

    Like `numpy.random.Generator.choice(len(weights), n, p=weights / sum)`, without the need to
    normalise. Builds a weight pyramid in O(N); to draw often from slowly changing weights, keep
    a pyramid instead.

    Raises:
      ValueError: for an old-style key, weights that are no list of numbers, or a negative n;
        without replacement, when n exceeds the number of items; outside jit also for negative or
        non-finite weights, and when too few of them are positive.
    Bad input: inside jit unusable weights count as 0, no positive weight means uniform, and
      without replacement -1 fills up what is missing.

    Examples:
      >>> sorted(choice(jax.random.key(0), jnp.array([1.0, 0.0, 2.0]), 2, replace=False).tolist())
      [0, 2]
    """
    check_key(key)
    weights = jnp.asarray(weights, None if isinstance(weights, jax.Array) else jnp.float32)
    if weights.ndim != 1 or not weights.size or n < 0:
        raise ValueError(
            f"needs one weight per item and n >= 0, got weights of shape {weights.shape}, n={n}"
        )
    num_items = weights.shape[0]
    if not replace and n > num_items:
        raise ValueError(f"cannot draw {n} different items out of {num_items}")
    if not isinstance(weights, Tracer):
        if not bool(jnp.all(jnp.isfinite(weights) & (weights >= 0))):
            raise ValueError("weights must be finite and not negative")
        least = MIN_WEIGHT * float(jnp.max(weights))
        num_positive = int(jnp.sum((weights > 0) & (weights >= least)))
        if num_positive < (1 if replace else n):
            needed = 1 if replace else n
            raise ValueError(
                f"needs {needed} positive weights, at least {MIN_WEIGHT:g} of the largest, "
                f"got {num_positive}"
            )
    weights = jnp.where(jnp.isfinite(weights), weights, 0.0)
    largest = jnp.max(weights)
    pyramid = build(weights / jnp.where(largest > 0, largest, 1.0))
    if replace:
        return draw(key, pyramid, n)[0]
    return draw_distinct(key, pyramid, n).items


def _given_largest(
    scored: Float[Array, "nodes fan"], largest: Float[Array, " nodes"]
) -> Float[Array, "nodes fan"]:
    """Shifts independent keys so that the largest of each row is as given."""
    highest = jnp.max(scored, axis=1, keepdims=True)
    gap = jnp.minimum(scored - highest, 0.0)
    rest = jnp.where(gap < 0, jnp.log(-jnp.expm1(jnp.where(gap < 0, gap, -1.0))), -jnp.inf)
    v = largest[:, None] - scored + rest
    shifted = largest[:, None] - jnp.maximum(v, 0.0) - jnp.log1p(jnp.exp(-jnp.abs(v)))
    is_alive = (scored > _NONE / 2) & (largest[:, None] > _NONE / 2)
    return jnp.where(is_alive, shifted, _NONE)
