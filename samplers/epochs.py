"""`uniform_epochs`: every item once per epoch, in random order. Unbiased over orders, weights 1.

The order is a keyed permutation computed on the fly (a Feistel network over the next power of four,
walked until it lands inside the set), so an epoch over 10^9 items needs no memory. The last
batch of an epoch runs on into the next one.

With a mask, the items it allows are listed once (four bytes per item of the set) and the order is
one of those.

Draws depend on the state alone: the key given to `init` fixes the order, the key given to `sample`
is not used.

Source: Black & Rogaway 2002 (ciphers with arbitrary finite domains).
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from .base import Draw, Feedback, Sampler, bind, check_items, check_mask

_ROUNDS = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpochsConfig:
    """Settings of `uniform_epochs`.

    Attributes:
      num_items: size of the set, below 2^31.
      batch_size: items per draw, at most num_items.
    """

    num_items: int
    batch_size: int

    def __post_init__(self) -> None:
        check_items(self.num_items, self.batch_size)
        if self.batch_size > self.num_items:
            raise ValueError(
                f"batch_size must be at most num_items without replacement, "
                f"got {self.batch_size} > {self.num_items}"
            )


class EpochsState(NamedTuple):
    """Where in which order we are.

    Attributes:
      seed: fixes the orders of all epochs.
      epoch: epochs finished.
      position: items of this epoch already used.
      listed: every item, those that a mask allows first; None without a mask.
      num_allowed: how many these are.
    """

    seed: UInt32[Array, "2"]
    epoch: Int[Array, ""]
    position: Int[Array, ""]
    listed: Int[Array, " items"] | None = None
    num_allowed: Int[Array, ""] | None = None


def init(
    config: EpochsConfig, key: Key[Array, ""], *, mask: Bool[Array, "..."] | None = None
) -> EpochsState:
    """Starts the first epoch in an order fixed by the key.

    Raises:
      ValueError: for a mask of another size or one that forbids everything.
    """
    seed = jax.random.bits(key, (2,), jnp.uint32)
    state = EpochsState(seed, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))
    if mask is None:
        return state
    check_mask(mask, config.num_items)
    is_allowed = mask.reshape(-1)
    return state._replace(
        listed=jnp.argsort(~is_allowed, stable=True).astype(jnp.int32),
        num_allowed=jnp.sum(is_allowed, dtype=jnp.int32),
    )


def probabilities(config: EpochsConfig, state: EpochsState) -> Float[Array, " items"]:
    """Gives 1 / N for every item a mask allows, else 0: the chance over all orders."""
    if state.listed is None:
        return jnp.full(config.num_items, 1.0 / config.num_items, jnp.float32)
    count = _count(config, state)
    probs = jnp.where(jnp.arange(config.num_items) < count, 1.0 / count, 0.0)
    return jnp.zeros(config.num_items, jnp.float32).at[state.listed].set(probs)


def sample(config: EpochsConfig, key: Key[Array, ""], state: EpochsState) -> Draw:
    """Takes the next items of the order; all weights are 1.

    Bad input: where a mask leaves fewer items than a batch has rows, it holds several epochs.
    """
    del key
    n, count = config.batch_size, _count(config, state)
    left = count - state.position
    slot = jnp.arange(n, dtype=jnp.int32)
    later = jnp.where(slot < left, 0, 1 + (slot - left) // count)
    place = jnp.where(slot < left, state.position + slot, (slot - left) % count)
    items = permute(place, state.seed, state.epoch + later, count)
    if state.listed is not None:
        items = state.listed.at[items].get(mode="promise_in_bounds")
    return Draw(
        items=items,
        probs=jnp.full(n, 1.0 / count, jnp.float32),
        weights=jnp.ones(n, jnp.float32),
    )


def update(config: EpochsConfig, state: EpochsState, draw: Draw, feedback: Feedback) -> EpochsState:
    """Moves on by one batch."""
    del draw, feedback
    n, count = config.batch_size, _count(config, state)
    left = count - state.position
    later = jnp.where(n < left, 0, 1 + (n - left) // count)
    position = jnp.where(n < left, state.position + n, (n - left) % count)
    return state._replace(epoch=state.epoch + later, position=position)


def make(config: EpochsConfig) -> Sampler[EpochsState]:
    """Binds the config."""
    return bind(config, init, sample, update, probabilities)


def permute(
    place: Int[Array, " n"],
    seed: UInt32[Array, "2"],
    epoch: Int[Array, " n"],
    num_items: int | Int[Array, ""],
) -> Int[Array, " n"]:
    """Maps places 0 .. N - 1 one to one onto items in the order of an epoch."""
    count = jnp.asarray(num_items, jnp.uint32)
    bits = 32 - jax.lax.clz(jnp.maximum(count - 1, 1))
    half_bits = (bits + 1) // 2
    half_mask = (jnp.uint32(1) << half_bits) - 1
    salt = epoch.astype(jnp.uint32) * np.uint32(0x9E3779B9)

    def encrypt(value: UInt32[Array, " n"]) -> UInt32[Array, " n"]:
        left, right = value >> half_bits, value & half_mask
        for index in range(_ROUNDS):
            mixed = _mix(right ^ salt ^ seed[index % 2], np.uint32(index * 0x85EBCA77 % 2**32))
            left, right = right, left ^ (mixed & half_mask)
        return (left << half_bits) | right

    def walk(value: UInt32[Array, " n"]) -> UInt32[Array, " n"]:
        return jnp.where(value >= count, encrypt(value), value)

    start = encrypt(place.astype(jnp.uint32))
    found = jax.lax.while_loop(lambda value: jnp.any(value >= count), walk, start)
    return found.astype(jnp.int32)


def _count(config: EpochsConfig, state: EpochsState) -> int | Int[Array, ""]:
    return config.num_items if state.num_allowed is None else state.num_allowed


def _mix(value: UInt32[Array, " n"], salt: np.uint32) -> UInt32[Array, " n"]:
    value = (value ^ salt) * np.uint32(0x7FEB352D)
    value = (value ^ (value >> 15)) * np.uint32(0x846CA68B)
    return value ^ (value >> 16)
