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
