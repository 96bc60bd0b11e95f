"""The one shape every sampler has: four pure functions over an explicit state.

Notation: n items drawn at once; `*rest` is empty except for points along rays.
States, draws and feedback are NamedTuples of arrays, so they pass through jit, vmap, scan,
donation and checkpoints unchanged; configs are frozen dataclasses bound by `make(config)`.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, Key, Shaped, UInt32

from .threefry import unrolled

State = TypeVar("State")

MAX_ITEMS = 2**31 - 1


class Draw(NamedTuple):
    """What a sampler drew.

    Attributes:
      items: an index array or a NamedTuple of arrays, leading axis n.
      probs: probability (finite sets) or density (coordinates) of each item under the sampler.
      weights: multiply the per-item loss by this, then average over the draw. For samplers the
        registry marks unbiased, that average is unbiased for the mean over all items.
    """

    items: Any
    probs: Float[Array, "n *rest"]
    weights: Float[Array, "n *rest"]


class Feedback(NamedTuple):
    """What the train step learned about a draw.

    Attributes:
      value: loss, failure (0 or 1) or rendered depth; one per item drawn, unweighted.
      valid: False marks rows to ignore. None: all rows count. Non-finite and negative losses
        are ignored whether marked or not.
      grad: derivative of the loss with respect to a continuous item, for samplers that move.
    """

    value: Float[Array, "n *rest"]
    valid: Bool[Array, "n *rest"] | None = None
    grad: Float[Array, "n d"] | None = None


def _keep(state: State, num_steps: int | float) -> State:
    del num_steps
    return state


@dataclasses.dataclass(frozen=True)
class Sampler(Generic[State]):
    """A sampler with its configuration bound.

    Attributes:
      init: (key, *data, mask=None) -> state. Large data enters here and lives in the state. A
        mask says which items may be drawn at all; samplers that know none raise ValueError.
      sample: (key, state, *query) -> Draw. Does not change the state.
      update: (state, draw, feedback) -> state. Uses no randomness.
      probabilities: state -> probability of every item, or None where there is no finite set.
      plan: (state, num_steps) -> state. Tells how many steps the run will have, for samplers that
        end otherwise than they begin; may be told again. Most have no use for it.
      reweigh: (state, draw, errors) -> weights, for samplers whose weights depend on the errors
        their draw then meets, given with no gradient: `state` is the one drawn from, the weights
        take the place of `draw.weights`. None: those are final.
      config: what was bound, for reports and error messages.
      takes_mask: whether `init` knows masks.
    """

    init: Callable[..., State]
    sample: Callable[..., Draw]
    update: Callable[[State, Draw, Feedback], State]
    probabilities: Callable[[State], Float[Array, "..."]] | None
    config: Any
    takes_mask: bool = False
    plan: Callable[[State, int | float], State] = _keep
    reweigh: Callable[[State, Draw, Float[Array, " n"]], Float[Array, " n"]] | None = None


def bind(
    config: Any,
    init: Callable[..., State],
    sample: Callable[..., Draw],
    update: Callable[..., State],
    probabilities: Callable[..., Float[Array, "..."]] | None = None,
    *,
    plan: Callable[..., State] | None = None,
    reweigh: Callable[..., Float[Array, " n"]] | None = None,
) -> Sampler[State]:
    """Binds a module's functions to a config; the body of every `make`.

    The bound functions raise ValueError for old-style keys, and for feedback whose rows are not
    those of the draw.
    """
    takes_mask = "mask" in inspect.signature(init).parameters

    def bound_init(
        key: Key[Array, ""], *data: Any, mask: Bool[Array, "..."] | None = None
    ) -> State:
        check_key(key)
        if mask is None:
            return init(config, unrolled(key), *data)
        if not takes_mask:
            raise ValueError(f"the sampler of {type(config).__name__} takes no mask")
        return init(config, unrolled(key), *data, mask=mask)

    def bound_sample(key: Key[Array, ""], state: State, *query: Any) -> Draw:
        check_key(key)
        return sample(config, unrolled(key), state, *query)

    def bound_update(state: State, draw: Draw, feedback: Feedback) -> State:
        _check_rows(draw, feedback)
        return update(config, state, draw, feedback)

    def bound_probabilities(state: State) -> Float[Array, "..."]:
        if probabilities is None:
            raise ValueError(f"{type(config).__name__} samples no finite set of items")
        return probabilities(config, state)

    return Sampler(
        init=bound_init,
        sample=bound_sample,
        update=bound_update,
        probabilities=None if probabilities is None else bound_probabilities,
        config=config,
        takes_mask=takes_mask,
        plan=plan or _keep,
        reweigh=None if reweigh is None else functools.partial(reweigh, config),
    )


def check_key(key: Any) -> None:
    """Raises ValueError unless a key is one typed key, as `jax.random.key` makes them."""
    dtype = getattr(key, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise ValueError(
            f"needs a typed key, jax.random.key(seed) and its splits; got {dtype or type(key)}"
        )
    if jnp.shape(key) != ():
        raise ValueError(f"needs one key, got an array of keys of shape {jnp.shape(key)}")


def _check_rows(draw: Draw, feedback: Feedback) -> None:
    wanted = jnp.shape(draw.probs)
    for name in ("value", "valid"):
        given = getattr(feedback, name)
        if given is None:
            continue
        shape = jnp.shape(given)
        # points along a ray may be answered for by their ray
        if not shape or shape != wanted[: len(shape)]:
            raise ValueError(
                f"feedback.{name} must have one entry per row of the draw, {wanted}, got {shape}"
            )
    grad = feedback.grad
    if grad is not None and jnp.shape(grad)[:1] != wanted[:1]:
        raise ValueError(f"feedback.grad must have {wanted[0]} rows, got {jnp.shape(grad)}")


def check_mask(mask: Shaped[Array, "..."], num_items: int) -> None:
    """Raises ValueError unless there is one truth value per item and, where known, one True."""
    if mask.dtype != bool:
        raise ValueError(f"the mask must hold true and false, got {mask.dtype}")
    if mask.size != num_items:
        raise ValueError(f"the mask must have {num_items} values, got {mask.size}")
    if not isinstance(mask, Tracer) and not bool(jnp.any(mask)):
        raise ValueError("the mask forbids every item")


def usable_rows(feedback: Feedback) -> Bool[Array, "n *rest"]:
    """Marks the rows a loss-driven sampler may learn from: valid, finite and not negative."""
    usable = jnp.isfinite(feedback.value) & (feedback.value >= 0)
    return usable if feedback.valid is None else usable & feedback.valid


def check_fraction(name: str, value: float | int, *, is_open_at_zero: bool = False) -> None:
    """Raises ValueError unless `value` is in [0, 1], or in (0, 1] when open at zero."""
    is_low = value <= 0 if is_open_at_zero else value < 0
    if is_low or not value <= 1:
        interval = "(0, 1]" if is_open_at_zero else "[0, 1]"
        raise ValueError(f"{name} must be in {interval}, got {value}")


def check_at_least(name: str, value: float | int, low: float | int) -> None:
    """Raises ValueError unless `value` is at least `low` (NaN is not)."""
    if not value >= low:
        raise ValueError(f"{name} must be at least {low}, got {value}")


def check_items(num_items: int, batch_size: int) -> None:
    """Raises ValueError unless items can be indexed by int32 and the batch is not empty."""
    if not 1 <= num_items <= MAX_ITEMS:
        raise ValueError(f"num_items must be in [1, 2^31 - 1], got {num_items}")
    check_at_least("batch_size", batch_size, 1)


def uniform_bits(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Draws uniforms k / 2^24 in [0, 1), every value of the grid exact in float32.

    The product with any finite float32 total stays strictly below the total, which is what
    inverting a cumulative sum needs.
    """
    bits = jax.random.bits(key, shape, jnp.uint32)
    return (bits >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)


def uniform_index(
    first: UInt32[Array, "*n"], second: UInt32[Array, "*n"], num_items: int | Int[Array, ""]
) -> Int[Array, "*n"]:
    """Maps 64 random bits to an index: floor(bits * N / 2^64).

    Every index has probability 1 / N to within 2^-64; nothing is clipped.
    Source: Lemire 2019, without the rejection step, which 64 bits make needless.
    """
    span = jnp.asarray(num_items, jnp.uint32)
    low = first * span
    carry = (low + multiply_high(second, span)) < low
    return (multiply_high(first, span) + carry.astype(jnp.uint32)).astype(jnp.int32)


def multiply_high(
    a: UInt32[Array, "*n"], b: UInt32[Array, "..."] | np.uint32
) -> UInt32[Array, "*n"]:
    """Gives the upper 32 bits of a 32 by 32 bit product, by halves of 16 bits."""
    b = jnp.asarray(b, jnp.uint32)
    a_low, a_high, b_low, b_high = a & 0xFFFF, a >> 16, b & 0xFFFF, b >> 16
    middle = a_high * b_low + ((a_low * b_low) >> 16)
    other = a_low * b_high + (middle & 0xFFFF)
    return a_high * b_high + (middle >> 16) + (other >> 16)
