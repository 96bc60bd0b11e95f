import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nerf import fields, images, marching, occupancy, rendering, train_step
from nerf.fields import FieldSample
from nerf.spaces import SceneBounds
from scenes.rays import Rays, view_rays
from tests.variants import count_compilations

from .conftest import TINY

DENSITY = 0.8

COLOR = (0.9, 0.5, 0.1)


def fog(params, unit, directions):
    """A field of constant density and colour."""
    count = unit.shape[0]
    return FieldSample(jnp.full(count, DENSITY), jnp.tile(jnp.array([COLOR]), (count, 1)))


@pytest.fixture(scope="module")
def rays(data):
    grid = view_rays(data.pixels.cameras, 0, 16, 16)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, 3), grid)


@pytest.fixture(scope="module")
def grid():
    return occupancy.init(TINY.occupancy)


def chords(data, rays):
    """Length of each ray inside the box, in float64."""
    low, high = np.float64(data.bounds.aabb)
    origin, direction = np.float64(rays.origins), np.float64(rays.directions)
    a, b = (low - origin) / direction, (high - origin) / direction
    return np.maximum(np.minimum(a, b).max(-1) * -1 + np.maximum(a, b).min(-1), 0)


def render(field, budget, data, rays, grid):
    config = dataclasses.replace(TINY.marching, budget=budget)
    step = marching.shortest_step(config, data.bounds)
    fn = functools.partial(rendering.render_rays, field, config, TINY.occupancy, {})
    return jax.jit(fn)(grid, data.bounds, rays, step=step), float(step)


def test_fog_follows_beer_lambert(data, rays, grid):
    rendered, step = render(fog, 4096, data, rays, grid)
    exact = 1 - np.exp(-DENSITY * chords(data, rays))
    # a march covers the chord to within one step at its far end
    assert np.max(np.abs(rendered.opacity - exact)) < DENSITY * step
    color = np.asarray(rendered.opacity)[:, None] * np.array([COLOR])
    np.testing.assert_allclose(rendered.color, color, atol=1e-5)


def test_the_number_of_packs_does_not_change_the_image(data, rays, grid):
    large, _ = render(fog, 32768, data, rays, grid)
    small, _ = render(fog, 100, data, rays, grid)
    for a, b in zip(large, small, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize("budget", [100, 4096])
def test_placed_fog_follows_beer_lambert_whatever_the_blocks(data, rays, grid, budget):
    config = dataclasses.replace(TINY.marching, budget=budget, num_coarse=8)
    fn = functools.partial(
        rendering.render_placed,
        fog,
        lambda params, unit: jnp.full(unit.shape[0], DENSITY),
        config,
        TINY.occupancy,
        {},
        num_samples=24,
    )
    rendered = jax.jit(fn)(grid, data.bounds, rays)
    exact = 1 - np.exp(-DENSITY * chords(data, rays))
    step = float(marching.shortest_step(config, data.bounds))
    assert np.max(np.abs(rendered.opacity - exact)) < DENSITY * step
    color = np.asarray(rendered.opacity)[:, None] * np.array([COLOR])
    np.testing.assert_allclose(rendered.color, color, atol=1e-5)


def test_scaled_gradients_leave_values_alone():
    share = jnp.array([0.0, 0.25, 1.0])
    values = FieldSample(jnp.array([1.0, 2.0, 3.0]), jnp.full((3, 3), 0.5))
    found, pull = jax.vjp(lambda values: rendering.scale_gradients(values, share), values)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, values)
    (slopes,) = pull(jax.tree.map(jnp.ones_like, values))
    np.testing.assert_allclose(slopes.density, share)
    np.testing.assert_allclose(slopes.color, jnp.tile(share[:, None], (1, 3)))


def test_what_is_near_a_camera_learns_by_the_square_of_its_distance(grid):
    bounds = SceneBounds(jnp.array([[-1.0] * 3, [1.0] * 3]), jnp.asarray(0.0), jnp.asarray(10.0))
    rays = Rays(jnp.zeros((4, 3)), jnp.tile(jnp.array([[0.0, 0.6, 0.8]]), (4, 1)))

    def slopes(near_gradients):
        config = dataclasses.replace(
            TINY.marching, space="unbounded", budget=512, near_gradients=near_gradients
        )
        step = marching.shortest_step(config, bounds)

        def seen(extra):
            def field(extra, unit, directions):
                return FieldSample(0.01 + extra, jnp.full((512, 3), 0.5))

            shared = (field, config, TINY.occupancy, extra, grid, bounds, rays)
            render = rendering.render_packed(*shared, step=step, offset=jnp.full(4, 0.5))
            return jnp.sum(render.rays.color), render.samples

        slope, samples = jax.grad(seen, has_aux=True)(jnp.zeros(512))
        return np.where(samples.valid, slope, 0.0), np.asarray(samples.distance)

    (scaled, distance), (plain, _) = slopes(0.5), slopes(0.0)
    # the box is 2 wide: slopes are whole from a distance of 1 on
    np.testing.assert_allclose(scaled, plain * np.minimum(distance**2, 1.0), atol=1e-6)
    assert np.any(plain[distance < 0.5])


@pytest.fixture(scope="module")
def state(data, sampler):
    return train_step.init_state(TINY, jax.random.key(0), sampler)


def test_training_and_viewing_renders_agree(data, rays, state):
    field = functools.partial(fields.evaluate, TINY.field)
    config = dataclasses.replace(TINY.marching, budget=16384)
    step = marching.shortest_step(config, data.bounds)

    @jax.jit
    def both(params, grid, bounds, rays):
        shared = (field, config, TINY.occupancy, params, grid, bounds, rays)
        return (
            rendering.render_rays(*shared, step=step),
            rendering.render_packed(*shared, step=step, offset=jnp.full(256, 0.5)),
        )

    viewed, trained = both(state.params, state.grid, data.bounds, rays)
    assert bool(trained.kept.all())
    for a, b in zip(viewed, trained.rays, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_images_of_every_size_and_chunk_come_from_one_program(data, state):
    shown = images.snapshot(state)
    white = np.ones(3, np.float32)
    cameras = data.pixels.cameras
    small = images.make_image_renderer(TINY, rays_per_chunk=100)
    large = images.make_image_renderer(TINY, rays_per_chunk=1024)
    a = small(shown, data.bounds, cameras, 1, 12, 17, white)
    b = large(shown, data.bounds, cameras, 1, 12, 17, white)
    assert a.color.shape == (12, 17, 3)
    for one, other in zip(a, b, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    with count_compilations() as compiled:
        assert small(shown, data.bounds, cameras, 1, 5, 9, white).depth.shape == (5, 9)
    assert not compiled


def test_an_empty_image_is_refused(data, state):
    render_image = images.make_image_renderer(TINY, rays_per_chunk=64)
    with pytest.raises(ValueError, match="at least one row and column, got 0 x 4"):
        render_image(images.snapshot(state), data.bounds, data.pixels.cameras, 0, 0, 4, np.ones(3))
