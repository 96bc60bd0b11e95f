import jax
import jax.numpy as jnp
import numpy as np

from scenes.cameras import make_cameras, project, without_lens
from scenes.rays import Rays, camera_rays, intersect_box, pixel_grid, view_rays

intersect = jax.jit(intersect_box)
whole_view = jax.jit(view_rays, static_argnums=(2, 3))
rays_of = jax.jit(camera_rays)
BOX = np.array([[-1.0, -0.5, 0.0], [1.0, 0.5, 2.0]], np.float32)


def clip_by_loops(origin, direction, near, far):
    """Slab by slab in float64; None for a miss."""
    low, high = near, far
    for axis in range(3):
        if direction[axis] == 0:
            if not BOX[0, axis] <= origin[axis] <= BOX[1, axis]:
                return None
            continue
        ends = sorted((float(BOX[side, axis]) - origin[axis]) / direction[axis] for side in (0, 1))
        low, high = max(low, ends[0]), min(high, ends[1])
    return (low, high) if low < high else None


def test_box_intersection_equals_slab_loops():
    rng = np.random.default_rng(0)
    origins = rng.normal(0, 0.9, (200, 3)).astype(np.float32)
    directions = rng.normal(size=(200, 3))
    directions[:40, 0] = 0.0
    directions[40:60, :2] = 0.0
    directions = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)
    got = intersect(Rays(origins, directions), BOX, 0.1, 3.0)
    num_hits = 0
    for index in range(200):
        expected = clip_by_loops(
            np.float64(origins[index]), np.float64(directions[index]), 0.1, 3.0
        )
        near, far = float(got.near[index]), float(got.far[index])
        if expected is None:
            assert near == far
        else:
            num_hits += 1
            np.testing.assert_allclose([near, far], expected, atol=2e-5)
    assert 40 < num_hits < 160


def test_box_intersection_is_finite_with_its_derivative_along_a_face():
    origins = jnp.array([[-1.0, 0.0, 1.0], [-1.0, 0.5, 2.0], [0.0, 0.0, 1.0], [5.0, 5.0, 5.0]])
    directions = jnp.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])

    def total(origins, directions):
        interval = intersect_box(Rays(origins, directions), BOX, 0.0, 10.0)
        return jnp.sum(interval.near + interval.far), interval

    (_, interval), gradients = jax.value_and_grad(total, (0, 1), has_aux=True)(origins, directions)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves((interval, gradients)))
    np.testing.assert_allclose(interval.far[2] - interval.near[2], 1.0)  # from inside
    assert float(interval.near[3]) == float(interval.far[3])


def test_pixel_grid_is_at_centres():
    grid = pixel_grid(2, 3)
    np.testing.assert_array_equal(grid[0, 0], [0.5, 0.5])
    np.testing.assert_array_equal(grid[1, 2], [2.5, 1.5])
    assert grid.shape == (2, 3, 2)


def test_view_rays_are_the_camera_rays_of_its_centres():
    pose = np.eye(4)
    pose[:3, 3] = [1.0, 2.0, 3.0]
    cameras = make_cameras(np.stack([np.eye(4), pose]), np.array([4.0, 5.0]), np.array([1.5, 1.0]))
    whole = whole_view(cameras, 1, 2, 3)
    assert whole.directions.shape == (2, 3, 3)
    single = rays_of(cameras, np.array([1], np.int32), np.array([[2.5, 0.5]], np.float32))
    np.testing.assert_allclose(whole.directions[0, 2], single.directions[0], atol=1e-7)
    np.testing.assert_array_equal(whole.origins[0, 2], [1.0, 2.0, 3.0])


def test_lenses_left_out_change_no_ray_and_no_pixel():
    pose = np.eye(4, dtype=np.float32)[None].repeat(2, axis=0)
    pinholes = make_cameras(pose, np.array([50.0, 60.0]), np.array([20.0, 15.0]))
    bent = pinholes._replace(distortion=np.full((2, 8), 0.01, np.float32))
    assert without_lens(bent) is bent
    bare = without_lens(pinholes)
    assert bare.distortion is None
    assert without_lens(bare) is bare
    xy = np.random.default_rng(0).uniform(0, 40, (64, 2)).astype(np.float32)
    view = np.arange(64) % 2
    before, after = rays_of(pinholes, view, xy), rays_of(bare, view, xy)
    jax.tree.map(np.testing.assert_array_equal, before, after)
    points = np.asarray(after.origins + 3.0 * after.directions)
    found = project(bare, view, points)
    np.testing.assert_allclose(found[0], xy, atol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, found, project(pinholes, view, points))
