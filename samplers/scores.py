"""What is remembered per item: moving averages that cost O(batch) and never touch the rest.

Losses are remembered relative to the current mean loss. As training proceeds all losses shrink;
an item last seen long ago would otherwise look hard only because it was seen early. A relative
score keeps its meaning ("twice the average"), an item never seen counts as average (1), and
both hold without rewriting any item.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

_TINY = 1e-30


class MeanLoss(NamedTuple):
    """A running mean over batches.

    Attributes:
      sum: exponentially weighted sum of batch means.
      weight: the weights that went into it; 0 before the first batch.
    """

    sum: Float[Array, ""]
    weight: Float[Array, ""]


def init_mean_loss() -> MeanLoss:
    """Starts a running mean that has seen nothing."""
    return MeanLoss(sum=jnp.zeros((), jnp.float32), weight=jnp.zeros((), jnp.float32))


def update_mean_loss(
    mean: MeanLoss,
    loss: Float[Array, " n"],
    weights: Float[Array, " n"],
    usable: Bool[Array, " n"],
    *,
    decay: float = 0.9,
) -> MeanLoss:
    """Adds one batch; `weights` u / q make its mean an estimate over all items.

    Bad input: unusable rows are left out; a batch without usable rows changes nothing.
    """
    usable = usable & jnp.isfinite(weights)
    scale = jnp.sum(jnp.where(usable, weights, 0.0))
    batch = jnp.sum(jnp.where(usable, weights * jnp.minimum(loss, 1e18), 0.0)) / jnp.maximum(
        scale, _TINY
    )
    is_counted = scale > 0
    return MeanLoss(
        sum=jnp.where(is_counted, decay * mean.sum + (1.0 - decay) * batch, mean.sum),
        weight=jnp.where(is_counted, decay * mean.weight + (1.0 - decay), mean.weight),
    )


def mean_loss(mean: MeanLoss) -> Float[Array, ""]:
    """Gives the running mean, free of start-up bias; 0 before the first batch."""
    return mean.sum / jnp.maximum(mean.weight, _TINY)


def relative_loss(loss: Float[Array, " n"], mean: Float[Array, ""]) -> Float[Array, " n"]:
    """Divides losses by the mean loss; all are 1, average, while the mean is 0."""
    return jnp.where(mean > 0, loss / jnp.maximum(mean, _TINY), 1.0)


def moving_average(
    old: Float[Array, " n"], new: Float[Array, " n"], decay: float
) -> Float[Array, " n"]:
    """Blends: decay * old + (1 - decay) * new."""
    return decay * old + (1.0 - decay) * new


def is_due(step: Int[Array, ""], every: int) -> Bool[Array, ""]:
    """Says whether something done every so many steps is due; always at step 0."""
    return step % every == 0


def revert_to_average(
    score: Float[Array, "..."], keep: float | Float[Array, ""]
) -> Float[Array, "..."]:
    """Forgets: moves relative scores towards 1, keeping a share of their distance to it."""
    return 1.0 + (score - 1.0) * keep


def grow_stale(score: Float[Array, "..."], gain: float, *, highest: float) -> Float[Array, "..."]:
    """Raises scores not refreshed since the last call, up to a bound: a staleness bonus.

    Source: the staleness term of prioritised level replay (Jiang et al. 2021), made
    multiplicative so that it needs no clock per item.
    """
    return jnp.maximum(score, jnp.minimum(score * (1.0 + gain), highest))


def failure_rate(
    failures: Float[Array, "*n"],
    exposure: Float[Array, "*n"],
    *,
    prior_failures: float | Float[Array, ""] = 1.0,
    prior_exposure: float = 2.0,
) -> Float[Array, "*n"]:
    """Computes the posterior mean (F + a) / (N + a + b) of a Beta prior; b = prior_exposure - a.

    Bad input: without prior and exposure the rate is 0.
    """
    total = exposure + prior_exposure
    return (failures + prior_failures) / jnp.where(total > 0, total, 1.0)


def power_inverse(weight: Float[Array, "..."], exponent: float) -> Float[Array, "..."]:
    """Recovers a score from score^exponent; with exponent 0 every score is 1."""
    if exponent == 1.0:
        return weight
    return jnp.ones_like(weight) if exponent == 0 else weight ** (1.0 / exponent)
