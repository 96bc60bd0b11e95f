"""From scores to probabilities: how strongly a sampler prefers what scores high.

Order matters and is the same everywhere: a preference (power, rank, top-k, look-back, prior), then
normalisation, then an exact uniform floor and a cap. With floor λ every item keeps at least λ / N,
so the importance weight never exceeds 1 / λ.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def clean_scores(scores: Float[Array, " items"]) -> Float[Array, " items"]:
    """Replaces NaN, infinite and negative scores by 0."""
    return jnp.where(jnp.isfinite(scores) & (scores >= 0), scores, 0.0)


def normalise(
    scores: Float[Array, " items"], mask: Bool[Array, " items"] | None = None
) -> Float[Array, " items"]:
    """Scales scores to sum to 1 over the items the mask allows.

    Bad input: unusable scores count as 0; all zero means uniform over what the mask allows,
    and a mask that allows nothing gives all zeros.
    """
    allowed = jnp.ones(scores.shape, bool) if mask is None else mask
    scores = jnp.where(allowed, clean_scores(scores), 0.0)
    scores = scores / jnp.maximum(jnp.max(scores), 1e-37)
    scale = jnp.sum(scores)
    flat = allowed / jnp.maximum(jnp.sum(allowed), 1)
    return jnp.where(scale > 0, scores / jnp.where(scale > 0, scale, 1.0), flat)


def power(scores: Float[Array, " items"], exponent: float) -> Float[Array, " items"]:
    """Raises scores to a power: 0 forgets them, 1 is proportional, large is winner-takes-all."""
    scores = clean_scores(scores)
    return jnp.where(scores > 0, jnp.where(scores > 0, scores, 1.0) ** exponent, 0.0)


def rank(scores: Float[Array, " items"], exponent: float = 1.0) -> Float[Array, " items"]:
    """Weighs by 1 / rank^exponent, rank 1 for the highest score; ties share their mean rank.

    Insensitive to the scale of scores and to outliers. O(N log N): for small sets.
    Source: Jiang et al. 2021 (prioritised level replay).
    """
    ordered = jnp.sort(-clean_scores(scores))
    first = jnp.searchsorted(ordered, -clean_scores(scores), side="left")
    last = jnp.searchsorted(ordered, -clean_scores(scores), side="right")
    return ((first + last + 1) / 2.0) ** (-exponent)


def top_k(scores: Float[Array, " items"], k: int) -> Float[Array, " items"]:
    """Weighs the k highest scores 1 and the rest 0; ties go to the lower index."""
    _, index = jax.lax.top_k(clean_scores(scores), k)
    return jnp.zeros(scores.shape).at[index].set(1.0)


def mix_uniform(
    probs: Float[Array, " items"],
    fraction: float | Float[Array, ""],
    mask: Bool[Array, " items"] | None = None,
) -> Float[Array, " items"]:
    """Mixes in the uniform distribution: (1 - λ) p + λ / N, exactly, whatever the scores.

    Source: defensive mixtures, Hesterberg 1995; Owen & Zhou 2000.
    """
    if mask is None:
        return (1.0 - fraction) * probs + fraction / probs.shape[0]
    return (1.0 - fraction) * probs + fraction * mask / jnp.maximum(jnp.sum(mask), 1)


def cap_probabilities(
    probs: Float[Array, " items"],
    cap: float | Float[Array, ""],
    mask: Bool[Array, " items"] | None = None,
) -> Float[Array, " items"]:
    """Limits every probability to `cap` and shares the excess among the rest in proportion.

    Water-filling: the result is min(cap, s p) with the one s that makes it sum to 1, so the cap
    truly holds; clamping once and renormalising exceeds it. If everything below the cap has
    probability 0 the excess goes to those items evenly. O(N log N): for small sets.

    Bad input: a cap below 1 / N (over the items the mask allows) cannot hold and means uniform.
    """
    allowed = jnp.ones(probs.shape, bool) if mask is None else mask
    num_allowed = jnp.sum(allowed)
    cap = jnp.maximum(cap, 1.0 / jnp.maximum(num_allowed, 1))
    ordered = -jnp.sort(-probs)
    below = jnp.cumsum(ordered[::-1])[::-1]
    num_capped = jnp.arange(probs.shape[0])
    free = jnp.maximum(1.0 - num_capped * cap, 0.0)
    scale = free / jnp.maximum(below, 1e-37)
    is_enough = ordered * scale <= cap * (1.0 + 1e-6)
    first = jnp.argmax(is_enough)
    scaled = jnp.minimum(probs * scale[first], cap)
    left = jnp.maximum(1.0 - jnp.sum(scaled), 0.0)
    is_empty = allowed & (probs <= 0)
    spread = jnp.where(is_empty, left / jnp.maximum(jnp.sum(is_empty), 1), 0.0)
    return jnp.where(below[first] > 1e-30, scaled, scaled + spread)


def floor_and_cap(
    probs: Float[Array, " items"],
    *,
    fraction: float | Float[Array, ""],
    cap: float | None = None,
    mask: Bool[Array, " items"] | None = None,
) -> Float[Array, " items"]:
    """Applies an exact floor λ / N and an exact cap together.

    Args:
      probs: sum to 1 over what the mask allows.
      fraction: λ.
      cap: the largest final probability as a multiple of the uniform one, at least 1; None: off.
    """
    num_allowed = probs.shape[0] if mask is None else jnp.maximum(jnp.sum(mask), 1)
    if cap is not None:
        room = (cap - fraction) / jnp.maximum(1.0 - fraction, 1e-6) / num_allowed
        probs = cap_probabilities(probs, room, mask)
    return mix_uniform(probs, fraction, mask)


def look_back(
    scores: Float[Array, " bins"],
    last: Int[Array, " bins"],
    *,
    size: int,
    decay: float,
    edge: str = "stop",
) -> Float[Array, " bins"]:
    """Spreads scores to the bins before them: z_s = sum_{u < size} k_u x_{s+u}, k_u ~ decay^u.

    What leads to a failure happens before it, so the bins before a failing one gain as well.

    Args:
      scores: per bin.
      last: the last bin of each bin's clip; nothing crosses it.
      size: bins of the kernel; 1 changes nothing.
      decay: ratio of one kernel weight to the one before.
      edge: at the end of a clip, "stop" renormalises the kernel over the bins there are,
        "replicate" repeats the last bin.
    Raises:
      ValueError: for another edge.
    """
    if edge not in ("stop", "replicate"):
        raise ValueError(f"edge must be stop or replicate, got {edge!r}")
    here = jnp.arange(scores.shape[0])
    total, weight = jnp.zeros_like(scores), jnp.zeros_like(scores)
    for offset in range(size):
        place = here + offset
        is_counted = (place <= last) if edge == "stop" else jnp.ones(scores.shape, bool)
        k = jnp.where(is_counted, decay**offset, 0.0)
        total = total + k * scores[jnp.minimum(place, last)]
        weight = weight + k
    return total / weight
