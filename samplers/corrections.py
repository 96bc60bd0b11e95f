"""Weights that undo a sampler's preference, and numbers that say how strong it is.

Notation: q is the probability a draw was made with, u the uniform one (1 / N), w a weight.
The full weight u / q makes mean(w * loss) unbiased for the mean over all items; an exponent
below 1 trades that for less variance and keeps part of the preference (soft mining).
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_TINY = 1e-37


def importance_weights(
    probs: Float[Array, "*n"],
    num_items: int | float | Int[Array, ""] | Float[Array, ""],
    *,
    exponent: float | int = 1.0,
) -> Float[Array, "*n"]:
    """Computes (u / q)^exponent: 1 is unbiased, 0 no correction at all.

    Bad input: probabilities of 0 count as 1e-37; a drawn item never has one.
    Source: Owen, Monte Carlo theory, ch. 9; the exponent as in Schaul et al. 2016.
    """
    ratio = 1.0 / num_items / jnp.maximum(probs, _TINY)
    return ratio if exponent == 1 else ratio**exponent


def scale_to_max_one(weights: Float[Array, " n"]) -> Float[Array, " n"]:
    """Divides weights by the largest of the batch, as prioritised replay does. Biased."""
    return weights / jnp.maximum(jnp.max(weights), _TINY)


def scale_to_mean_one(weights: Float[Array, " n"]) -> Float[Array, " n"]:
    """Divides weights by their batch mean (self-normalised): consistent, biased in O(1 / n)."""
    return weights / jnp.maximum(jnp.mean(weights), _TINY)


def clip_weights(
    weights: Float[Array, " n"], low: float | Float[Array, ""], high: float | Float[Array, ""]
) -> Float[Array, " n"]:
    """Clips weights to [low, high]. Biased, with bounded variance."""
    return jnp.clip(weights, low, high)


def soft_mining_weights(
    errors: Float[Array, " n"],
    *,
    exponent: float | Float[Array, ""],
    low: float = 0.2,
    floor: float = 2.0**-10,
) -> Float[Array, " n"]:
    """Computes max(error, floor)^-exponent clipped to [low, mean + unbiased std]. Biased.

    Source: Kheradmand et al. 2024 (Soft Mining), the clipping as in the published program.
    """
    raw = jnp.maximum(errors, floor) ** (-exponent)
    high = jnp.mean(raw) + jnp.std(raw, ddof=1) if errors.shape[0] > 1 else jnp.max(raw)
    return jnp.clip(raw, low, jnp.maximum(high, low))


def effective_sample_size(weights: Float[Array, " n"]) -> Float[Array, ""]:
    """Computes (sum w)^2 / sum w^2: how many equal weights estimate equally well; in [1, n].

    Bad input: all weights 0 give 0.
    """
    scaled = scale_to_max_one(weights)
    return jnp.sum(scaled) ** 2 / jnp.maximum(jnp.sum(scaled**2), _TINY)


def normalised_entropy(probs: Float[Array, " items"]) -> Float[Array, ""]:
    """Computes -sum p log p / log N: 1 for uniform, 0 for certainty; 1 for a single item."""
    if probs.shape[0] == 1:
        return jnp.ones((), probs.dtype)
    terms = jnp.where(probs > 0, probs * jnp.log(jnp.where(probs > 0, probs, 1.0)), 0.0)
    return -jnp.sum(terms) / jnp.log(float(probs.shape[0]))


def effective_items(probs: Float[Array, " items"]) -> Float[Array, ""]:
    """Computes 1 / sum p^2: how many equally likely items concentrate as much."""
    return 1.0 / jnp.maximum(jnp.sum(probs**2), _TINY)
