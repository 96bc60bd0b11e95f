"""Rows worked out in halves, or in rounds, are the rows worked out at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from samplers import pyramid
from samplers.in_halves import in_halves, in_rounds


def rows_fn(x, index):
    return {"sum": x.sum(axis=1) + index, "bent": jnp.sin(x)}


@pytest.mark.parametrize(
    ("split", "n"),
    [(in_halves, n) for n in (1, 2, 7, 8, 2**17 + 1)]
    + [(in_rounds, n) for n in (1, 2**16, 2**16 + 1, 2**18 + 3)],
)
def test_parts_are_the_whole(split, n):
    x = jax.random.normal(jax.random.key(0), (n, 3))
    index = jnp.arange(n, dtype=jnp.float32)
    found, whole = jax.jit(lambda: split(rows_fn, x, index))(), rows_fn(x, index)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, whole)


def test_derivatives_pass_through_rows_and_what_is_read_beside_them():
    x = jax.random.normal(jax.random.key(0), (7, 3))

    def total(scale, x, evaluate):
        return jnp.sum(jnp.square(evaluate(lambda x: scale * jnp.sin(x), x)))

    def at_once(row_fn, x):
        return row_fn(x)

    halves = jax.jit(jax.grad(lambda s, x: total(s, x, in_halves), argnums=(0, 1)))(2.0, x)
    whole = jax.grad(lambda s, x: total(s, x, at_once), argnums=(0, 1))(2.0, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), halves, whole)


def test_large_batches_are_drawn_as_their_parts_are():
    tree = pyramid.build(jax.random.uniform(jax.random.key(0), (5000,)))
    words = jax.random.bits(jax.random.key(1), (pyramid.num_words(tree), 3 * 2**16 + 5), jnp.uint32)
    whole = jax.jit(pyramid.descend)(tree, words)
    parts = [pyramid.descend(tree, words[:, i : i + 40_000]) for i in range(0, len(whole), 40_000)]
    np.testing.assert_array_equal(whole, jnp.concatenate(parts))
