import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from nerf import depth, marching, occupancy, train_step
from nerf.depth import DepthConfig, Known
from nerf.marching import MarchingConfig, PackedSamples
from nerf.occupancy import OccupancyConfig
from nerf.spaces import SceneBounds
from scenes.rays import Rays
from tests.variants import count_compilations

from .conftest import TINY

AABB = jnp.array([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
BOUNDS = SceneBounds(AABB, jnp.asarray(0.0), jnp.asarray(10.0))
GRID = OccupancyConfig(resolution=8)
MARCHING = MarchingConfig(budget=24 * 32, num_candidates=64)
NUM_RAYS, NUM_SAMPLES = 24, 32


@pytest.fixture(scope="module")
def candidates():
    rng = np.random.default_rng(1)
    grid = occupancy.init(GRID)._replace(occupied=jnp.asarray(rng.random(512) < 0.5))
    origins = rng.normal(size=(NUM_RAYS, 3))
    origins = 3 * origins / np.linalg.norm(origins, axis=-1, keepdims=True)
    directions = rng.uniform(-0.8, 0.8, size=(NUM_RAYS, 3)) - origins
    directions = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    directions[3] *= -1  # misses the box
    rays = Rays(jnp.asarray(origins, jnp.float32), jnp.asarray(directions, jnp.float32))
    return marching.find_candidates(
        MARCHING, GRID, grid, BOUNDS, rays, step=0.06, offset=jnp.full(NUM_RAYS, 0.5)
    )


def occupied_places(candidates, ray):
    words = np.asarray(candidates.words)[ray]
    bits = [w >> b & 1 for w in words.tolist() for b in range(32)]
    return float(candidates.start[ray]) + 0.06 * np.flatnonzero(bits)


def test_occupied_length_is_counted_candidate_by_candidate(candidates):
    x = jnp.asarray(np.random.default_rng(2).uniform(2.0, 4.0, NUM_RAYS), jnp.float32)
    found = marching.occupied_before(candidates, x)
    for ray in range(NUM_RAYS):
        low = occupied_places(candidates, ray) - 0.03
        expected = np.clip(float(x[ray]) - low, 0.0, 0.06).sum()
        np.testing.assert_allclose(found[ray], expected, atol=1e-4)


@pytest.mark.parametrize("is_looked_at", [False, True])
@pytest.mark.parametrize("shape", ["interval", "normal"])
def test_guided_samples_tile_the_occupied_ray_and_gather_at_the_depth(
    candidates, shape, is_looked_at
):
    config = DepthConfig(is_guided=True, shape=shape, width=0.1)
    places = [occupied_places(candidates, ray) for ray in range(NUM_RAYS)]
    target = np.array([p[len(p) // 2] if len(p) else 1.0 for p in places], np.float32)
    mask = np.arange(NUM_RAYS) % 4 != 0
    known = Known(x=jnp.asarray(np.where(mask, target, 0.0)), mask=jnp.asarray(mask))
    # the look found everything in the last eighth of each ray
    edges = jnp.tile(jnp.array([0, 1, 2, 3, 4, 5, 6, 7, 16]) / 16, (NUM_RAYS, 1))
    samples = depth.guided_samples(
        config,
        MARCHING,
        jax.random.key(0),
        candidates,
        BOUNDS,
        known,
        edges if is_looked_at else None,
    )
    ray = np.asarray(samples.ray).reshape(NUM_RAYS, NUM_SAMPLES)
    np.testing.assert_array_equal(ray, np.arange(NUM_RAYS)[:, None].repeat(NUM_SAMPLES, 1))
    place = np.asarray(samples.place).reshape(ray.shape)
    width = np.asarray(samples.width).reshape(ray.shape)
    assert np.all(np.diff(place, axis=1) >= -1e-6)
    for r in range(NUM_RAYS):
        np.testing.assert_allclose(width[r].sum(), 0.06 * len(places[r]), atol=1e-4)
        if len(places[r]):
            gap = np.abs(place[r][:, None] - places[r][None]).min(axis=1)
            assert gap.max() < 0.0301  # in an occupied interval
    near = (np.abs(place - target[:, None]) < 0.25).mean(axis=1)
    assert near[mask & (near > 0)].mean() > near[~mask].mean() + 0.2
    late = [(place[r] > np.quantile(places[r], 7 / 8)).mean() for r in range(0, NUM_RAYS, 4)]
    np.testing.assert_allclose(np.mean(late), 9 / 16 if is_looked_at else 1 / 8, atol=0.06)
    assert not bool(np.asarray(samples.valid).reshape(ray.shape)[3].any())


def one_ray(x, width):
    count = len(x)
    return PackedSamples(
        ray=jnp.zeros(count, jnp.int32),
        distance=jnp.asarray(x),
        length=jnp.asarray(width),
        place=jnp.asarray(x),
        width=jnp.asarray(width),
        valid=jnp.ones(count, bool),
    )


X, WIDTH = np.array([1.0, 1.5, 2.0, 2.5], np.float32), np.full(4, 0.5, np.float32)
WEIGHTS = np.array([0.1, 0.2, 0.4, 0.1], np.float32)
TARGET, SIGMA = 2.0, 0.1


def closed_form(name):
    mean = (WEIGHTS * X).sum() / WEIGHTS.sum()
    variance = (WEIGHTS * (X - mean) ** 2).sum() / WEIGHTS.sum()
    normal = jax.scipy.stats.norm.cdf
    mass = normal((X + 0.25 - TARGET) / SIGMA) - normal((X - 0.25 - TARGET) / SIGMA)
    before = X + 0.25 < TARGET - 3 * SIGMA
    near = ~before & (X - 0.25 <= TARGET + 3 * SIGMA)
    kernel = np.exp(-0.5 * ((X - TARGET) / SIGMA) ** 2) * WIDTH
    return {
        "soft": (mean - TARGET) ** 2,
        "free_space": WEIGHTS[before].sum(),
        "surface": abs(mean - TARGET) + 0.1 * variance,
        "termination_kl": -(np.log(WEIGHTS + 1e-5) * kernel).sum(),
        "line_of_sight": ((WEIGHTS - mass)[near] ** 2).sum() + (WEIGHTS[before] ** 2).sum(),
    }[name]


@pytest.mark.parametrize("name", depth.LOSSES)
def test_losses_are_their_formulas(name):
    config = DepthConfig(sigma=SIGMA, **{name: 1.0})
    known = Known(x=jnp.array([TARGET]), mask=jnp.array([True]))
    found = depth.loss(config, jnp.asarray(WEIGHTS), one_ray(X, WIDTH), known)
    np.testing.assert_allclose(found[0], closed_form(name), rtol=1e-4)


@pytest.mark.parametrize("name", ["free_space", "line_of_sight"])
def test_a_wide_sample_that_holds_the_depth_is_the_surface(name):
    """All weight in the one sample with the depth in it costs nothing, wherever its centre is."""
    config = DepthConfig(sigma=0.02, **{name: 1.0})
    x, width = np.array([1.0, 2.0, 3.0], np.float32), np.ones(3, np.float32)
    for target in (1.6, 2.0, 2.4):  # the middle sample is from 1.5 to 2.5, sixteen deviations each
        known = Known(x=jnp.array([target]), mask=jnp.array([True]))
        for weights, cost in (([0.0, 1.0, 0.0], 0.0), ([1.0, 0.0, 0.0], 1.0)):
            found = depth.loss(config, jnp.asarray(weights), one_ray(x, width), known)
            expected = cost if name == "free_space" else 2 * cost  # the surface is missing too
            np.testing.assert_allclose(found[0], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["free_space", "line_of_sight"])
def test_narrow_samples_count_by_their_centres(name):
    """No interval reaches over D - 3 s or D + 3 s, so centres and intervals say the same."""
    config = DepthConfig(sigma=0.1, **{name: 1.0})
    edges = 2.0 + 0.01 * np.arange(-60, 61)
    x = np.float32(0.5 * (edges[1:] + edges[:-1]))
    width = np.full(120, 0.009, np.float32)
    weights = np.random.default_rng(0).random(120, np.float32) / 100
    known = Known(x=jnp.array([2.0]), mask=jnp.array([True]))
    found = depth.loss(config, jnp.asarray(weights), one_ray(x, width), known)
    before, near = x < 1.7, np.abs(x - 2.0) <= 0.3
    assert (before.sum(), near.sum()) == (30, 60)
    mass = norm.cdf((x + width / 2 - 2.0) / 0.1) - norm.cdf((x - width / 2 - 2.0) / 0.1)
    expected = {
        "free_space": weights[before].sum(),
        "line_of_sight": ((weights - mass)[near] ** 2).sum() + (weights[before] ** 2).sum(),
    }[name]
    np.testing.assert_allclose(found[0], expected, rtol=1e-4)


@pytest.mark.parametrize("name", depth.LOSSES)
def test_losses_are_finite_for_rays_that_see_nothing_and_silent_without_depth(name):
    config = DepthConfig(**{name: 1.0})
    samples = one_ray(X, WIDTH)

    def total(weights, mask):
        known = Known(x=jnp.where(mask, TARGET, 0.0)[None], mask=mask[None])
        return depth.loss(config, weights, samples, known)[0]

    for weights in (np.zeros(4), np.array([1.0, 0, 0, 0]), np.full(4, 1e-10)):
        value, grad = jax.value_and_grad(total)(
            jnp.asarray(weights, jnp.float32), jnp.asarray(True)
        )
        assert np.isfinite(value)
        assert np.all(np.isfinite(grad))
        silent, none = jax.value_and_grad(total)(
            jnp.asarray(weights, jnp.float32), jnp.asarray(False)
        )
        assert silent == 0.0
        assert not np.any(none)


@pytest.mark.parametrize("num_coarse", [0, 8])
def test_hybrid_training_learns_the_depth_and_is_traced_once(
    scene, data, sampler, run_key, num_coarse
):
    known = jnp.asarray(scene.train.depth)
    with_depth = data._replace(pixels=data.pixels._replace(depth=known))
    placing = dataclasses.replace(TINY.marching, num_coarse=num_coarse)
    config = dataclasses.replace(TINY, marching=placing, depth=depth.PRESETS["hybrid"])
    step = train_step.make_train_step(config, sampler)
    state = train_step.init_state(config, jax.random.key(0), sampler)
    state, first = step(state, with_depth, run_key)
    with count_compilations() as compiled:
        for _ in range(80):
            state, last = step(state, with_depth, run_key)
    assert not compiled
    assert bool(last.is_finite)
    assert int(first.kept_rays) == TINY.rays_per_step  # nothing is left out
    assert float(last.mse) < 0.5 * float(first.mse)


def test_keypoint_rays_teach_depth_and_nothing_else(scene, data, sampler, run_key):
    sparse = np.full(scene.train.depth.shape, np.nan, np.float32)
    places = np.flatnonzero(np.isfinite(scene.train.depth.reshape(-1)))[::97]
    sparse.reshape(-1)[places] = scene.train.depth.reshape(-1)[places]
    informed = data._replace(
        pixels=data.pixels._replace(depth=jnp.asarray(sparse)),
        depth_pixels=jnp.asarray(places, jnp.int32),
    )
    config = dataclasses.replace(TINY, depth=DepthConfig(soft=1.0, keypoint_rays=64))
    step = train_step.make_train_step(config, sampler)
    _, with_depth = step(
        train_step.init_state(config, jax.random.key(0), sampler), informed, run_key
    )
    assert int(with_depth.kept_rays) <= TINY.rays_per_step
    assert float(with_depth.loss) > float(with_depth.mse)


@pytest.mark.parametrize("wrong", [{"soft": -1.0}, {"guided_fraction": 1.0}, {"sigma": 0.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DepthConfig(**wrong)


def test_a_budget_too_small_for_guidance_is_refused():
    with pytest.raises(ValueError, match="at least 4 per ray"):
        dataclasses.replace(
            TINY,
            marching=dataclasses.replace(TINY.marching, budget=512),
            depth=depth.PRESETS["hybrid"],
        )
