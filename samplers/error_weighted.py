"""`error_weighted`: items in proportion to their recent loss. Unbiased with correction 1.

Remembers one relative loss per item (see `scores`), so an item never visited counts as average and
one last visited long ago keeps its standing among the others. Drawn with the exact probability

    q = (1 - λ) w / Σw + λ / N,   w = score^focus,

so weights (1 / (N q))^correction are at most λ^-correction. λ is scheduled: 1 while warming up,
then the uniform fraction, optionally back to 1 at the end. With a mask, N counts the allowed items
and the others are never drawn.

Wins where few items hold most of the error and each is visited many times. With far more items
than visits most scores are stale; `spatial` shares them between neighbours and does better.

Source: prioritised replay (Schaul et al. 2016) with a defensive mixture (Hesterberg 1995).
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
class ErrorWeightedConfig:
    """Settings of `error_weighted`.

    Attributes:
      num_items: size of the set, below 2^31.
      batch_size: items per draw.
      decay: how much of an item's old score survives a visit.
      focus: exponent of the score; 0 is uniform, above 1 sharpens.
      uniform_fraction: λ, the share of uniform draws; in (0, 1].
      correction: exponent of the weights; 1 is unbiased, 0 leaves the loss uncorrected.
      warmup_steps: steps drawn uniformly while scores are collected.
      ramp_steps: steps over which the uniform fraction then falls to λ.
      handback_from: share of the run after which sampling returns to uniform, once `plan` has said
        how long the run is; None: never.
      handback_over: share of the run that the return takes.
      update_frequency: scores are written every so many steps.
      mean_decay: decay of the running mean loss that scores are relative to.
    """

    num_items: int
    batch_size: int
    decay: float = 0.5
    focus: float = 1.0
    uniform_fraction: float = 0.25
    correction: float = 1.0
    warmup_steps: int = 100
    ramp_steps: int = 0
    handback_from: float | None = None
    handback_over: float = 0.15
    update_frequency: int = 1
    mean_decay: float = 0.9

    def __post_init__(self) -> None:
        check_items(self.num_items, self.batch_size)
        check_fraction("decay", self.decay)
        check_fraction("mean_decay", self.mean_decay)
        check_fraction("uniform_fraction", self.uniform_fraction, is_open_at_zero=True)
        check_fraction("correction", self.correction)
        check_at_least("focus", self.focus, 0)
        check_at_least("warmup_steps", self.warmup_steps, 0)
        check_at_least("ramp_steps", self.ramp_steps, 0)
        schedules.check_handback(self.handback_from, self.handback_over)
        check_at_least("update_frequency", self.update_frequency, 1)


class ErrorWeightedState(NamedTuple):
    """What `error_weighted` remembers.

    Attributes:
      weights: per item score^focus, with the sums above.
      mean: running mean loss over all items.
      step: updates seen.
      run_length: steps of the run; infinite until `plan` says.
      allowed: weight 1 for the items a mask allows; None: all.
    """

    weights: WeightPyramid
    mean: MeanLoss
    step: Int[Array, ""]
    run_length: Float[Array, ""]
    allowed: WeightPyramid | None = None


def init(
    config: ErrorWeightedConfig, key: Key[Array, ""], *, mask: Bool[Array, "..."] | None = None
) -> ErrorWeightedState:
    """Starts with every item, or every item a mask allows, counting as average.

    Raises:
      ValueError: for a mask of another size or one that forbids everything.
    """
    del key
    allowed = None if mask is None else pyramid.build_mask(mask, config.num_items)
    start = jnp.ones(config.num_items, jnp.float32) if mask is None else mask.reshape(-1)
    return ErrorWeightedState(
        weights=pyramid.build(start.astype(jnp.float32)),
        mean=scores.init_mean_loss(),
        step=jnp.zeros((), jnp.int32),
        run_length=jnp.full((), jnp.inf, jnp.float32),
        allowed=allowed,
    )


def probabilities(config: ErrorWeightedConfig, state: ErrorWeightedState) -> Float[Array, " items"]:
    """Gives the exact probability of every item, in O(N)."""
    index = jnp.arange(config.num_items, dtype=jnp.int32)
    share = _uniform_fraction(config, state)
    return pyramid.mixture_probability(state.weights, index, share, state.allowed)


def sample(config: ErrorWeightedConfig, key: Key[Array, ""], state: ErrorWeightedState) -> Draw:
    """Draws items independently from the mixture of weighted and uniform."""
    share = _uniform_fraction(config, state)
    items, probs = pyramid.draw(
        key, state.weights, config.batch_size, uniform_fraction=share, prior=state.allowed
    )
    count = pyramid.num_allowed(state.allowed, config.num_items)
    weights = corrections.importance_weights(probs, count, exponent=config.correction)
    return Draw(items=items, probs=probs, weights=weights)


def update(
    config: ErrorWeightedConfig, state: ErrorWeightedState, draw: Draw, feedback: Feedback
) -> ErrorWeightedState:
    """Moves the scores of the drawn items towards their new relative loss.

    Rows of one item are averaged first. Rows that are invalid, non-finite or negative are ignored.
    """
    usable = usable_rows(feedback)
    count = pyramid.num_allowed(state.allowed, config.num_items)
    full = corrections.importance_weights(draw.probs, count)
    mean = scores.update_mean_loss(
        state.mean, feedback.value, full, usable, decay=config.mean_decay
    )
    relative = scores.relative_loss(feedback.value, scores.mean_loss(mean))
    weights = state.weights
    if config.focus > 0:
        weights = pyramid_write.write(
            weights,
            draw.items,
            relative,
            valid=usable & scores.is_due(state.step, config.update_frequency),
            blend_fn=lambda old, new: _blend(config, old, new),
        )
    return state._replace(weights=weights, mean=mean, step=state.step + 1)


def make(config: ErrorWeightedConfig) -> Sampler[ErrorWeightedState]:
    """Binds the config."""
    return bind(config, init, sample, update, probabilities, plan=schedules.set_run_length)


def item_scores(config: ErrorWeightedConfig, state: ErrorWeightedState) -> Float[Array, " items"]:
    """Gives the relative loss of every item, 1 is average; also where a mask forbids the item."""
    raw = pyramid.leaf_weights(state.weights, config.num_items)
    score = scores.power_inverse(raw, config.focus)
    if state.allowed is None:
        return score
    return jnp.where(pyramid.leaf_weights(state.allowed, config.num_items) > 0, score, 1.0)


def _uniform_fraction(config: ErrorWeightedConfig, state: ErrorWeightedState) -> Float[Array, ""]:
    return schedules.uniform_fraction(
        state.step,
        floor=config.uniform_fraction,
        warmup_steps=config.warmup_steps,
        ramp_steps=config.ramp_steps,
        handback_from=config.handback_from,
        handback_over=config.handback_over,
        run_length=state.run_length,
    )


def _blend(
    config: ErrorWeightedConfig, old: Float[Array, " n"], new: Float[Array, " n"]
) -> Float[Array, " n"]:
    """Averages scores; the pyramid holds score^focus, which is inverted first."""
    score = scores.power_inverse(old, config.focus)
    return scores.moving_average(score, new, config.decay) ** config.focus
