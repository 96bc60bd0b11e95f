"""The unrolled form gives JAX's own bits, through every function of `jax.random`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplers.threefry import unrolled

FUNCTIONS = {
    "few words": lambda key: jax.random.bits(key, (3, 7)),
    "many words": lambda key: jax.random.bits(key, (3, 1500)),
    "one word": lambda key: jax.random.bits(key, ()),
    "no words": lambda key: jax.random.bits(key, (0, 3)),
    "bytes": lambda key: jax.random.bits(key, (5000,), jnp.uint8),
    "short words": lambda key: jax.random.bits(key, (5000,), jnp.uint16),
    "uniform": lambda key: jax.random.uniform(key, (4096, 2)),
    "normal": lambda key: jax.random.normal(key, (4097,)),
    "integers": lambda key: jax.random.randint(key, (4098,), -3, 1000),
    "permutation": lambda key: jax.random.permutation(key, 5000),
    "categorical": lambda key: jax.random.categorical(key, jnp.arange(5.0), shape=(2000,)),
    "split": lambda key: jax.random.key_data(jax.random.split(key, (2, 3))),
    "fold in": lambda key: jax.random.key_data(jax.random.fold_in(key, 4_000_000_000)),
    "chain": lambda key: jax.random.uniform(
        jax.random.split(jax.random.fold_in(key, 3))[1], (4099,)
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_bits_are_jaxs(name):
    function = FUNCTIONS[name]
    for seed in (0, 1, 2**31 - 1):
        key = jax.random.key(seed)
        expected = np.asarray(function(key))
        np.testing.assert_array_equal(function(unrolled(key)), expected)
        np.testing.assert_array_equal(jax.jit(lambda k: function(unrolled(k)))(key), expected)


def test_wide_words_and_batches_of_keys():
    keys = jax.random.split(jax.random.key(3), 4)
    expected = jax.vmap(lambda key: jax.random.bits(key, (5000,)))(keys)
    np.testing.assert_array_equal(
        jax.vmap(lambda key: jax.random.bits(key, (5000,)))(unrolled(keys)), expected
    )
    with jax.enable_x64():
        key = jax.random.key(5)
        wide = jax.random.bits(unrolled(key), (4096,), jnp.uint64)
        np.testing.assert_array_equal(wide, jax.random.bits(key, (4096,), jnp.uint64))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_any_key_folds_in_any_number(seed, number):
    key = jax.random.key(seed)
    number = jnp.uint32(number)
    np.testing.assert_array_equal(
        jax.random.key_data(jax.random.fold_in(unrolled(key), number)),
        jax.random.key_data(jax.random.fold_in(key, number)),
    )


def test_other_keys_come_back_as_they_are():
    other = jax.random.key(0, impl="rbg")
    assert unrolled(other) is other
    twice = unrolled(unrolled(jax.random.key(0)))
    assert jax.random.key_impl(twice) == jax.random.key_impl(unrolled(jax.random.key(0)))
