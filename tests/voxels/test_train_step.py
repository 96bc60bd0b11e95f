"""The step: one trace, repeatable, the same through both doors, and it learns."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from samplers import uniform
from tests.variants import assert_same_shapes, counted
from voxels.grid import InitialLogits, VoxelGrid, grid_from_map, harden, uniform_grid
from voxels.guidance.protocol import Guidance
from voxels.guidance.target import target
from voxels.losses import neutral_priors
from voxels.palette import daylight, lit_colors, terrain_palette
from voxels.procedural import WorldConfig, make_world, orbit_cameras
from voxels.rendering.images import RenderConfig, render_views
from voxels.train_step import (
    TrainConfig,
    World,
    init_state,
    learn,
    look,
    pixel_variance,
    render_moments,
    since_restart,
    train_step,
)

CONFIG = WorldConfig(shape=(6, 6, 6), num_houses=1)
RUN_KEY = jax.random.key(7)


@pytest.fixture(scope="module")
def setting():
    block_map = make_world(CONFIG, 0)
    lit, sky = lit_colors(terrain_palette(), daylight()), jnp.asarray(daylight().sky)
    cameras = jax.tree.map(jnp.asarray, orbit_cameras(CONFIG, 4, 24, 24))
    render = RenderConfig(rows=24, cols=24, shape=CONFIG.shape, has_geometry=False)
    logits, probs = harden(grid_from_map(block_map, InitialLogits(occupancy=5.0, material=20.0)))
    hard = dataclasses.replace(render, alpha="hard")
    views = jnp.arange(4)
    pictures = render_views(hard, logits, probs, lit, sky, cameras, views).color
    guide = target(jnp.round(255 * pictures).astype(jnp.uint8))
    world = World(cameras, lit, sky, neutral_priors(7), guide.data)
    config = TrainConfig(render=render, num_steps=60, learning_rate=0.2)
    sampler = uniform.make(uniform.UniformConfig(num_items=4, batch_size=2))
    step = counted(functools.partial(train_step, config, sampler, guide))
    halves = [jax.jit(functools.partial(half, config, sampler)) for half in (look, learn)]
    return config, sampler, guide, world, step, jax.jit(step), *halves


def first_state(setting):
    config, sampler = setting[:2]
    grid = uniform_grid(CONFIG.shape, 7, noise=0.1, key=jax.random.key(1))
    return init_state(config, sampler, jax.random.key(2), grid)


def test_training_lowers_the_error_in_one_trace_and_repeats_itself(setting):
    world, step, compiled = setting[3:6]
    runs = []
    for _ in range(2):
        state, values = first_state(setting), []
        for _ in range(40):
            new, metrics = compiled(RUN_KEY, state, world)
            assert_same_shapes(state, new)
            state = new
            values.append(float(metrics["guide"]))
        assert np.mean(values[-8:]) < 0.4 * np.mean(values[:8])
        runs.append(state)
    assert step.count == 1
    for a, b in zip(jax.tree.leaves(runs[0]), jax.tree.leaves(runs[1]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_both_doors_take_the_same_step(setting):
    _, _, guide, world, _, compiled, first, second = setting
    state = first_state(setting)
    whole, _ = compiled(RUN_KEY, state, world)
    seen = first(RUN_KEY, state, world)
    pull = guide.pull(guide.data, seen.key, seen.query)
    halves, _ = second(state, world, seen, pull)
    for a, b in zip(jax.tree.leaves(whole.grid), jax.tree.leaves(halves.grid), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


def test_bad_cotangents_are_counted_and_change_nothing_else(setting):
    _, _, guide, world, _, _, first, second = setting
    state = first_state(setting)
    seen = first(RUN_KEY, state, world)
    pull = guide.pull(guide.data, seen.key, seen.query)
    spoiled = pull._replace(gradient=pull.gradient.at[0, 0, 0].set(jnp.nan))
    new, metrics = second(state, world, seen, spoiled)
    assert float(metrics["num_bad_cotangents"]) == 3
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(new.grid))


def test_schedules_begin_again_at_every_restart(setting):
    config = dataclasses.replace(setting[0], num_steps=100, restarts=(0.5, 0.8))
    progress = [float(since_restart(config, step)) for step in (0, 25, 49, 50, 79, 80, 90, 100)]
    np.testing.assert_allclose(progress, [0, 0.5, 0.98, 0, 29 / 30, 0, 0.5, 1.0], atol=1e-6)
    plain = dataclasses.replace(config, restarts=())
    np.testing.assert_allclose(since_restart(plain, 30), 0.3, atol=1e-6)


def test_a_restart_brings_doubt_back_and_changes_no_choice(setting):
    config, sampler, guide, world = setting[:4]
    config = dataclasses.replace(config, restarts=(0.5,), restart_logit=1.5)
    step = jax.jit(functools.partial(train_step, config, sampler, guide))
    block_map = make_world(CONFIG, 0)
    is_solid = block_map.is_solid
    sure = grid_from_map(block_map, InitialLogits(occupancy=6.0, material=6.0))
    for number, limit in ((28, config.max_logit), (29, config.restart_logit)):
        state = first_state(setting)._replace(grid=sure, step=jnp.int32(number))
        grid = step(RUN_KEY, state, world)[0].grid
        np.testing.assert_array_equal(grid.occupancy_logits > 0, sure.occupancy_logits > 0)
        material, known = (np.argmax(g.material_logits, -1)[is_solid] for g in (grid, sure))
        np.testing.assert_array_equal(material, known)
        doubt = float(jnp.abs(grid.occupancy_logits).max())
        assert doubt == limit if number == 29 else doubt > 5.0
        assert float(grid.material_logits.min()) >= -limit - 1e-6


def test_moments_are_those_of_the_pictures_of_all_worlds_the_chances_stand_for():
    """Every one of 3^4 worlds of four cells and two materials, rendered by itself."""
    random = np.random.default_rng(3)
    shape, num_cells = (2, 2, 1), 4
    logits = random.normal(size=shape)
    materials = random.normal(size=(*shape, 2))
    chance = 1 / (1 + np.exp(-logits.ravel()))
    share = np.asarray(jax.nn.softmax(jnp.asarray(materials))).reshape(num_cells, 2)
    lit, sky = jnp.asarray(random.random((2, 6, 3)), jnp.float32), jnp.full(3, 0.4)
    cameras = jax.tree.map(jnp.asarray, orbit_cameras(CONFIG, 1, 12, 12))
    render = RenderConfig(rows=12, cols=12, shape=shape, has_geometry=False)
    world = World(cameras, lit, sky, neutral_priors(2), None)
    config = TrainConfig(render=render)
    view = jnp.arange(1)
    picture = jax.jit(
        lambda grid: render_moments(config, grid, world, view, jnp.zeros((), jnp.int32))
    )
    grid = VoxelGrid(jnp.asarray(logits, jnp.float32), jnp.asarray(materials, jnp.float32))
    mean, square = 0.0, 0.0
    for kinds in itertools.product((-1, 0, 1), repeat=num_cells):
        likely = [
            1 - chance[i] if kind < 0 else chance[i] * share[i, kind]
            for i, kind in enumerate(kinds)
        ]
        kind = np.reshape(kinds, shape)
        pure = VoxelGrid(
            jnp.where(jnp.asarray(kind) < 0, -90.0, 90.0),
            90.0 * jax.nn.one_hot(jnp.maximum(kind, 0), 2),
        )
        color = np.asarray(picture(pure), np.float64)[..., :3]
        mean = mean + np.prod(likely) * color
        square = square + np.prod(likely) * (color**2).sum(-1)
    moments = picture(grid)
    np.testing.assert_allclose(moments[..., :3], mean, atol=2e-6)
    np.testing.assert_allclose(moments[..., 3], square, atol=2e-6)
    variance = (square - (mean**2).sum(-1)) / 3
    np.testing.assert_allclose(pixel_variance(moments), variance, atol=2e-6)
    assert variance.max() > 0.01


def test_opaque_guides_are_refused_inside_jit(setting):
    config, sampler, guide, world = setting[:4]
    opaque = Guidance("opaque", guide.data, guide.pull, is_traceable=False)
    with pytest.raises(ValueError, match="runs outside jit"):
        train_step(config, sampler, opaque, RUN_KEY, first_state(setting), world)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.0}, "learning rates"),
        ({"variance_end": -1.0}, "variance"),
        ({"num_steps": 0}, "num_steps"),
        ({"restarts": (0.6, 0.4)}, "restarts"),
        ({"restarts": (1.0,)}, "restarts"),
    ],
)
def test_impossible_settings_are_refused(setting, change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(setting[0], **change)
