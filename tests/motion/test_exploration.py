"""Noise that steps share: its distribution, its correlation, and that it has no state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from motion.exploration import shared_normal

COUNT = 40_000


def draws(window, steps, seed=0, shape=(COUNT,)):
    key = jax.random.key(seed)
    return np.stack([np.asarray(shared_normal(key, step, shape, window)) for step in steps])


@pytest.mark.parametrize("window", [1, 2, 5])
def test_every_step_is_standard_normal(window):
    for values in draws(window, (0, 3, 1_000_000)):
        ordered = np.sort(values)
        # Kolmogorov and Smirnov: the largest gap to the normal distribution, at one in a thousand
        expected = np.asarray(jax.scipy.stats.norm.cdf(ordered))
        gap = np.abs(expected - (np.arange(COUNT) + 0.5) / COUNT).max()
        assert gap < 1.95 / np.sqrt(COUNT)


@pytest.mark.parametrize("window", [1, 2, 5])
def test_steps_share_their_noise_as_far_as_the_window_reaches(window):
    values = draws(window, range(8))
    measured = np.corrcoef(values)[0]
    expected = np.maximum(0, 1 - np.arange(8) / window)
    np.testing.assert_allclose(measured, expected, atol=5 / np.sqrt(COUNT))


def test_joints_and_copies_are_independent():
    values = draws(5, [7], shape=(4, 6, 5_000))[0].reshape(24, -1)
    assert np.abs(np.corrcoef(values) - np.eye(24)).max() < 5 / np.sqrt(5_000)


def test_noise_is_known_by_its_step_alone():
    compiled = jax.jit(shared_normal, static_argnums=(2, 3))
    key, rows = jax.random.key(3), (3, 2)
    before = [compiled(key, jnp.int32(step), rows, 4) for step in range(12)]
    np.testing.assert_array_equal(compiled(key, jnp.int32(9), rows, 4), before[9])
    assert compiled._cache_size() == 1
    other = shared_normal(jax.random.key(4), 9, rows, 4)
    assert not np.allclose(other, before[9])


def test_a_pushing_hand_moves_further_than_one_that_trembles():
    # the variance of a sum over `window` steps grows with it: what independent noise lacks
    sums = {window: draws(window, range(10)).sum(axis=0).var() for window in (1, 5)}
    lags = np.arange(-9, 10)
    expected = np.sum((10 - np.abs(lags)) * np.maximum(0, 1 - np.abs(lags) / 5))
    np.testing.assert_allclose(sums[1], 10, rtol=0.05)
    np.testing.assert_allclose(sums[5], expected, rtol=0.05)
