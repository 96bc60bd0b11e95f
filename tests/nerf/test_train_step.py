import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nerf import train_step
from nerf.optimizer import OptimizerConfig, learning_rate
from nerf.train_step import NerfConfig
from samplers import registry
from samplers.pixels import pixel_indices
from tests.variants import count_compilations

from .conftest import TINY


@pytest.fixture(scope="module")
def step(sampler):
    return train_step.make_train_step(TINY, sampler)


def fresh(sampler):
    return train_step.init_state(TINY, jax.random.key(0), sampler)


def sampler_of(scene, name, **options):
    return registry.make_ray_sampler(
        name,
        num_views=scene.train.num_views,
        rows=scene.train.rows,
        cols=scene.train.cols,
        batch_size=TINY.rays_per_step,
        options=options,
    )


def run(step, state, data, run_key, count):
    history = []
    for _ in range(count):
        state, metrics = step(state, data, run_key)
        history.append(metrics)
    return state, history


def assert_identical(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_learns_the_scene(step, sampler, data, run_key):
    state, history = run(step, fresh(sampler), data, run_key, TINY.num_steps)
    first, last = float(history[0].mse), np.mean([float(m.mse) for m in history[-10:]])
    assert last < first / 4
    assert int(state.step) == TINY.num_steps
    assert float(history[-1].occupied) < 0.7  # empty space was found
    assert all(bool(m.is_finite) for m in history)


def test_is_traced_once(step, sampler, data, run_key):
    state, _ = run(step, fresh(sampler), data, run_key, 1)
    with count_compilations() as compiled:
        run(step, state, data, run_key, 20)
    assert not compiled


def test_repeats_bit_for_bit_from_any_state(step, sampler, data, run_key):
    middle, _ = run(step, fresh(sampler), data, run_key, 18)
    copy = jax.tree.map(jnp.array, middle)
    one, _ = run(step, middle, data, run_key, 20)
    other, _ = run(step, copy, data, run_key, 20)
    assert_identical(one, other)


def test_a_scan_of_steps_is_the_same_steps(sampler, data, run_key, step):
    several = train_step.make_train_step(dataclasses.replace(TINY, steps_per_call=4), sampler)
    scanned, metrics = several(fresh(sampler), data, run_key)
    stepped, history = run(step, fresh(sampler), data, run_key, 4)
    assert metrics.loss.shape == (4,)
    np.testing.assert_allclose(metrics.loss, [m.loss for m in history], rtol=1e-4)
    assert int(scanned.step) == int(stepped.step) == 4


def test_a_fault_changes_nothing_and_can_be_replayed(step, sampler, data, run_key):
    state, _ = run(step, fresh(sampler), data, run_key, 3)
    poisoned = state._replace(
        params=jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf * jnp.nan if "color_0" in jax.tree_util.keystr(path) else leaf,
            state.params,
        )
    )
    before = jax.tree.map(np.array, poisoned)
    after, metrics = step(poisoned, data, run_key)
    assert not bool(metrics.is_finite)
    assert_identical(before, jax.tree.map(np.array, after))
    _, again = step(after, data, run_key)
    assert not bool(again.is_finite)


def test_placed_samples_leave_no_ray_out_and_learn(sampler, data, run_key):
    marching = dataclasses.replace(TINY.marching, num_coarse=8)
    placed = train_step.make_train_step(dataclasses.replace(TINY, marching=marching), sampler)
    state, first = placed(fresh(sampler), data, run_key)
    with count_compilations() as compiled:
        state, history = run(placed, state, data, run_key, 120)
    assert not compiled
    assert all(int(m.kept_rays) == TINY.rays_per_step for m in (first, *history))
    assert np.mean([float(m.mse) for m in history[-10:]]) < 0.5 * float(first.mse)
    one, _ = run(placed, fresh(sampler), data, run_key, 3)
    other, _ = run(placed, fresh(sampler), data, run_key, 3)
    assert_identical(one, other)


def test_rays_beyond_the_budget_are_reported_and_steps_widen(sampler, data, run_key):
    config = dataclasses.replace(TINY, marching=dataclasses.replace(TINY.marching, budget=512))
    cramped = train_step.make_train_step(config, sampler)
    _, history = run(cramped, fresh(sampler), data, run_key, 10)
    assert int(history[0].needed_samples) > 512
    assert int(history[0].kept_rays) < TINY.rays_per_step
    assert all(float(m.step_scale) == config.marching.max_step_scale for m in history)


def test_masked_pixels_teach_nothing(step, sampler, data, run_key, scene):
    masks = jnp.zeros(scene.train.images.shape[:3], bool)
    hidden = data._replace(pixels=data.pixels._replace(masks=masks))
    _, metrics = train_step.make_train_step(TINY, sampler)(fresh(sampler), hidden, run_key)
    assert int(metrics.kept_rays) == 0
    assert float(metrics.loss) == 0.0
    assert bool(metrics.is_finite)


