"""JAX's default random numbers in a form made for XLA:CPU: the same bits, sooner.

On CPU `jax.random` runs the twenty rounds of threefry as a loop of five turns whose body is sixteen
kernels. Written out, they fuse into one, several times as fast (`benchmarks/random_bits.py`).
`unrolled` gives a key of the same value whose large draws are made that way, whatever function of
`jax.random` it is handed to. Small draws, splits and folds stay a loop: XLA would write their
rounds into every kernel that uses them, and compile for seconds more.

Source: Salmon et al. 2011 for threefry-2x32-20; the counters are those of JAX with
`jax_threefry_partitionable` (the default since 0.5), and tests compare every bit.
"""

import math
from typing import Any

import jax
import jax.extend.random as extend_random
import jax.numpy as jnp
from jaxtyping import Array, Key, UInt32

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_FEW_WORDS, _MANY_WORDS = 2**10, 2**32
_DEFAULT = "threefry2x32"


def unrolled(key: Key[Array, "*keys"]) -> Key[Array, "*keys"]:
    """Gives the same key in a form whose large draws are quick on CPU.

    Keys of other generators, and all keys on other backends, come back as they are.
    """
    is_default = str(jax.random.key_impl(key)) == _DEFAULT
    is_partitionable = getattr(jax.config, "jax_threefry_partitionable", True)
    if not (is_default and is_partitionable):
        return key
    if jax.default_backend() != "cpu":
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_IMPLEMENTATION)


def threefry_2x32(
    key: UInt32[Array, " 2"], high: UInt32[Array, "*shape"], low: UInt32[Array, "*shape"]
) -> tuple[UInt32[Array, "*shape"], UInt32[Array, "*shape"]]:
    """Encrypts counters of two words."""
    schedule = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(_PARITY))
    left, right = high + schedule[0], low + schedule[1]
    for group in range(5):
        for distance in _ROTATIONS[group % 2]:
            left = left + right
            right = left ^ ((right << distance) | (right >> (32 - distance)))
        left = left + schedule[(group + 1) % 3]
        right = right + (schedule[(group + 2) % 3] + jnp.uint32(group + 1))
    return left, right


def _seed(seed: Array) -> UInt32[Array, " 2"]:
    return jax.random.key_data(jax.random.key(seed, impl=_DEFAULT))


def _split(key: UInt32[Array, " 2"], shape: tuple[int, ...]) -> UInt32[Array, "*keys 2"]:
    return jax.random.key_data(jax.random.split(_plain(key), shape))


def _fold_in(key: UInt32[Array, " 2"], data: Any) -> UInt32[Array, " 2"]:
    return jax.random.key_data(jax.random.fold_in(_plain(key), data))


def _random_bits(key: UInt32[Array, " 2"], bit_width: int, shape: tuple[int, ...]) -> Array:
    size = math.prod(shape)
    if not _FEW_WORDS <= size < _MANY_WORDS:
        return jax.random.bits(_plain(key), shape, f"uint{bit_width}")
    half = -(-size // 2)

    def one_half(half_key: tuple[UInt32[Array, ""], UInt32[Array, " 2"]]) -> Array:
        first, key = half_key
        low = first + jax.lax.iota(jnp.uint32, half)
        left, right = threefry_2x32(key, jnp.zeros_like(low), low)
        if bit_width == 64:
            return (left.astype(jnp.uint64) << 32) | right.astype(jnp.uint64)
        return (left ^ right).astype(f"uint{bit_width}")

    # a loop of two rounds keeps the words: XLA would rather encrypt again in every kernel that
    # reads them, and is not stopped by an optimisation barrier on CPU; each round is given the key,
    # or its schedule would be worked out before the loop, a kernel for every word
    halves = jax.lax.map(one_half, (jnp.asarray([0, half], jnp.uint32), jnp.stack([key, key])))
    return halves.reshape(-1)[:size].reshape(shape)


def _plain(key: UInt32[Array, " 2"]) -> Key[Array, ""]:
    return jax.random.wrap_key_data(key, impl=_DEFAULT)


_IMPLEMENTATION = extend_random.define_prng_impl(
    key_shape=(2,),
    seed=_seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="threefry2x32_unrolled",
    tag="fru",
)
