"""What decays, and by how much."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nerf import train_step
from nerf.optimizer import OptimizerConfig, decay_tables, learning_rate, make_optimizer
from nerf.view_corrections import CorrectionConfig

from .conftest import TINY


def mean_squares(params):
    """Sum over tables of the mean square of their entries."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    tables = [leaf for path, leaf in leaves if "tables" in jax.tree_util.keystr(path)]
    assert len(tables) == TINY.field.encoding.num_levels
    return sum(jnp.mean(jnp.square(table)) for table in tables)


@pytest.fixture(scope="module")
def params(sampler):
    fresh = train_step.init_state(TINY, jax.random.key(0), sampler).params
    return jax.tree.map(lambda leaf: leaf + 0.5, fresh)


def test_the_decay_of_tables_is_the_slope_of_their_mean_squares(params):
    gradients = jax.tree.map(lambda leaf: jnp.full_like(leaf, 0.25), params)
    decay = decay_tables(0.3)
    found, _ = decay.update(gradients, decay.init(params), params)
    slopes = jax.grad(lambda params: 0.3 * mean_squares(params))(params)
    expected = jax.tree.map(jnp.add, gradients, slopes)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)


def test_entries_nobody_asks_for_fall_to_zero_and_networks_stay(params):
    config = OptimizerConfig(table_decay=0.1, network_weight_decay=0.0)
    adam = make_optimizer(config, CorrectionConfig())
    silent = jax.tree.map(jnp.zeros_like, params)

    def step(carry, _):
        params, moments = carry
        updates, moments = adam.update(silent, moments, params)
        return (optax.apply_updates(params, optax.tree.scale(0.01, updates)), moments), None

    (after, _), _ = jax.lax.scan(step, (params, adam.init(params)), length=200)
    assert float(mean_squares(after)) < 1e-3 * float(mean_squares(params))
    for (path, old), new in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(after), strict=True
    ):
        if "tables" not in jax.tree_util.keystr(path):
            np.testing.assert_array_equal(old, new)


def test_a_field_learns_with_smaller_tables(data, sampler, run_key):
    def train(weight):
        optimizer = dataclasses.replace(TINY.optimizer, table_decay=weight)
        config = dataclasses.replace(TINY, optimizer=optimizer)
        step = train_step.make_train_step(config, sampler)
        state, errors = train_step.init_state(config, jax.random.key(0), sampler), []
        for _ in range(60):
            state, metrics = step(state, data, run_key)
            errors.append(float(metrics.mse))
        return float(mean_squares(state.params)), np.mean(errors[-10:]) / errors[0]

    (free, left_free), (decayed, left) = train(0.0), train(0.3)
    assert decayed < 0.9 * free
    assert left < 1.1 * left_free


@pytest.mark.parametrize(
    "wrong",
    [
        {"table_decay": -0.1},
        {"table_decay": float("nan")},
        {"network_weight_decay": -1e-6},
        {"learning_rate": 0.0},
        {"final_fraction": 2.0},
    ],
)
def test_rates_that_cannot_train_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        OptimizerConfig(**wrong)


def test_the_warm_up_is_as_long_as_asked():
    peak = OptimizerConfig().learning_rate
    long = learning_rate(OptimizerConfig(decay_start=0.0, warmup_steps=100), 2000)
    found = [long(0), long(50), long(100)]
    np.testing.assert_allclose(found, [0.1 * peak, 0.55 * peak, peak], rtol=1e-5)
    assert float(long(101)) < peak
    none = learning_rate(OptimizerConfig(warmup_steps=0), 2000)
    np.testing.assert_allclose([none(0), none(1)], peak, rtol=1e-5)
    with pytest.raises(ValueError, match="warmup_steps must not be negative"):
        OptimizerConfig(warmup_steps=-1)
