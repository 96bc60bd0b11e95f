"""The synthetic learner, and what the default sampler has to do on it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from motion import starts, testbed
from motion.testbed import TestbedConfig
from samplers.motion_bins import MotionTime

SMALL = TestbedConfig(num_envs=64, num_steps=4000, num_points=50)


def _run(name, scenarios, config=SMALL, seed=0):
    sampler = starts.make_start_sampler(
        name,
        clip_frames=config.clip_frames,
        batch_size=config.num_envs,
        frames_per_bin=config.frames_per_bin,
        horizon_frames=config.horizon,
    )
    one = functools.partial(
        testbed.run, config, sampler, starts.rows_of(name), jax.random.key(seed)
    )
    chosen = testbed.stack_scenarios({n: testbed.scenarios()[n] for n in scenarios})
    return jax.device_get(jax.jit(jax.vmap(one))(chosen))


def test_failure_rates_fall_from_the_first_to_the_lowest():
    scenario = testbed.scenarios()["noise that cannot be learned"]
    before = testbed.failure_rates(scenario, jnp.zeros(60))
    after = testbed.failure_rates(scenario, jnp.full(60, 1e6))
    np.testing.assert_allclose(before, scenario.first, atol=1e-6)
    np.testing.assert_allclose(after, scenario.lowest, atol=1e-6)


def test_a_sudden_bin_does_not_move_at_first_and_is_learned_at_once():
    scenario = testbed.scenarios()["a sudden bin"]
    rates = [
        float(testbed.failure_rates(scenario, jnp.full(60, share * scenario.practice[23]))[23])
        for share in (0.0, 0.4, 1.6)
    ]
    assert rates[0] - rates[1] < 0.02
    assert rates[2] < 0.01


def test_a_chained_bin_waits_for_the_one_before():
    scenario = testbed.scenarios()["a chain"]
    alone = testbed.failure_rates(scenario, jnp.zeros(60).at[22].set(1e6))
    both = testbed.failure_rates(scenario, jnp.zeros(60).at[jnp.array([20, 21, 22])].set(1e6))
    assert float(alone[22]) == pytest.approx(float(scenario.first[22]))
    assert float(both[22]) < 0.01


def test_the_default_beats_uniform_where_bins_differ_and_ties_where_they_do_not():
    names = ("even", "five hard bins", "a chain", "an impossible bin")
    ours, plain = _run(starts.DEFAULT, names), _run("uniform", names)
    costs = {
        name: float(ours.failure[place].mean() / plain.failure[place].mean())
        for place, name in enumerate(names)
    }
    assert costs["even"] < 1.1
    assert costs["five hard bins"] < 0.95
    assert costs["a chain"] < 0.95
    assert ours.least_share.min() >= 0.0999, "a bin starves"
    assert ours.impossible_time.max() < 0.05, "it sinks into the impossible bin"
    assert (ours.impossible_time <= ours.impossible_share + 1e-6).all(), "starts there end at once"
    np.testing.assert_allclose(plain.least_share, 1.0, rtol=1e-4)


@pytest.mark.parametrize("name", ["uniform", "sonic", "textop", "beyondmimic_released"])
def test_uniform_starts_are_uniform_over_frames(name):
    """Also those before a run's sampler takes over, whatever its own rule makes of bins."""
    sampler = starts.make_start_sampler(
        name, clip_frames=(60, 260), batch_size=60_000, frames_per_bin=50, end_margin=10
    )
    even = sampler if name == "uniform" else starts.uniform_over_frames(sampler)
    state = even.init(jax.random.key(0))
    drawn = even.sample(jax.random.key(1), state).items
    place = np.asarray(drawn.frame) + 60 * np.asarray(drawn.clip)
    counts = np.bincount(place, minlength=320)
    is_open = np.r_[np.arange(60) < 50, np.arange(260) < 250]
    assert counts[~is_open].sum() == 0
    assert np.abs(counts[is_open] - 200).max() < 5 * np.sqrt(200)
    weighted = starts.uniform_over_frames(starts.with_clip_weights(sampler, (5.0, 1.0)))
    probs = np.asarray(weighted.probabilities(weighted.init(jax.random.key(0))))
    np.testing.assert_allclose(probs[np.asarray(state.layout.clip) == 0].sum(), 0.5, rtol=1e-5)


def test_weights_of_clips_multiply_how_often_they_are_started():
    sampler = starts.make_start_sampler(
        "uniform", clip_frames=(40, 40), batch_size=4000, frames_per_bin=10
    )
    weighted = starts.with_clip_weights(sampler, (1.0, 3.0))
    state = weighted.init(jax.random.key(0))
    expected = [1 / 16] * 4 + [3 / 16] * 4
    np.testing.assert_allclose(weighted.probabilities(state), expected, rtol=1e-6)
    drawn = weighted.sample(jax.random.key(1), state).items
    share = float(jnp.mean(drawn.clip))
    assert abs(share - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 4000)
    with pytest.raises(ValueError, match="needs 2 positive weights"):
        starts.with_clip_weights(sampler, (1.0, 0.0))


def test_rules_about_episodes_count_where_they_began():
    sampler = starts.make_start_sampler(
        "motion_bins_proposal", clip_frames=(40,), batch_size=2, frames_per_bin=10
    )
    state = sampler.init(jax.random.key(0))
    here = MotionTime(jnp.zeros(2, jnp.int32), jnp.array([25, 35]))
    start = MotionTime(jnp.zeros(2, jnp.int32), jnp.array([5, 15]))
    after = starts.count_outcomes(
        sampler,
        starts.rows_of("motion_bins_proposal"),
        state,
        here=here,
        start=start,
        failed=jnp.array([True, False]),
        is_over=jnp.array([True, False]),
    )
    np.testing.assert_array_equal(after.failures, [1, 0, 0, 0])
    np.testing.assert_array_equal(after.exposure, [1, 0, 0, 0])


def test_unknown_samplers_and_settings_are_refused():
    sizes = {"clip_frames": (40,), "batch_size": 2, "frames_per_bin": 10}
    with pytest.raises(ValueError, match="motion samplers: uniform, failure_bins"):
        starts.make_start_sampler("random", **sizes)
    with pytest.raises(ValueError, match="uniform has no setting decay"):
        starts.make_start_sampler("uniform", **sizes, options={"decay": 0.5})
    with pytest.raises(ValueError, match="clip_frames of failure_bins follow"):
        starts.make_start_sampler("failure_bins", **sizes, options={"clip_frames": (3,)})
    with pytest.raises(ValueError, match="num_steps"):
        dataclasses.replace(SMALL, num_steps=999)
