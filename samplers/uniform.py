"""`uniform`: every item equally likely, with replacement, independently. Unbiased, weights 1.

With a mask, every allowed item; the loss is then unbiased for the mean over those.

The baseline every other sampler is measured against, so it must be uniform indeed: 64 random bits
are scaled to N, which gives every index 1 / N to within 2^-64.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from . import pyramid
from .base import Draw, Feedback, Sampler, bind, check_items, uniform_index
from .pyramid import WeightPyramid


@dataclasses.dataclass(frozen=True, kw_only=True)
class UniformConfig:
    """Settings of `uniform`.

    Attributes:
      num_items: size of the set, below 2^31.
      batch_size: items per draw.
    """

    num_items: int
    batch_size: int

    def __post_init__(self) -> None:
        check_items(self.num_items, self.batch_size)


class UniformState(NamedTuple):
    """What `uniform` remembers.

    Attributes:
      step: updates seen.
      allowed: weight 1 for the items a mask allows; None: all.
    """

    step: Int[Array, ""]
    allowed: WeightPyramid | None = None


def init(
    config: UniformConfig, key: Key[Array, ""], *, mask: Bool[Array, "..."] | None = None
) -> UniformState:
    """Starts; there is nothing to remember but the mask.

    Raises:
      ValueError: for a mask of another size or one that forbids everything.
    """
    del key
    allowed = None if mask is None else pyramid.build_mask(mask, config.num_items)
    return UniformState(step=jnp.zeros((), jnp.int32), allowed=allowed)


def probabilities(config: UniformConfig, state: UniformState) -> Float[Array, " items"]:
    """Gives 1 / N for every item; with a mask, 1 over the number allowed, and 0 elsewhere."""
    if state.allowed is not None:
        return pyramid.probabilities(state.allowed, config.num_items)
    return jnp.full(config.num_items, 1.0 / config.num_items, jnp.float32)


def sample(config: UniformConfig, key: Key[Array, ""], state: UniformState) -> Draw:
    """Draws items independently and uniformly; all weights are 1."""
    n = config.batch_size
    if state.allowed is not None:
        items, probs = pyramid.draw(key, state.allowed, n)
        return Draw(items=items, probs=probs, weights=jnp.ones(n, jnp.float32))
    words = jax.random.bits(key, (2, n), jnp.uint32)
    return Draw(
        items=uniform_index(words[0], words[1], config.num_items),
        probs=jnp.full(n, 1.0 / config.num_items, jnp.float32),
        weights=jnp.ones(n, jnp.float32),
    )


def update(
    config: UniformConfig, state: UniformState, draw: Draw, feedback: Feedback
) -> UniformState:
    """Counts the step; feedback changes nothing."""
    del config, draw, feedback
    return state._replace(step=state.step + 1)


def make(config: UniformConfig) -> Sampler[UniformState]:
    """Binds the config."""
    return bind(config, init, sample, update, probabilities)
