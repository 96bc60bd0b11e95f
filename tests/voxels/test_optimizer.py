"""One rate per cell: proportions inside a cell survive, sizes between cells do not matter."""

import jax.numpy as jnp
import numpy as np
import optax

from voxels.optimizer import adam_per_cell


def test_a_step_is_along_the_gradient_of_a_cell_whatever_its_size():
    gradient = np.zeros((2, 1, 1, 3), np.float32)
    gradient[0, 0, 0], gradient[1, 0, 0] = (1.0, -0.01, 0.0), (2e-9, 1e-9, 0.0)
    adam = adam_per_cell(optax.constant_schedule(0.5))
    updates, _ = adam.update(jnp.asarray(gradient), adam.init(jnp.zeros_like(gradient)))
    np.testing.assert_allclose(
        np.asarray(updates)[:, 0, 0], [[-0.5, 0.005, 0.0], [-0.5, -0.25, 0.0]], rtol=1e-5
    )


def test_with_one_logit_a_cell_it_is_adam():
    random = np.random.default_rng(0)
    ours, theirs = adam_per_cell(optax.constant_schedule(0.1)), optax.adam(0.1, b2=0.99, eps=1e-15)
    params = jnp.zeros((2, 2, 2))
    a, b = ours.init(params), theirs.init(params)
    for _ in range(5):
        gradient = jnp.asarray(random.normal(size=(2, 2, 2)), jnp.float32)
        mine, a = ours.update(gradient, a)
        expected, b = theirs.update(gradient, b)
        np.testing.assert_allclose(mine, expected, rtol=1e-5)


def test_a_cell_without_gradient_stays():
    adam = adam_per_cell(optax.constant_schedule(0.1))
    zero = jnp.zeros((1, 1, 1, 4))
    updates, _ = adam.update(zero, adam.init(zero))
    np.testing.assert_array_equal(updates, zero)
