"""States that live: refused when they do not fit, carried over to other sizes, shown as arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from samplers import diagnostics, error_weighted, failure_bins, resampling, spatial
from samplers.base import Draw, Feedback
from samplers.motion_bins import MotionTime
from samplers.pixels import PixelIndex
from samplers.registry import make_ray_sampler, make_sampler
from tests.precision import count_products

SIZES = {"num_views": 2, "rows": 32, "cols": 48, "batch_size": 64}


def map_state(sampler, score):
    """A spatial state that has learned the given map of tile scores."""
    state = sampler.init(jax.random.key(0))
    items = np.argwhere(np.ones((2, 32, 48)))
    pixels = PixelIndex(*(jnp.asarray(items[:, axis], jnp.int32) for axis in range(3)))
    n = items.shape[0]
    draw = Draw(pixels, jnp.full(n, 1.0 / n), jnp.ones(n))
    return jax.jit(sampler.update)(state, draw, Feedback(jnp.asarray(score).reshape(-1)))


def test_a_fresh_state_can_be_donated():
    bins = make_sampler("failure_bins", {"clip_frames": (90, 40), "batch_size": 8})
    state = bins.init(jax.random.key(0))
    places = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(places)) == len(places)


def test_a_state_of_another_size_is_refused_by_name():
    small = make_ray_sampler("spatial", **SIZES)
    large = make_ray_sampler("spatial", **{**SIZES, "rows": 64})
    state = small.init(jax.random.key(0))
    fresh = jax.eval_shape(large.init, jax.random.key(0))
    resampling.check_state(jax.eval_shape(small.init, jax.random.key(0)), state)
    with pytest.raises(ValueError, match=r"weights\.leaves needs float32"):
        resampling.check_state(fresh, state)
    other = make_ray_sampler("uniform", **SIZES).init(jax.random.key(0))
    with pytest.raises(ValueError, match="fields"):
        resampling.check_state(fresh, other)


def test_scores_survive_a_change_of_resolution_and_tile():
    old = make_ray_sampler("spatial", **SIZES, options={"decay": 0.0})
    ramp = np.broadcast_to(np.linspace(0.2, 1.8, 48, dtype=np.float32), (2, 32, 48))
    state = old.plan(map_state(old, ramp), 900)
    new = make_ray_sampler("spatial", **{**SIZES, "rows": 64, "cols": 96}, options={"focus": 2.0})
    carried = resampling.resample_state(old, state, new)
    before, after = (
        np.asarray(spatial.tile_scores(s.config, x)) for s, x in ((old, state), (new, carried))
    )
    assert after.shape == (2, 8, 12)
    np.testing.assert_allclose(after[:, ::2, 1:-1:2].mean(), before.mean(), rtol=0.1)
    assert np.all(np.diff(after[0, 0]) >= -1e-5)
    assert (int(carried.step), float(carried.run_length)) == (int(state.step), 900.0)
    resampling.check_state(jax.eval_shape(new.init, jax.random.key(0)), carried)


def test_item_scores_survive_a_change_of_resolution():
    shapes = {"old_shape": (1, 4, 4), "new_shape": (1, 8, 8)}
    old, new = (
        error_weighted.make(error_weighted.ErrorWeightedConfig(num_items=n, batch_size=4))
        for n in (16, 64)
    )
    state = old.plan(old.init(jax.random.key(0)), 900)
    carried = resampling.resample_state(old, state, new, **shapes)
    np.testing.assert_allclose(carried.weights.leaves.sum(), 64.0, rtol=1e-5)
    assert float(carried.run_length) == 900.0
    with pytest.raises(ValueError, match="old_shape"):
        resampling.resample_state(old, state, new)
    with pytest.raises(ValueError, match="cannot carry"):
        resampling.resample_state(old, state, make_ray_sampler("spatial", **SIZES))


@pytest.mark.parametrize("name", ["spatial", "mixed", "multi_scale", "top_k", "curriculum"])
def test_a_state_carried_over_to_the_same_tiles_is_the_same(name):
    options = {"warmup_steps": 0}
    if name in ("mixed", "top_k", "curriculum"):
        options["rank_frequency"] = 1  # pools are ranked anew when carried over
    sampler = make_ray_sampler(name, **SIZES, options=options)
    loss = np.random.default_rng(0).uniform(0.1, 3.0, (2, 32, 48)).astype(np.float32)
    state = map_state(sampler, loss)
    score = diagnostics.error_map(sampler, state)
    assert score.shape == (2, 4, 6)
    carried = resampling.resample_state(sampler, state, sampler)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), state, carried)
    if name in ("mixed", "multi_scale"):  # what they keep per tile differs, what it means does not
        same = map_state(make_ray_sampler("spatial", **SIZES, options={"warmup_steps": 0}), loss)
        expected = spatial.tile_scores(spatial.SpatialConfig(**SIZES), same)
        np.testing.assert_allclose(score, expected, rtol=1e-5)


def test_slots_of_soft_mining_stay_where_they_are():
    old = make_ray_sampler("soft_mining", **SIZES)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3)).astype(np.uint8)
    state = old.init(jax.random.key(0), jnp.asarray(images[:, ::2, ::2]))
    state = state._replace(loss=jnp.arange(64.0), step=jnp.asarray(7, jnp.int32))
    new = make_ray_sampler("soft_mining", **{**SIZES, "rows": 64, "cols": 96})
    carried = resampling.resample_state(old, state, new, data=[jnp.asarray(images)])
    resampling.check_state(
        jax.eval_shape(lambda: new.init(jax.random.key(0), jnp.asarray(images))), carried
    )
    for name in ("view", "uv", "loss", "drift", "step"):
        np.testing.assert_array_equal(getattr(carried, name), getattr(state, name))
    other = make_ray_sampler("soft_mining", **{**SIZES, "batch_size": 32})
    with pytest.raises(ValueError, match="64 slots as before, got 32"):
        resampling.resample_state(old, state, other, data=[jnp.asarray(images[:, ::2, ::2])])


@pytest.mark.parametrize("sizes", [(50.0, 10.0), (10.0, 50.0)])
def test_carried_bins_start_where_a_fresh_sampler_may(sizes):
    settings = {"clip_frames": (100,), "batch_size": 2000, "end_margin": 30}
    old, new = (make_sampler("failure_bins", {**settings, "frames_per_bin": s}) for s in sizes)
    carried = resampling.resample_state(old, old.init(jax.random.key(0)), new)
    np.testing.assert_array_equal(carried.valid, new.init(jax.random.key(0)).valid)
    frames = np.asarray(new.sample(jax.random.key(1), carried).items.frame)
    assert frames.min() >= 0
    assert frames.max() < 70


def test_parts_that_may_not_be_started_in_stay_so_in_bins_of_another_size():
    settings = {"clip_frames": (100,), "batch_size": 2000}
    old = make_sampler("failure_bins", {**settings, "frames_per_bin": 20.0})
    new = make_sampler("failure_bins", {**settings, "frames_per_bin": 50.0})
    state = old.init(jax.random.key(0), jnp.asarray([True, False, True, True, True]))
    state = failure_bins.with_override(state, jnp.asarray([1.0, 0.0, 1.0, 3.0, 0.0]))
    carried = resampling.resample_state(old, state, new)
    frames = np.asarray(new.sample(jax.random.key(1), carried).items.frame)
    assert not np.any((frames >= 20) & (frames < 40))
    np.testing.assert_allclose(carried.override, [0.0, 3.5])
    closed = old.init(jax.random.key(0), jnp.asarray([False, True, False, True, False]))
    with pytest.raises(ValueError, match="every bin of the new size"):
        resampling.resample_state(old, closed, new)


def test_bins_are_shared_out_by_overlap():
    settings = {"clip_frames": (100, 60), "batch_size": 4}
    old = make_sampler("failure_bins", {**settings, "frames_per_bin": 20.0})
    new = make_sampler("failure_bins", {**settings, "frames_per_bin": 10.0})
    state = old.init(jax.random.key(0))
    state = state._replace(failures=jnp.arange(8.0), exposure=jnp.arange(8.0) + 1)
    carried = resampling.resample_state(old, state, new)
    np.testing.assert_allclose(carried.failures.sum(), state.failures.sum(), rtol=1e-6)
    np.testing.assert_allclose(carried.exposure, np.repeat(np.arange(8.0) + 1, 2), rtol=1e-6)
    count, inexact = count_products(lambda s: resampling.resample_state(old, s, new), state)
    assert (count > 0, inexact) == (True, 0)  # accelerators keep all bits of float32
    other = make_sampler("failure_bins", {**settings, "clip_frames": (100, 61)})
    with pytest.raises(ValueError, match="clips as before"):
        resampling.resample_state(old, state, other)


def test_states_turn_into_pictures():
    sampler = make_ray_sampler("spatial", **SIZES, options={"decay": 0.0, "warmup_steps": 0})
    loss = np.ones((2, 32, 48), np.float32)
    loss[0, :8, :8] = 50.0
    state = map_state(sampler, loss)
    density = diagnostics.sampling_density(sampler, state, 2, 32, 48)
    np.testing.assert_allclose(density.mean(), 1.0, rtol=1e-4)
    assert float(density[0, 0, 0]) > 5
    assert int(jnp.argmax(diagnostics.error_map(sampler, state))) == 0
    scores = diagnostics.pixel_scores(sampler, state, 2, 32, 48)
    np.testing.assert_allclose(scores[0, :8, :8], scores.max())
    np.testing.assert_allclose(scores[1], scores[1, 0, 0])
    found = diagnostics.concentration(sampler.probabilities(state))
    assert int(found.top) // 48 < 8
    assert 0 < float(found.entropy) < 1
    assert float(found.highest) > 5 > 1 > float(found.lowest)
    assert float(found.effective_items) < 2 * 32 * 48
    counts = jnp.zeros((2, 4, 4), jnp.int32)
    counts = diagnostics.add_visits(counts, jnp.asarray([0, 0, 17]))
    assert counts[0, 0, 0] == 2
    np.testing.assert_allclose(diagnostics.coverage(counts), [1 / 16, 1 / 16])
    with pytest.raises(ValueError, match="needs 2 x 9"):
        diagnostics.sampling_density(sampler, state, 2, 9, 48)
    mining = make_ray_sampler("soft_mining", **SIZES)
    with pytest.raises(ValueError, match="no probabilities"):
        diagnostics.sampling_density(mining, None, 2, 32, 48)
    with pytest.raises(ValueError, match="no error map"):
        diagnostics.error_map(mining, None)
    with pytest.raises(ValueError, match="no loss per pixel"):
        diagnostics.pixel_scores(mining, None, 2, 32, 48)
    items = make_ray_sampler("error_weighted", **SIZES, options={"focus": 2.0})
    fresh = items.init(jax.random.key(0))
    assert np.all(np.asarray(diagnostics.pixel_scores(items, fresh, 2, 32, 48)) == 1.0)
    with pytest.raises(ValueError, match="needs 2 x 9"):
        diagnostics.pixel_scores(items, fresh, 2, 9, 48)


def test_bin_table_lists_rates_and_probabilities():
    sampler = make_sampler("failure_bins", {"clip_frames": (100, 60), "batch_size": 4})
    state = sampler.init(jax.random.key(0))
    items = MotionTime(jnp.asarray([0, 0, 1, 1]), jnp.asarray([60, 10, 5, 40]))
    draw = Draw(items, jnp.ones(4), jnp.ones(4))
    state = sampler.update(state, draw, Feedback(jnp.asarray([1.0, 0.0, 0.0, 0.0])))
    table = diagnostics.bin_table(sampler.config, state)
    assert int(jnp.argmax(table.failure_rate)) == 1
    np.testing.assert_allclose(table.probability, failure_bins.probabilities(sampler.config, state))
    assert table.clip.tolist() == [0, 0, 1, 1]
