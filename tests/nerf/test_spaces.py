import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nerf import marching, occupancy, rendering, spaces
from nerf.fields import FieldSample
from nerf.marching import MarchingConfig
from nerf.occupancy import OccupancyConfig
from nerf.spaces import SceneBounds
from samplers.in_halves import map_halves
from scenes.contraction import to_unit_cube
from scenes.rays import Rays

BOX = jnp.array([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
FRUSTUM = jnp.array([[-4.0, -3.0, -5.0], [4.0, 3.0, -1.0]])
BOUNDS = {
    "bounded": SceneBounds(BOX, jnp.asarray(0.5), jnp.asarray(6.0)),
    "unbounded": SceneBounds(BOX, jnp.asarray(0.1), jnp.asarray(100.0)),
    "forward_facing": SceneBounds(FRUSTUM, jnp.asarray(1.0), jnp.asarray(7.0)),
}
GRID = OccupancyConfig(resolution=8)


@pytest.mark.parametrize("space", BOUNDS)
def test_coordinate_and_distance_are_inverse_and_rise(space):
    bounds = BOUNDS[space]
    t = jnp.geomspace(bounds.near, bounds.far, 200)
    x = spaces.coordinate(space, bounds, t)
    assert np.all(np.diff(x) > 0)
    np.testing.assert_allclose(spaces.distance(space, bounds, x), t, rtol=2e-3)
    if space != "bounded":  # there the box limits the march
        longest = spaces.longest_march(space, bounds)
        np.testing.assert_allclose(x[-1] - x[0], longest, rtol=1e-5)


@pytest.mark.parametrize("space", ["unbounded", "forward_facing"])
def test_distances_beyond_the_end_stop_at_far(space):
    bounds = BOUNDS[space]
    end = 2.0 * spaces.knee(space, bounds)
    far = spaces.distance(space, bounds, jnp.array([end, 2 * end, 1e10]))
    np.testing.assert_array_equal(far, bounds.far)
    slopes = jax.vmap(jax.grad(lambda t: spaces.coordinate(space, bounds, t)))(
        jnp.array([0.0, 1e-10, 1.0, 1e10, 1e30])
    )
    assert np.all(np.isfinite(slopes))


@pytest.mark.parametrize("space", BOUNDS)
def test_steps_grow_with_the_square_of_distance_behind_the_knee(space):
    bounds = BOUNDS[space]
    t = jnp.array([1.2, 1.7, 3.0, 5.5])
    x = spaces.coordinate(space, bounds, t)
    slope = jax.vmap(jax.grad(lambda x: spaces.distance(space, bounds, x)))(x)
    is_bent = space != "bounded"
    expected = jnp.square(jnp.maximum(t / spaces.knee(space, bounds), 1.0)) if is_bent else 1.0
    np.testing.assert_allclose(slope, expected, rtol=1e-4)


def test_shrinking_is_the_radial_slope_of_the_contraction():
    bounds = BOUNDS["unbounded"]
    direction = jnp.array([1.0, 0.3, -0.2])
    for size in (0.5, 1.5, 4.0, 30.0):
        slope = jax.jvp(
            lambda r: 4 * to_unit_cube(r * direction, "unbounded", BOX),
            (jnp.asarray(size),),
            (jnp.asarray(1.0),),
        )[1]
        shrinking = spaces.shrinking("unbounded", bounds, (size * direction)[None])[0]
        np.testing.assert_allclose(slope[0], shrinking, rtol=1e-4)


def test_shrinking_of_a_frustum_is_the_slope_of_inverse_depth():
    bounds = BOUNDS["forward_facing"]
    for depth in (1.0, 2.0, 5.0):
        slope = jax.grad(
            lambda d: to_unit_cube(jnp.array([0.1, 0.2, -d]), "forward_facing", FRUSTUM)[2]
        )(depth)
        at = jnp.array([[0.1, 0.2, -depth]])
        # the cube's third side is 1 - 1/5 of the inverse nearest depth
        np.testing.assert_allclose(slope * 0.8, spaces.shrinking("forward_facing", bounds, at)[0])


def haze(params, unit, directions):
    """Density 0.3 per unit of shrunk length, as bright as the cube's third coordinate."""
    count = unit.shape[0]
    return FieldSample(jnp.full(count, 0.3), jnp.tile(unit[:, 2:], (1, 3)))


@pytest.mark.parametrize("space", ["unbounded", "forward_facing"])
def test_haze_is_absorbed_as_its_integral_says(space):
    bounds = BOUNDS[space]
    config = MarchingConfig(space=space, budget=4096, num_candidates=256)
    rng = np.random.default_rng(0)
    directions = np.concatenate([rng.uniform(-0.3, 0.3, (16, 2)), -np.ones((16, 1))], axis=1)
    directions = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    origins = rng.uniform(-0.05, 0.05, (16, 3))
    rays = Rays(jnp.asarray(origins, jnp.float32), jnp.asarray(directions, jnp.float32))
    render = jax.jit(functools.partial(rendering.render_rays, haze, config, GRID, {}))
    step = marching.shortest_step(config, bounds)
    rendered = render(occupancy.init(GRID), bounds, rays, step=step)
    # the integral along the ray by a fine sum over distance, in float64
    t = np.geomspace(float(bounds.near), float(bounds.far), 20001)
    middle, width = 0.5 * (t[1:] + t[:-1]), np.diff(t)
    points = origins[:, None] + middle[None, :, None] * directions[:, None]
    unit = np.asarray(to_unit_cube(jnp.asarray(points, jnp.float32), space, bounds.aabb))
    inside = np.all((unit >= 0) & (unit <= 1), axis=-1)
    flat = jnp.asarray(points.reshape(-1, 3), jnp.float32)
    density = 0.3 * np.asarray(spaces.shrinking(space, bounds, flat)).reshape(inside.shape)
    tau = np.cumsum(np.where(inside, density * width, 0.0), axis=-1)
    np.testing.assert_allclose(rendered.opacity, 1 - np.exp(-tau[:, -1]), atol=0.01)
    weights = np.diff(1 - np.exp(-tau), axis=-1, prepend=0)
    expected = np.sum(weights * unit[..., 2], axis=-1)
    np.testing.assert_allclose(rendered.color[:, 0], expected, atol=0.01)


def test_a_surface_is_found_at_its_distance():
    bounds = BOUNDS["unbounded"]
    config = MarchingConfig(space="unbounded", budget=4096, num_candidates=384)

    def wall(params, unit, directions):
        # opaque behind z = -8, which is 2 - 1/8 in the contracted half
        behind = unit[:, 2] < 0.5 - 0.25 * (2 - 1 / 8)
        return FieldSample(jnp.where(behind, 1e4, 0.0), jnp.ones((unit.shape[0], 3)))

    rays = Rays(jnp.zeros((1, 3)), jnp.array([[0.0, 0.0, -1.0]]))
    render = jax.jit(functools.partial(rendering.render_rays, wall, config, GRID, {}))
    step = marching.shortest_step(config, bounds)
    rendered = render(occupancy.init(GRID), bounds, rays, step=step)
    np.testing.assert_allclose(rendered.opacity, 1.0, atol=1e-3)
    np.testing.assert_allclose(rendered.depth, 8.0, rtol=0.03)


def test_bounded_scenes_are_not_touched():
    points = jnp.array([[0.2, -0.5, 3.0]])
    bounds = BOUNDS["bounded"]
    np.testing.assert_array_equal(spaces.shrinking("bounded", bounds, points), 1.0)
    np.testing.assert_array_equal(spaces.coordinate("bounded", bounds, points), points)
    np.testing.assert_array_equal(spaces.distance("bounded", bounds, points), points)


def test_slopes_are_finite_where_points_are_worked_out_again():
    random = np.random.default_rng(0)
    origins = jnp.asarray(random.normal(size=(4096, 3)), jnp.float32)
    directions = jnp.asarray(random.normal(size=(4096, 3)), jnp.float32)
    away = np.exp(2 * random.normal(size=4096)).astype(np.float32)
    corners = jnp.array([[-1.0, -1.1, -0.9], [1.0, 1.2, 1.1]])
    bounds = spaces.SceneBounds(corners, jnp.array(0.1), jnp.array(100.0))

    def place(number, distance):
        points = origins[number] + distance[:, None] * directions[number]
        unit = spaces.to_unit("unbounded", bounds, points)
        return unit, spaces.shrinking("unbounded", bounds, points)

    def total(distance):
        unit, shrinking = map_halves(place, jnp.arange(4096), distance)
        return jnp.sum(unit) + jnp.sum(shrinking)

    assert np.isfinite(jax.jit(jax.grad(total))(jnp.asarray(away))).all()
