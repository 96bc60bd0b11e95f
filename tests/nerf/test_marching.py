import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerf import marching, occupancy
from nerf.marching import MarchingConfig
from nerf.occupancy import OccupancyConfig
from nerf.spaces import SceneBounds
from scenes.rays import Rays

from . import oracles

CONFIG = MarchingConfig(budget=128, num_candidates=64)
GRID = OccupancyConfig(resolution=8)
AABB = jnp.array([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
BOUNDS = SceneBounds(AABB, jnp.asarray(0.0), jnp.asarray(10.0))
STEP = 0.06
NUM_RAYS = 24


@pytest.fixture(scope="module")
def scene():
    """A third of the cells occupied, rays from all around that cross, graze or miss the box."""
    rng = np.random.default_rng(0)
    occupied = rng.random((8, 8, 8)) < 0.3
    grid = occupancy.init(GRID)._replace(occupied=jnp.asarray(occupied.reshape(-1)))
    origins = rng.normal(size=(NUM_RAYS, 3))
    origins = 3 * origins / np.linalg.norm(origins, axis=-1, keepdims=True)
    directions = rng.uniform(-1.2, 1.2, size=(NUM_RAYS, 3)) - origins
    directions = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    rays = Rays(jnp.asarray(origins, jnp.float32), jnp.asarray(directions, jnp.float32))
    return grid, rays, jnp.asarray(rng.random(NUM_RAYS), jnp.float32)


@jax.jit
def find(grid, rays, offset, step=STEP):
    return marching.find_candidates(CONFIG, GRID, grid, BOUNDS, rays, step=step, offset=offset)


pack = jax.jit(functools.partial(marching.pack, CONFIG, bounds=BOUNDS))


@jax.jit
def pack_next(candidates, taken, alive):
    return marching.pack_next(CONFIG, candidates, BOUNDS, taken, alive)


def all_packs(candidates):
    """Samples of every ray, pack after pack."""
    found = [[] for _ in range(NUM_RAYS)]
    for first in range(0, int(marching.num_needed(candidates)), CONFIG.budget):
        samples = pack(candidates=candidates, first=jnp.asarray(first, jnp.int32))
        for ray, distance, valid in zip(
            *(np.asarray(x) for x in (samples.ray, samples.distance, samples.valid)), strict=True
        ):
            if valid:
                found[ray].append(distance)
    return found


def test_samples_are_the_occupied_candidates_inside_the_box(scene):
    grid, rays, offset = scene
    candidates = find(grid, rays, offset)
    assert int(marching.num_needed(candidates)) > CONFIG.budget  # several packs
    occupied = np.asarray(grid.occupied).reshape(8, 8, 8)
    for ray, found in enumerate(all_packs(candidates)):
        expected = oracles.march(
            occupied,
            8,
            np.full(3, -1.0),
            np.full(3, 1.0),
            np.float64(rays.origins[ray]),
            np.float64(rays.directions[ray]),
            10.0,
            float(candidates.start[ray]),
            STEP,
            CONFIG.num_candidates,
        )
        # a candidate within rounding of a cell's face may fall on either side
        assert abs(len(found) - len(expected)) <= 1
        if len(found) == len(expected):
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_rays_are_packed_whole_or_reported(scene):
    candidates = find(*scene)
    kept = np.asarray(marching.kept_rays(CONFIG, candidates))
    counts = np.array([len(found) for found in all_packs(candidates)])
    assert 0 < kept.sum() < NUM_RAYS
    np.testing.assert_array_equal(kept, np.cumsum(counts) <= CONFIG.budget)
    samples = pack(candidates=candidates)
    inside = np.bincount(np.asarray(samples.ray)[np.asarray(samples.valid)], minlength=NUM_RAYS)
    np.testing.assert_array_equal(inside[kept], counts[kept])


def test_unused_slots_weigh_nothing_and_keep_rays_in_order(scene):
    grid, rays, offset = scene
    few = grid._replace(occupied=grid.occupied & (jnp.arange(512) % 7 == 0))
    samples = pack(candidates=find(few, rays, offset))
    assert not bool(samples.valid.all())
    np.testing.assert_array_equal(np.asarray(samples.length)[~np.asarray(samples.valid)], 0.0)
    assert np.all(np.diff(samples.ray) >= 0)
    assert np.all(np.isfinite(samples.distance))


def test_packs_by_fair_shares_hold_every_sample_once(scene):
    candidates = find(*scene)
    counts = np.asarray(marching.num_samples(candidates))
    whole = [[] for _ in range(NUM_RAYS)]
    taken, alive = jnp.zeros(NUM_RAYS, jnp.int32), jnp.arange(NUM_RAYS) != 3
    for _ in range(40):
        samples, taken = pack_next(candidates, taken, alive)
        assert np.all(np.diff(samples.ray) >= 0)
        for ray, x in zip(*(np.asarray(v)[samples.valid] for v in samples[:2]), strict=True):
            whole[ray].append(x)
    np.testing.assert_array_equal(taken, np.where(alive, counts, 0))
    for ray, (found, expected) in enumerate(zip(whole, all_packs(candidates), strict=True)):
        np.testing.assert_array_equal(found, [] if ray == 3 else expected)


def test_an_empty_grid_needs_nothing(scene):
    grid, rays, offset = scene
    candidates = find(grid._replace(occupied=jnp.zeros_like(grid.occupied)), rays, offset)
    assert int(marching.num_needed(candidates)) == 0
    assert bool(marching.kept_rays(CONFIG, candidates).all())
    assert not bool(pack(candidates=candidates).valid.any())


def test_shortest_step_never_cuts_a_march(scene):
    grid, _, _ = scene
    full = grid._replace(occupied=jnp.ones_like(grid.occupied))
    corner = jnp.array([[-1.0, -1.0, -1.0]]) * 2
    along = jnp.array([[1.0, 1.0, 1.0]]) / jnp.sqrt(3.0)
    rays = Rays(jnp.tile(corner, (NUM_RAYS, 1)), jnp.tile(along, (NUM_RAYS, 1)))
    step = marching.shortest_step(CONFIG, BOUNDS)
    candidates = find(full, rays, jnp.zeros(NUM_RAYS), step)
    last = candidates.start[0] + (len(all_packs(candidates)[0]) - 1) * step
    assert float(last) > 3 * np.sqrt(3) - 1.01 * float(step)


@given(st.integers(1, 2**32 - 1), st.integers(0, 31))
def test_select_bit_finds_the_ranked_set_bit(word, rank):
    places = [bit for bit in range(32) if word >> bit & 1]
    rank = rank % len(places)
    found = marching._select_bit(jnp.array([word], jnp.uint32), jnp.array([rank], jnp.int32))
    assert int(found[0]) == places[rank]


def test_step_grows_until_the_samples_fit_and_falls_back_to_the_shortest():
    scale = jnp.asarray(1.0)
    for _ in range(20):
        scale = marching.next_step_scale(CONFIG, scale, jnp.asarray(int(1000 / float(scale))))
    assert 0.9 * CONFIG.budget <= 1000 / float(scale) <= CONFIG.budget
    for _ in range(40):
        scale = marching.next_step_scale(CONFIG, scale, jnp.asarray(10))
    assert float(scale) == 1.0


@pytest.mark.parametrize(
    "wrong", [{"budget": 0}, {"num_candidates": 40}, {"max_step_scale": 0.5}, {"target_fill": 0.0}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MarchingConfig(**wrong)
