"""Laws of targets, corrections, schedules and scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplers import corrections, schedules, scores, targets
from tests import oracles, strategies

N = 12
cap = jax.jit(targets.cap_probabilities)
floor_and_cap = jax.jit(
    lambda p, fraction, mask: targets.floor_and_cap(p, fraction=fraction, cap=3.0, mask=mask)
)
normalise = jax.jit(targets.normalise)


@given(probs=strategies.probabilities(N), limit=st.sampled_from([0.09, 0.2, 0.5, 1.0]))
def test_capping_agrees_with_repeated_clipping(probs, limit):
    found = np.asarray(cap(probs, limit), np.float64)
    np.testing.assert_allclose(found.sum(), 1.0, rtol=1e-5)
    assert found.max() <= limit * (1 + 1e-5)
    expected = oracles.water_fill(probs, limit)
    if np.isclose(expected.sum(), 1.0):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_cap_below_uniform_means_uniform():
    np.testing.assert_allclose(cap(jnp.eye(N)[3], 0.01), 1 / N, rtol=1e-5)


@given(
    scores_=strategies.nasty(N),
    fraction=st.sampled_from([0.05, 0.3, 1.0]),
    mask=strategies.indices(N, 2).map(lambda v: np.append(v[1:], 1).astype(bool)),
)
def test_floor_and_cap_hold_together(scores_, fraction, mask):
    probs = normalise(scores_, mask)
    found = np.asarray(floor_and_cap(probs, fraction, mask), np.float64)
    num = mask.sum()
    np.testing.assert_allclose(found.sum(), 1.0, rtol=1e-5)
    assert np.all(found[~mask] == 0)
    assert np.all(found[mask] >= fraction / num * (1 - 1e-5))
    assert found.max() <= 3.0 / num * (1 + 1e-4)


@given(values=strategies.nasty(N))
def test_normalised_scores_sum_to_one(values):
    probs = np.asarray(normalise(values))
    np.testing.assert_allclose(probs.sum(), 1.0, rtol=1e-5)
    assert np.all(probs >= 0)
    usable = np.isfinite(values) & (values > 0)
    if not usable.any():
        np.testing.assert_allclose(probs, 1 / N, rtol=1e-6)


def test_ranks_ignore_scale_and_share_ties():
    values = jnp.asarray([3.0, 1.0, 3.0, 0.5])
    expected = [1 / 1.5, 1 / 3, 1 / 1.5, 1 / 4]
    np.testing.assert_allclose(targets.rank(values), expected, rtol=1e-6)
    np.testing.assert_allclose(targets.rank(values * 1e6), expected, rtol=1e-6)


def test_top_k_and_power():
    values = jnp.asarray([3.0, 1.0, jnp.nan, 0.5])
    assert targets.top_k(values, 2).tolist() == [1, 1, 0, 0]
    np.testing.assert_allclose(targets.power(values, 2.0), [9, 1, 0, 0.25])


def test_look_back_looks_forward_in_time_and_never_crosses_a_clip():
    last = jnp.asarray([3, 3, 3, 3, 5, 5])
    hit = jnp.zeros(6).at[3].set(1.0)
    found = targets.look_back(hit, last, size=3, decay=0.5)
    np.testing.assert_allclose(found, [0, 1 / 7, 1 / 3, 1, 0, 0], rtol=1e-6)
    found = targets.look_back(jnp.zeros(6).at[4].set(1.0), last, size=3, decay=0.5)
    assert np.all(np.asarray(found)[:4] == 0)
    with pytest.raises(ValueError, match="stop or replicate"):
        targets.look_back(hit, last, size=3, decay=0.5, edge="wrap")


@given(values=strategies.finite(N, 0.0, 8.0))
def test_a_kernel_of_one_bin_changes_nothing(values):
    last = jnp.full(N, N - 1)
    found = targets.look_back(jnp.asarray(values), last, size=1, decay=0.5)
    np.testing.assert_allclose(found, values, rtol=1e-6)


def test_effective_numbers():
    flat = jnp.full(8, 0.125)
    np.testing.assert_allclose(corrections.effective_items(flat), 8, rtol=1e-6)
    np.testing.assert_allclose(corrections.effective_sample_size(jnp.full(8, 3e20)), 8, rtol=1e-5)
    np.testing.assert_allclose(corrections.effective_sample_size(jnp.eye(8)[0]), 1, rtol=1e-6)
    assert float(corrections.effective_sample_size(jnp.zeros(8))) == 0
    assert float(corrections.normalised_entropy(jnp.ones(1))) == 1
    assert float(corrections.normalised_entropy(jnp.eye(8)[2])) == 0
    assert corrections.clip_weights(jnp.asarray([0.1, 9.0]), 0.5, 2.0).tolist() == [0.5, 2.0]
    np.testing.assert_allclose(corrections.scale_to_mean_one(jnp.asarray([1.0, 3.0])), [0.5, 1.5])


def test_schedules_move_between_their_ends():
    def share(step, **settings):
        return float(schedules.uniform_fraction(jnp.asarray(step), floor=0.2, **settings))

    assert share(0) == pytest.approx(0.2)
    assert share(9, warmup_steps=10) == 1.0
    assert share(10, warmup_steps=10) == pytest.approx(0.2)
    assert share(20, warmup_steps=10, ramp_steps=20) == pytest.approx(0.6)
    back = {"warmup_steps": 10, "handback_from": 0.5, "handback_over": 0.2, "run_length": 100.0}
    assert share(50, **back) == pytest.approx(0.2)
    assert share(60, **back) == pytest.approx(0.6)
    assert share(70, **back) == pytest.approx(1.0)
    assert share(99, **back) == 1.0
    at_once = back | {"handback_over": 0.0}
    assert (share(49, **at_once), share(50, **at_once)) == (pytest.approx(0.2), 1.0)
    assert share(10**6, **(back | {"run_length": np.inf})) == pytest.approx(0.2)
    assert float(schedules.anneal(jnp.asarray(5), first=0.0, last=1.0, length=10)) == 0.5


def test_running_mean_is_free_of_start_up_bias():
    mean = scores.init_mean_loss()
    assert float(scores.mean_loss(mean)) == 0
    loss = jnp.asarray([1.0, 3.0])
    for _ in range(2):
        mean = scores.update_mean_loss(mean, loss, jnp.ones(2), jnp.ones(2, bool))
        np.testing.assert_allclose(scores.mean_loss(mean), 2.0, rtol=1e-6)
    same = scores.update_mean_loss(mean, loss * 9, jnp.ones(2), jnp.zeros(2, bool))
    jax.tree.map(np.testing.assert_array_equal, mean, same)


def test_forgetting_goes_to_average_and_staleness_up_to_its_bound():
    score = jnp.asarray([0.0, 1.0, 5.0])
    np.testing.assert_allclose(scores.revert_to_average(score, 0.5), [0.5, 1.0, 3.0])
    np.testing.assert_allclose(scores.grow_stale(score, 0.5, highest=4.0), [0.0, 1.5, 5.0])
    rate = scores.failure_rate(jnp.asarray([0.0, 9.0]), jnp.asarray([0.0, 8.0]))
    np.testing.assert_allclose(rate, [0.5, 1.0])
