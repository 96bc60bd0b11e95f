"""Published and derived reference numbers; each names the rule it pins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from samplers import corrections, draws, failure_bins, targets
from samplers.base import Draw, Feedback
from samplers.failure_bins_presets import PRESETS
from samplers.motion_bins import MotionTime, count_bins
from samplers.registry import make_sampler
from tests import oracles

EIGHT_BINS = {"clip_frames": (400,), "frames_per_bin": 50.0, "bin_rule": "ceil", "batch_size": 4}


def preset(name, **settings):
    return make_sampler(name, {**EIGHT_BINS, **settings})


def state_with(sampler, **fields):
    state = sampler.init(jax.random.key(0))
    fields = {key: jnp.asarray(value, jnp.float32) for key, value in fields.items()}
    return state._replace(**fields)


def one_hot(size, index):
    return np.eye(size, dtype=np.float32)[index]


def test_r1_released_map_with_one_and_three_bins():
    sampler = preset("beyondmimic_released")
    probs = sampler.probabilities(state_with(sampler, failures=one_hot(8, 5)))
    expected = np.full(8, 0.011364)
    expected[5] = 0.920454
    np.testing.assert_allclose(probs, expected, atol=1e-6)
    assert abs(float(corrections.normalised_entropy(probs)) - 0.207963) < 1e-5

    sampler = preset("beyondmimic_released", kernel_size=3)
    probs = sampler.probabilities(state_with(sampler, failures=one_hot(8, 5)))
    expected[3:6] = 0.249814, 0.309426, 0.383942
    np.testing.assert_allclose(probs, expected, atol=1e-6)
    assert abs(float(corrections.normalised_entropy(probs)) - 0.640267) < 1e-5


def test_r1_without_failures_is_uniform_and_edges_replicate():
    sampler = preset("beyondmimic_released")
    probs = sampler.probabilities(sampler.init(jax.random.key(0)))
    np.testing.assert_allclose(probs, 1 / 8, rtol=1e-6)
    np.testing.assert_allclose(corrections.normalised_entropy(probs), 1.0, rtol=1e-6)

    sampler = preset("beyondmimic_released", clip_frames=(300,), kernel_size=3)
    probs = sampler.probabilities(state_with(sampler, failures=one_hot(6, 5)))
    expected = [0.008536, 0.008536, 0.008536, 0.142877, 0.310803, 0.520711]
    np.testing.assert_allclose(probs, expected, atol=1e-6)


def test_r2_moving_average_of_constant_failures():
    sampler = preset("beyondmimic_released", batch_size=3)
    items = MotionTime(jnp.zeros(3, jnp.int32), jnp.full(3, 120, jnp.int32))
    draw = Draw(items, jnp.full(3, 1 / 8), jnp.ones(3))

    def one(state, _):
        state = sampler.update(state, draw, Feedback(jnp.ones(3)))
        return state, state.failures[2] / 3.0

    start = sampler.init(jax.random.key(0))
    _, path = jax.jit(lambda s: jax.lax.scan(one, s, None, length=5000))(start)
    at = np.array([1, 10, 100, 693, 1000, 5000]) - 1
    expected = [0.001, 0.009955, 0.095208, 0.500100, 0.632305, 0.993279]
    np.testing.assert_allclose(np.asarray(path)[at], expected, rtol=2e-4)


def test_r3_bin_counts():
    frames = [49, 50, 51, 499, 500, 501, 2999, 8000]
    counts = [count_bins(t, 50.0, "floor_plus_one") for t in frames]
    assert counts == [1, 2, 2, 10, 11, 11, 60, 161]


@pytest.mark.parametrize(
    ("sum_q", "share"), [(0.01, 0.9091), (0.1, 0.5), (1, 0.0909), (10, 0.00990), (40, 0.00249)]
)
def test_r4_uniform_share_of_the_released_rule_shrinks(sum_q, share):
    sampler = preset("beyondmimic_released")
    probs = sampler.probabilities(state_with(sampler, failures=one_hot(8, 5) * sum_q))
    np.testing.assert_allclose(8 * probs[0], share, rtol=2e-3)


F = (2, 0, 5, 40, 10, 0, 0, 3)
N = (100, 100, 100, 100, 50, 20, 10, 100)


def test_r5_motion_bins_proposal():
    sampler = preset("motion_bins_proposal", batch_size=580)
    start = np.repeat(np.arange(8), N)
    failed = np.concatenate([np.arange(n) < f for f, n in zip(F, N, strict=True)])
    items = MotionTime(jnp.zeros(580, jnp.int32), jnp.asarray(start * 50 + 7, jnp.int32))
    draw = Draw(items, jnp.full(580, 1 / 8), jnp.ones(580))
    state = sampler.update(
        sampler.init(jax.random.key(0)), draw, Feedback(jnp.asarray(failed, jnp.float32))
    )
    expected = (0.176537, 0.187221, 0.206635, 0.216030, 0.102168, 0.024963, 0.032251, 0.054196)
    np.testing.assert_allclose(sampler.probabilities(state), expected, atol=1e-6)


def test_r5_sonic():
    sampler = preset("sonic")
    probs = sampler.probabilities(state_with(sampler, failures=F, exposure=N))
    expected = (0.042244, 0.022415, 0.071987, 0.418997, 0.228482, 0.060184, 0.103534, 0.052158)
    np.testing.assert_allclose(probs, expected, atol=1e-6)


def test_r6_cap_by_water_filling():
    probs = jnp.asarray([0.7, 0.2] + [0.0125] * 8)
    expected = [0.2, 0.2] + [0.075] * 8
    np.testing.assert_allclose(targets.cap_probabilities(probs, 0.2), expected, atol=1e-6)
    np.testing.assert_allclose(oracles.water_fill(probs, 0.2), expected, atol=1e-9)
    clamped = np.minimum(probs, 0.2)
    assert abs((clamped / clamped.sum()).max() - 0.4) < 1e-6


def test_r7_importance_weights():
    probs = jnp.asarray([0.4, 0.3, 0.2, 0.1])
    full = corrections.importance_weights(probs, 4)
    np.testing.assert_allclose(full, [0.625, 0.8333333, 1.25, 2.5], rtol=1e-5)
    partial = corrections.importance_weights(probs, 4, exponent=0.4)
    scaled = corrections.scale_to_max_one(partial)
    np.testing.assert_allclose(scaled, [0.574349, 0.644394, 0.757858, 1.0], rtol=1e-5)


def test_r8_soft_mining_correction():
    errors = jnp.asarray([0.0, 1e-4, 1e-3, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0])
    found = corrections.soft_mining_weights(errors, exponent=0.6)
    expected = [54.2704] * 3 + [15.8489, 6.0342, 3.9811, 2.6265, 1.5157, 1.0]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_r9_systematic_counts():
    probs = jnp.asarray([0.5, 0.25, 0.125, 0.125])
    for offset in (0.0, 0.3, 0.999):
        counts = draws.systematic_counts(probs, 8, jnp.asarray(offset))
        assert counts.tolist() == [4, 2, 1, 1]
    uneven = jnp.asarray([0.31, 0.02, 0.44, 0.23])
    offsets = (jnp.arange(1000) + 0.5) / 1000
    counts = np.asarray(jax.vmap(lambda v: draws.systematic_counts(uneven, 8, v))(offsets))
    assert np.all((counts == np.floor(8 * uneven)) | (counts == np.ceil(8 * uneven)))
    np.testing.assert_allclose(counts.mean(axis=0), 8 * uneven, atol=2e-3)


def test_every_published_rule_has_a_preset():
    published = {"beyondmimic_released", "beyondmimic_paper", "sonic", "textop"}
    assert published | {"motion_bins_proposal"} == set(PRESETS)
    for name in PRESETS:
        assert isinstance(preset(name).config, failure_bins.FailureBinsConfig)
