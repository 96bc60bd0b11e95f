"""`uniform_epochs`: every item once per epoch, in random order. Unbiased over orders, weights 1.

The order is a keyed permutation computed on the fly (a Feistel network over the next power of four,
walked until it lands inside the set), so an epoch over 10^9 items needs no memory. The last
batch of an epoch runs on into the next one.

Draws depend on the state alone: the key given to `init` fixes the order, the key given to `sample`
is not used.

Source: Black & Rogaway 2002 (ciphers with arbitrary finite domains).
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt32

from .base import Draw, Feedback, Sampler, bind, check_items

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
    """

    seed: UInt32[Array, "2"]
    epoch: Int[Array, ""]
    position: Int[Array, ""]


def init(config: EpochsConfig, key: Key[Array, ""]) -> EpochsState:
    """Starts the first epoch in an order fixed by the key."""
    del config
    seed = jax.random.bits(key, (2,), jnp.uint32)
    return EpochsState(seed, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def probabilities(config: EpochsConfig, state: EpochsState) -> Float[Array, " items"]:
    """Gives 1 / N for every item: the chance over all orders."""
    del state
    return jnp.full(config.num_items, 1.0 / config.num_items, jnp.float32)


def sample(config: EpochsConfig, key: Key[Array, ""], state: EpochsState) -> Draw:
    """Takes the next items of the order; all weights are 1."""
    del key
    n, num_items = config.batch_size, config.num_items
    left = num_items - state.position
    slot = jnp.arange(n, dtype=jnp.int32)
    is_next = slot >= left
    place = jnp.where(is_next, slot - left, state.position + jnp.minimum(slot, left - 1))
    items = permute(place, state.seed, state.epoch + is_next, num_items)
    return Draw(
        items=items,
        probs=jnp.full(n, 1.0 / num_items, jnp.float32),
        weights=jnp.ones(n, jnp.float32),
    )


def update(config: EpochsConfig, state: EpochsState, draw: Draw, feedback: Feedback) -> EpochsState:
    """Moves on by one batch."""
    del draw, feedback
    left = config.num_items - state.position
    is_done = left <= config.batch_size
    position = jnp.where(is_done, config.batch_size - left, state.position + config.batch_size)
    return EpochsState(state.seed, state.epoch + is_done, position)


def make(config: EpochsConfig) -> Sampler[EpochsState]:
    """Binds the config."""
    return bind(config, init, sample, update, probabilities)


def permute(
    place: Int[Array, " n"],
    seed: UInt32[Array, "2"],
    epoch: Int[Array, " n"],
    num_items: int,
) -> Int[Array, " n"]:
    """Maps places 0 .. N - 1 one to one onto items in the order of an epoch."""
    half_bits = max(1, (max(num_items - 1, 1).bit_length() + 1) // 2)
    half_mask = np.uint32(2**half_bits - 1)
    salt = epoch.astype(jnp.uint32) * np.uint32(0x9E3779B9)

    def encrypt(value: UInt32[Array, " n"]) -> UInt32[Array, " n"]:
        left, right = value >> half_bits, value & half_mask
        for index in range(_ROUNDS):
            mixed = _mix(right ^ salt ^ seed[index % 2], np.uint32(index * 0x85EBCA77 % 2**32))
            left, right = right, left ^ (mixed & half_mask)
        return (left << half_bits) | right

    def walk(value: UInt32[Array, " n"]) -> UInt32[Array, " n"]:
        return jnp.where(value >= num_items, encrypt(value), value)

    start = encrypt(place.astype(jnp.uint32))
    found = jax.lax.while_loop(lambda value: jnp.any(value >= num_items), walk, start)
    return found.astype(jnp.int32)


def _mix(value: UInt32[Array, " n"], salt: np.uint32) -> UInt32[Array, " n"]:
    value = (value ^ salt) * np.uint32(0x7FEB352D)
    value = (value ^ (value >> 15)) * np.uint32(0x846CA68B)
    return value ^ (value >> 16)
