"""Starts by name: the manual stretch, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from motion import starts
from samplers.motion_bins import MotionTime, bin_of

SIZES = {"clip_frames": (120, 60), "batch_size": 4000, "frames_per_bin": 10.0}


def manual(options):
    sampler = starts.make_start_sampler("manual", options=options, **SIZES)
    return starts.with_fixed_starts(sampler, 50.0, options)


def test_a_manual_stretch_is_all_that_is_started_in_each_frame_alike():
    sampler = manual({"from": 1.0, "to": 1.5})
    state = sampler.init(jax.random.key(0))
    items = sampler.sample(jax.random.key(1), state).items
    clip, frame = np.asarray(items.clip), np.asarray(items.frame)
    assert (frame >= 50).all()
    assert (frame < np.where(clip == 0, 80, 60)).all()
    # the second clip ends after 10 of the 25 frames; a bin counts by its share of the stretch
    assert abs(np.mean(clip == 1) - 10 / 35) < 0.04
    np.testing.assert_allclose(np.sum(sampler.probabilities(state)), 1.0, rtol=1e-6)


def test_a_manual_stretch_is_exact_within_bins_and_clips_count_by_their_weight():
    sampler = starts.make_start_sampler("manual", end_margin=5, **SIZES)
    fixed = starts.with_fixed_starts(sampler, 50.0, {"from": 0.5, "to": 0.7}, (9.0, 1.0))
    draw = fixed.sample(jax.random.key(1), fixed.init(jax.random.key(0)))
    frame = np.asarray(draw.items.frame)
    assert set(frame.tolist()) == set(range(25, 35))
    assert abs(np.mean(np.asarray(draw.items.clip) == 0) - 0.9) < 0.03
    state = fixed.init(jax.random.key(0))
    probs = np.asarray(fixed.probabilities(state))
    np.testing.assert_allclose(probs[np.asarray(state.layout.clip) == 0].sum(), 0.9, rtol=1e-5)
    seen = np.bincount(np.asarray(bin_of(state.layout, draw.items)), minlength=len(probs)) / 4000
    np.testing.assert_allclose(seen, probs, atol=0.04)


@pytest.mark.parametrize("name", starts.names()[:-1])
def test_nothing_starts_at_the_end_of_a_clip_and_every_bin_counts_its_own_frames(name):
    """Bins once ended where starts do, and the frames behind them were added to the last one."""
    sizes = {**SIZES, "clip_frames": (120, 63, 4)}
    sampler = starts.make_start_sampler(name, end_margin=13, **sizes)
    state = sampler.init(jax.random.key(0))
    items = sampler.sample(jax.random.key(1), state).items
    clip, frame = np.asarray(items.clip), np.asarray(items.frame)
    assert (frame < np.array([107, 50, 1])[clip]).all()
    assert set(frame[clip == 2].tolist()) == {0}
    lengths = np.asarray(state.layout.num_frames)
    assert lengths.sum() == 120 + 63 + 4
    every = MotionTime(
        jnp.repeat(jnp.arange(3), jnp.array([120, 63, 4])),
        jnp.concatenate([jnp.arange(n) for n in (120, 63, 4)]),
    )
    np.testing.assert_array_equal(np.bincount(np.asarray(bin_of(state.layout, every))), lengths)


def test_what_happens_does_not_change_it():
    sampler = manual({"to": 0.2})
    state = sampler.init(jax.random.key(0))
    items = sampler.sample(jax.random.key(1), state).items
    after = starts.count_outcomes(
        sampler,
        starts.rows_of("manual"),
        state,
        here=items,
        start=items,
        failed=jnp.ones(4000, bool),
        is_over=jnp.ones(4000, bool),
    )
    np.testing.assert_array_equal(sampler.probabilities(state), sampler.probabilities(after))


def test_a_stretch_that_no_clip_has_and_other_settings_are_refused():
    with pytest.raises(ValueError, match=r"between 9 and inf s"):
        manual({"from": 9.0})
    with pytest.raises(ValueError, match="from of manual must be a number of seconds, got 'soon'"):
        manual({"from": "soon"})
    with pytest.raises(ValueError, match="manual has no setting decay"):
        manual({"decay": 0.5})
