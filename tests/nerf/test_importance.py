"""Samples lie where light is absorbed, in shares that can be worked out by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nerf import importance, marching, occupancy, rendering
from nerf.fields import FieldSample
from nerf.marching import MarchingConfig
from nerf.occupancy import OccupancyConfig
from nerf.spaces import SceneBounds
from scenes.rays import Rays

GRID = OccupancyConfig(resolution=8)
BOUNDS = SceneBounds(jnp.array([[-1.0] * 3, [1.0] * 3]), jnp.asarray(0.0), jnp.asarray(10.0))
CONFIG = MarchingConfig(budget=64 * 32, num_candidates=128, num_coarse=32)
RAYS = Rays(jnp.tile(jnp.array([[0.03, 0.05, 3.0]]), (64, 1)), jnp.array([[0.0, 0.0, -1.0]] * 64))


def slab(unit):
    """Opaque from z = 0.25 to z = -0.25, half of the way through the box."""
    return jnp.where(jnp.abs(unit[:, 2] - 0.5) < 0.125, 50.0, 0.0)


def candidates(grid):
    step = marching.shortest_step(CONFIG, BOUNDS)
    offset = jnp.full((64,), 0.5)
    return marching.find_candidates(CONFIG, GRID, grid, BOUNDS, RAYS, step=step, offset=offset)


@functools.partial(jax.jit, static_argnames="density_fn")
def placed(key, grid, density_fn=slab):
    depth = functools.partial(rendering.optical_depth, density_fn, CONFIG, BOUNDS, RAYS)
    return importance.place(CONFIG, key, candidates(grid), BOUNDS, depth, num_samples=32)


def test_the_distribution_is_inverted_as_numpy_interpolates():
    rng = np.random.default_rng(0)
    weights = jnp.asarray(rng.random((5, 9)) ** 4, jnp.float32)
    edges = importance.cumulative(weights, 0.1)
    u = jnp.asarray(np.sort(rng.random((5, 40)), axis=1), jnp.float32)
    found = importance.invert(edges, u)
    for row in range(5):
        expected = np.interp(u[row], np.asarray(edges[row]), np.linspace(0, 1, 10))
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


def test_the_floor_holds_and_empty_rays_get_even_samples():
    weights = jnp.zeros((2, 8)).at[0, 3].set(1.0)
    mass = np.diff(importance.cumulative(weights, 0.2), axis=1)
    # the blur gives half of the peak to each neighbour
    expected = [0.025, 0.025, 0.225, 0.425, 0.225, 0.025, 0.025, 0.025]
    np.testing.assert_allclose(mass[0], expected, atol=1e-6)
    np.testing.assert_allclose(mass[1], 1 / 8, atol=1e-6)


def test_light_is_shared_out_among_strata():
    depth = jnp.array([[0.0, 0.5, 2.0, 100.0, 1.0]])
    share = importance.absorbed(depth)
    np.testing.assert_allclose(jnp.sum(share), 1.0, rtol=1e-6)
    np.testing.assert_allclose(share[0, :2], [0.0, 1 - np.exp(-0.5)], rtol=1e-6)


@pytest.mark.parametrize("key", [None, jax.random.key(3)])
def test_samples_gather_where_the_surface_is_and_fill_the_ray(key):
    samples = placed(key, occupancy.init(GRID))
    z = 3.0 - np.asarray(samples.distance).reshape(64, 32)
    assert (np.diff(z, axis=1) <= 1e-6).all()
    # the first strata of the slab absorb all: between them and the blur lie four strata of 32
    at_surface = np.mean((z < 0.25 + 2 / 16) & (z > 0.25 - 3 / 16), axis=1)
    assert (at_surface > 0.75).all()
    width = np.asarray(samples.length).reshape(64, 32)
    assert (width >= 0).all()
    np.testing.assert_allclose(width.sum(axis=1), 2.0, rtol=0.02)


def test_surfaces_are_found_more_exactly_than_by_even_steps():
    def field(params, unit, directions):
        return FieldSample(slab(unit) * 10, jnp.ones((unit.shape[0], 3)))

    def render(place_fn, step):
        return rendering.render_packed(
            field,
            CONFIG,
            GRID,
            {},
            occupancy.init(GRID),
            BOUNDS,
            RAYS,
            step=step,
            offset=jax.random.uniform(jax.random.key(1), (64,)),
            place_fn=place_fn,
        ).rays.depth

    def place(found):
        depth = functools.partial(rendering.optical_depth, slab, CONFIG, BOUNDS, RAYS)
        return importance.place(CONFIG, jax.random.key(2), found, BOUNDS, depth, num_samples=32)

    shortest = marching.shortest_step(CONFIG, BOUNDS)
    # even steps of the same number of samples per ray
    even = jax.jit(lambda: render(None, jnp.asarray(2.0 / 31)))()
    gathered = jax.jit(lambda: render(place, shortest))()
    errors = [np.sqrt(np.mean(np.square(depth - 2.75))) for depth in (even, gathered)]
    assert errors[1] < 0.5 * errors[0]


def test_nothing_is_learned_through_the_places():
    def total(scale):
        samples = placed(jax.random.key(0), occupancy.init(GRID), lambda unit: scale * slab(unit))
        return jnp.sum(samples.distance) + jnp.sum(samples.length)

    assert float(jax.grad(total)(1.0)) == 0.0


def test_rays_that_meet_nothing_have_no_samples():
    empty = occupancy.init(GRID)._replace(occupied=jnp.zeros(512, bool))
    samples = placed(jax.random.key(0), empty)
    assert not np.asarray(samples.valid).any()
    assert np.isfinite(samples.distance).all()


def test_few_rays_with_more_samples_than_candidates_are_summed_whole():
    """The sums along a ray know its length from the samples placed, not from the candidates."""
    config = dataclasses.replace(CONFIG, budget=4 * 2048)
    rays = jax.tree.map(lambda leaf: leaf[:4], RAYS)

    def fog(unit):
        return jnp.full(unit.shape[:1], 0.4)

    def field(params, unit, directions):
        return FieldSample(fog(unit), jnp.ones((unit.shape[0], 3)))

    def place(found):
        depth = functools.partial(rendering.optical_depth, fog, config, BOUNDS, rays)
        key = jax.random.key(2)
        return importance.place(config, key, found, BOUNDS, depth, num_samples=2048)

    def opacity():
        return rendering.render_packed(
            field,
            config,
            GRID,
            {},
            occupancy.init(GRID),
            BOUNDS,
            rays,
            step=marching.shortest_step(config, BOUNDS),
            offset=jnp.full((4,), 0.5),
            place_fn=place,
        ).rays.opacity

    np.testing.assert_allclose(jax.jit(opacity)(), 1 - np.exp(-0.4 * 2.0), atol=0.01)
