"""Rows worked out in two halves are the rows worked out at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from samplers.in_halves import in_halves


def rows_fn(x, index):
    return {"sum": x.sum(axis=1) + index, "bent": jnp.sin(x)}


@pytest.mark.parametrize("n", [1, 2, 7, 8])
def test_halves_are_the_whole(n):
    x = jax.random.normal(jax.random.key(0), (n, 3))
    index = jnp.arange(n, dtype=jnp.float32)
    found, whole = jax.jit(lambda: in_halves(rows_fn, x, index))(), rows_fn(x, index)
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
