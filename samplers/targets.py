"""From scores to probabilities: how strongly a sampler prefers what scores high.

Order matters and is the same everywhere: a preference (power, rank, top-k, look-back, prior), then
normalisation, then an exact uniform floor and a cap. With floor λ every item keeps at least λ / N,
so the importance weight never exceeds 1 / λ.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


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