@pytest.mark.parametrize(("space", "cost"), [("bounded", 0.0), ("unbounded", 1 / 3)])
def test_seeing_through_an_unbounded_scene_does_not_pay_for_dark_photographs(
    sampler, data, run_key, space, cost
):
    config = dataclasses.replace(
        TINY,
        field=dataclasses.replace(TINY.field, density_bias=-14.0),
        marching=dataclasses.replace(TINY.marching, space=space),
    )
    black = jnp.zeros_like(data.pixels.images[..., :3])
    dark = data._replace(pixels=data.pixels._replace(images=black))
    state = train_step.init_state(config, jax.random.key(0), sampler)
    _, metrics = train_step.make_train_step(config, sampler)(state, dark, run_key)
    # u^2 of a uniform colour u has mean 1/3 and variance 4/45
    np.testing.assert_allclose(metrics.mse, cost, atol=5 * (4 / 45 / metrics.kept_rays) ** 0.5)


def test_a_background_behind_opaque_photographs_that_is_asked_for_is_taken():
    unbounded = dataclasses.replace(TINY.marching, space="unbounded")
    asked = dataclasses.replace(TINY, marching=unbounded, opaque_background="black")
    assert asked.behind_opaque == "black"
    assert TINY.behind_opaque == "black"
    assert dataclasses.replace(TINY, marching=unbounded).behind_opaque == "random"
    frustum = dataclasses.replace(TINY.marching, space="forward_facing")
    assert dataclasses.replace(TINY, marching=frustum).behind_opaque == "black"


def test_error_weighted_sampler_learns_from_the_losses(data, run_key, scene):
    adaptive = sampler_of(scene, "error_weighted", warmup_steps=5)
    stepper = train_step.make_train_step(TINY, adaptive)
    state, history = run(
        stepper, train_step.init_state(TINY, jax.random.key(0), adaptive), data, run_key, 40
    )
    probs = np.asarray(adaptive.probabilities(state.sampler))
    np.testing.assert_allclose(probs.sum(), 1.0, rtol=1e-4)
    assert probs.max() > 5 * probs.min()
    assert float(history[0].effective_rays) == pytest.approx(TINY.rays_per_step, rel=1e-5)
    assert float(history[-1].effective_rays) < TINY.rays_per_step


def test_learning_rate_warms_up_then_falls_to_its_final_share():
    config = OptimizerConfig(warmup_steps=10)
    rate, peak = learning_rate(config, 200), config.learning_rate
    assert float(rate(0)) == pytest.approx(0.1 * peak)
    assert float(rate(10)) == pytest.approx(peak)
    assert float(rate(200)) == pytest.approx(peak * config.final_fraction, rel=1e-3)


@pytest.mark.parametrize("wrong", [{"num_steps": 0}, {"rays_per_step": 0}, {"occupancy_every": 0}])
def test_empty_runs_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        NerfConfig(**wrong)


def test_a_longer_run_goes_through_the_same_rates_more_slowly(sampler, data, run_key):
    config = dataclasses.replace(TINY, num_steps=8, optimizer=OptimizerConfig(warmup_steps=2))
    step = train_step.make_train_step(config, sampler)

    def moves(length, count):
        state = train_step.init_state(config, jax.random.key(0), sampler)
        state = state._replace(run_length=jnp.asarray(length, jnp.float32))
        found = []
        for _ in range(count):
            before = jax.tree.map(jnp.array, state.params)
            state, _ = step(state, data, run_key)
            found.append(max(jax.tree.leaves(jax.tree.map(_largest, before, state.params))))
        return np.array(found)

    # Adam's moves have about the size of the rate, whatever the gradient
    short, long = moves(8, 8), moves(8e6, 8)
    peak = config.optimizer.learning_rate
    assert short.max() > 0.5 * peak
    assert long.max() < 0.2 * peak  # still at the start of the warm-up


def test_a_default_run_ends_with_uniform_draws(scene, data, run_key):
    sampler = sampler_of(scene, "error_map", warmup_steps=1)
    config = dataclasses.replace(TINY, num_steps=10)
    step = train_step.make_train_step(config, sampler)
    state, spread = train_step.init_state(config, jax.random.key(0), sampler), []
    for _ in range(10):
        probs = np.asarray(sampler.probabilities(state.sampler))
        spread.append(np.ptp(probs) * probs.size)
        state, _ = step(state, data, run_key)
    assert min(spread[2:6]) > 0.01
    assert max(spread[0], *spread[7:]) < 1e-4


def _largest(before, after):
    return float(jnp.max(jnp.abs(after - before)))


@pytest.mark.slow
def test_pixels_drawn_are_remembered(data, run_key, scene, sampler):
    config = dataclasses.replace(TINY, track_seen=True)
    shape = scene.train.images.shape[:3]
    state = train_step.init_state(config, jax.random.key(0), sampler, image_shape=shape)
    stepper, expected = jax.jit(train_step.make_train_step(config, sampler)), np.zeros(shape, bool)
    for _ in range(3):
        key = jax.random.split(jax.random.fold_in(run_key, state.step), 7)[0]
        drawn = pixel_indices(sampler.sample(key, state.sampler).items, *shape[1:])
        expected[drawn.view, drawn.row, drawn.col] = True
        state, _ = stepper(state, data, run_key)
    np.testing.assert_array_equal(state.seen, expected)
    assert 0 < expected.mean() < 1
