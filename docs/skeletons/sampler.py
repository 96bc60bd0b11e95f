"""`my_sampler`: items in proportion to their recent loss. Unbiased with correction 1.

Say here what it draws, as a formula,

    q = (1 - λ) w / Σw + λ / N,

what it remembers, when it wins, when it loses, and where it is from. With a mask, N counts the
allowed items and the others are never drawn.

Source: author year (the paper or system).
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from . import corrections, pyramid, pyramid_write, schedules, scores
from .base import (
    Draw,
    Feedback,
    Sampler,
    bind,
    check_at_least,
    check_fraction,
    check_items,
    usable_rows,
)
from .pyramid import WeightPyramid
from .scores import MeanLoss


@dataclasses.dataclass(frozen=True, kw_only=True)
class MySamplerConfig:
    """Settings of `my_sampler`.

    Attributes:
      num_items: size of the set, below 2^31.
      batch_size: items per draw.
      decay: how much of an item's old score survives a visit.
      uniform_fraction: λ, the share of uniform draws; in (0, 1].
      correction: exponent of the weights; 1 is unbiased, 0 leaves the loss uncorrected.
      warmup_steps: steps drawn uniformly while scores are collected.
    """

    num_items: int
    batch_size: int
    decay: float = 0.5
    uniform_fraction: float = 0.25
    correction: float = 1.0
    warmup_steps: int = 100

    def __post_init__(self) -> None:
        check_items(self.num_items, self.batch_size)
        check_fraction("decay", self.decay)
        check_fraction("uniform_fraction", self.uniform_fraction, is_open_at_zero=True)
        check_fraction("correction", self.correction)
        check_at_least("warmup_steps", self.warmup_steps, 0)


class MySamplerState(NamedTuple):
    """What `my_sampler` remembers.

    Attributes:
      weights: relative loss per item, with the sums above.
      mean: running mean loss over all items.
      step: updates seen.
      allowed: weight 1 for the items a mask allows; None: all.
    """

    weights: WeightPyramid
    mean: MeanLoss
    step: Int[Array, ""]
    allowed: WeightPyramid | None = None


def init(
    config: MySamplerConfig, key: Key[Array, ""], *, mask: Bool[Array, "..."] | None = None
) -> MySamplerState:
    """Starts with every item, or every item a mask allows, counting as average.

    Raises:
      ValueError: for a mask of another size or one that forbids everything.
    """
    del key
    allowed = None if mask is None else pyramid.build_mask(mask, config.num_items)
    start = jnp.ones(config.num_items, jnp.float32) if mask is None else mask.reshape(-1)
    return MySamplerState(
        weights=pyramid.build(start.astype(jnp.float32)),
        mean=scores.init_mean_loss(),
        step=jnp.zeros((), jnp.int32),
        allowed=allowed,
    )


def probabilities(config: MySamplerConfig, state: MySamplerState) -> Float[Array, " items"]:
    """Gives the exact probability of every item, in O(N)."""
    index = jnp.arange(config.num_items, dtype=jnp.int32)
    share = _uniform_fraction(config, state)
    return pyramid.mixture_probability(state.weights, index, share, state.allowed)


def sample(config: MySamplerConfig, key: Key[Array, ""], state: MySamplerState) -> Draw:
    """Draws items independently from the mixture of weighted and uniform."""
    share = _uniform_fraction(config, state)
    items, probs = pyramid.draw(
        key, state.weights, config.batch_size, uniform_fraction=share, prior=state.allowed
    )
    count = pyramid.num_allowed(state.allowed, config.num_items)
    weights = corrections.importance_weights(probs, count, exponent=config.correction)
    return Draw(items=items, probs=probs, weights=weights)


def update(
    config: MySamplerConfig, state: MySamplerState, draw: Draw, feedback: Feedback
) -> MySamplerState:
    """Moves the scores of the drawn items towards their new relative loss.

    Rows of one item are averaged first. Rows that are invalid, non-finite or negative are ignored.
    """
    usable = usable_rows(feedback)
    count = pyramid.num_allowed(state.allowed, config.num_items)
    full = corrections.importance_weights(draw.probs, count)
    mean = scores.update_mean_loss(state.mean, feedback.value, full, usable)
    relative = scores.relative_loss(feedback.value, scores.mean_loss(mean))
    weights = pyramid_write.write(
        state.weights,
        draw.items,
        relative,
        valid=usable,
        blend_fn=lambda old, new: scores.moving_average(old, new, config.decay),
    )
    return state._replace(weights=weights, mean=mean, step=state.step + 1)


def make(config: MySamplerConfig) -> Sampler[MySamplerState]:
    """Binds the config."""
    return bind(config, init, sample, update, probabilities)


def _uniform_fraction(config: MySamplerConfig, state: MySamplerState) -> Float[Array, ""]:
    return schedules.uniform_fraction(
        state.step, floor=config.uniform_fraction, warmup_steps=config.warmup_steps
    )
