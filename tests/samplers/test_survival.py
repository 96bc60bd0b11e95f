"""How long episodes last, against their integral."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplers.motion_bins import cut_into_bins
from samplers.survival import expected_frames

LAYOUT = cut_into_bins((95, 40, 7), 10.0)
NUM_BINS = int(LAYOUT.clip.shape[0])


def _integrated(h, num_points=4000):
    """Mean time to failure by a sum over starting places and the bins that follow, in float64."""
    length, last = np.asarray(LAYOUT.num_frames, float), np.asarray(LAYOUT.last_bin)
    expected = np.zeros(NUM_BINS)
    for first in range(NUM_BINS):
        place = (np.arange(num_points) + 0.5) / num_points
        ahead = 1.0 - place  # share of the bin that is still to come
        alive, total = np.ones(num_points), np.zeros(num_points)
        for number in range(first, last[first] + 1):
            rate = h[number] * ahead
            mean = np.where(rate > 0, -np.expm1(-rate) / np.where(rate > 0, rate, 1.0), 1.0)
            total += alive * length[number] * ahead * mean
            alive, ahead = alive * np.exp(-rate), np.ones(num_points)
        expected[first] = total.mean()
    return expected


@given(st.lists(st.floats(0, 30), min_size=NUM_BINS, max_size=NUM_BINS))
def test_episodes_last_as_long_as_the_integral_says(rates):
    rates = np.asarray(rates, np.float32)
    ours = expected_frames(LAYOUT, jnp.asarray(rates))
    np.testing.assert_allclose(ours, _integrated(rates.astype(float)), rtol=2e-4)


def test_without_failures_episodes_last_to_the_end_of_their_clip():
    length, last = np.asarray(LAYOUT.num_frames, float), np.asarray(LAYOUT.last_bin)
    behind = [length[place + 1 : last[place] + 1].sum() for place in range(NUM_BINS)]
    ours = expected_frames(LAYOUT, jnp.zeros(NUM_BINS))
    np.testing.assert_allclose(ours, length / 2 + behind, rtol=1e-6)
    np.testing.assert_allclose(
        expected_frames(LAYOUT, jnp.zeros(NUM_BINS), 12.0), np.minimum(ours, 12.0)
    )


@pytest.mark.parametrize("rate", [0.0, 1e-30, 1e-10, 1e-3, 0.01, 0.0101, 1.0, 1e10, 1e30])
def test_lengths_are_finite_and_fall_with_the_rate(rate):
    ours = np.asarray(expected_frames(LAYOUT, jnp.full(NUM_BINS, rate, jnp.float32)))
    more = np.asarray(expected_frames(LAYOUT, jnp.full(NUM_BINS, 1.1 * rate, jnp.float32)))
    assert np.isfinite(ours).all()
    assert (ours >= 0).all()
    assert (more <= ours * (1 + 1e-6)).all()
