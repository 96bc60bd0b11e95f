import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from scenes import cameras as cams
from scenes.rays import camera_rays
from scenes.rotations import look_at

project = jax.jit(cams.project)
rays_of = jax.jit(camera_rays)
undistort = jax.jit(cams.undistort)
directions_of = jax.jit(cams.pixel_directions)
RATIONAL = np.array([0.09, -0.12, 0.0007, -0.0011, 0.03, 0.05, -0.04, 0.01])


def opencv_distort(coefficients, x, y):
    """OpenCV's formula as its documentation prints it, float64."""
    k1, k2, p1, p2, k3, k4, k5, k6 = (float(value) for value in coefficients)
    r2 = x**2 + y**2
    radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2),
        y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y,
    )


def two_cameras(distortion=RATIONAL):
    poses = look_at(
        np.array([[3.0, 1.0, 2.0], [-1.0, 4.0, 0.5]]), np.zeros(3), np.array([0.0, 0.0, 1.0])
    )
    return cams.make_cameras(
        poses, np.array([[90.0, 95.0], [70.0, 71.0]]), np.array([33.0, 20.5]), distortion
    )


def test_distort_equals_the_opencv_formula():
    points = np.random.default_rng(0).uniform(-0.8, 0.8, (50, 2))
    expected = np.stack(opencv_distort(RATIONAL, points[:, 0], points[:, 1]), axis=-1)
    got = cams.distort(jnp.asarray(RATIONAL, jnp.float32), jnp.asarray(points, jnp.float32))
    np.testing.assert_allclose(got, expected, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(-0.12, 0.12), min_size=8, max_size=8),
    st.integers(0, 2**31 - 1),
)
def test_undistort_inverts_distort(coefficients, seed):
    coefficients = np.array(coefficients) * [1, 0.5, 0.05, 0.05, 0.2, 1, 0.5, 0.2]
    points = np.random.default_rng(seed).uniform(-0.7, 0.7, (40, 2))
    target = np.stack(opencv_distort(coefficients, points[:, 0], points[:, 1]), axis=-1)
    got = undistort(np.float32(coefficients), np.float32(target))
    assert bool(jnp.all(got.is_valid))
    np.testing.assert_allclose(got.xy, points, atol=3e-5)


def test_undistort_without_distortion_changes_no_bit():
    points = np.random.default_rng(1).normal(0, 3, (100, 2)).astype(np.float32)
    got = undistort(np.zeros(8, np.float32), points)
    np.testing.assert_array_equal(got.xy, points)
    assert bool(jnp.all(got.is_valid))


def test_undistort_reports_what_the_lens_cannot_reach():
    barrel = np.array([-0.5, 0, 0, 0, 0, 0, 0, 0], np.float32)  # r (1 - r^2 / 2) peaks at 0.544
    points = np.array([[0.5, 0.0], [0.6, 0.0], [5.0, -5.0], [1e6, 0.0]], np.float32)
    got = undistort(barrel, points)
    np.testing.assert_array_equal(got.is_valid, [True, False, False, False])
    assert bool(jnp.all(jnp.isfinite(got.xy)))
    assert 0.5 < float(got.xy[0, 0]) < 0.816  # the branch before the fold at sqrt(2 / 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_undistort_of_bad_points_is_marked(value):
    got = undistort(RATIONAL.astype(np.float32), np.array([[value, 0.0]], np.float32))
    assert not bool(got.is_valid[0])


def test_undistort_has_the_derivatives_of_the_inverse():
    with jax.enable_x64(True):
        points = jnp.array([[0.3, -0.2], [0.05, 0.4]], jnp.float64)
        lens = jnp.asarray(RATIONAL)
        inverse = jax.jit(lambda k, p: cams.undistort(k, p).xy)
        check_grads(inverse, (lens, points), 1, modes=["rev"])


def test_axes_are_opengl():
    camera = cams.make_cameras(np.eye(4)[None], np.full(2, 10.0), np.array([8.0, 6.0]))
    view = np.zeros(3, np.int32)
    rays = rays_of(camera, view, np.array([[8.0, 6.0], [18.0, 6.0], [8.0, 16.0]], np.float32))
    s = np.sqrt(0.5)
    expected = [[0, 0, -1], [s, 0, -s], [0, -s, -s]]  # ahead; right of it; below it
    np.testing.assert_allclose(rays.directions, expected, atol=1e-6)
    np.testing.assert_array_equal(rays.origins, np.zeros((3, 3)))


def test_opengl_from_opencv_points_the_other_way_and_back():
    pose = look_at(np.array([1.0, 2.0, 3.0]), np.zeros(3), np.array([0.0, 0.0, 1.0]))
    turned = cams.opengl_from_opencv(pose)
    np.testing.assert_allclose(turned[:3, :3] @ [0, 0, 1], pose[:3, :3] @ [0, 0, -1])
    np.testing.assert_allclose(turned[:3, :3] @ [0, 1, 0], pose[:3, :3] @ [0, -1, 0])
    np.testing.assert_array_equal(turned[:3, 3], pose[:3, 3])
    np.testing.assert_array_equal(cams.opengl_from_opencv(turned), pose)


def test_project_equals_a_float64_loop():
    camera = two_cameras()
    rng = np.random.default_rng(2)
    points = rng.uniform(-0.8, 0.8, (30, 3)).astype(np.float32)
    view = rng.integers(0, 2, 30).astype(np.int32)
    xy, depth = project(camera, view, points)
    for index in range(30):
        pose = np.float64(camera.camera_to_world[view[index]])
        local = np.linalg.inv(pose) @ [*np.float64(points[index]), 1.0]
        x, y = opencv_distort(RATIONAL, local[0] / -local[2], -local[1] / -local[2])
        focal, principal = camera.focal[view[index]], camera.principal[view[index]]
        np.testing.assert_allclose(xy[index], [x, y] * focal + principal, atol=2e-4)
        np.testing.assert_allclose(depth[index], -local[2], rtol=1e-5)


def test_a_point_on_a_ray_projects_to_its_pixel():
    camera = two_cameras()
    rng = np.random.default_rng(3)
    xy = rng.uniform([0, 0], [66, 41], (30, 2)).astype(np.float32)
    view = rng.integers(0, 2, 30).astype(np.int32)
    rays = rays_of(camera, view, xy)
    np.testing.assert_allclose(np.linalg.norm(rays.directions, axis=-1), 1.0, atol=1e-6)
    for distance in (0.5, 7.0):
        again, planar = project(camera, view, rays.origins + distance * rays.directions)
        np.testing.assert_allclose(again, xy, atol=2e-3)
        lengths = np.linalg.norm(directions_of(camera, view, xy), axis=-1)
        np.testing.assert_allclose(planar * lengths, distance, rtol=1e-5)


def test_points_behind_the_camera_are_finite_and_marked_by_depth():
    camera = cams.make_cameras(np.eye(4)[None], np.full(2, 10.0), np.array([8.0, 6.0]), RATIONAL)
    points = np.array([[0.3, 0.1, 1.0], [0.3, 0.1, 0.0], [0.0, 0.0, 0.0]], np.float32)
    xy, depth = project(camera, np.zeros(3, np.int32), points)
    np.testing.assert_array_equal(xy, np.tile([[8.0, 6.0]], (3, 1)))
    np.testing.assert_array_equal(depth, [-1.0, 0.0, 0.0])
    total = jax.jit(lambda p: jnp.sum(cams.project(camera, np.zeros(3, np.int32), p)[0]))
    gradient = jax.jit(jax.grad(total))
    assert bool(jnp.all(jnp.isfinite(gradient(jnp.asarray(points)))))


def test_a_view_out_of_range_is_clamped():
    camera = two_cameras(np.zeros(8))
    xy = np.full((2, 2), 10.0, np.float32)
    far = rays_of(camera, np.array([-3, 99], np.int32), xy)
    near = rays_of(camera, np.array([0, 1], np.int32), xy)
    np.testing.assert_array_equal(far.directions, near.directions)


def test_scaled_cameras_see_the_same_rays():
    camera = two_cameras()
    xy = np.array([[4.0, 8.0], [50.0, 30.0]], np.float32)
    view = np.array([0, 1], np.int32)
    half = cams.scale_pixels(camera, np.array([0.5, 0.25]))
    whole_rays = rays_of(camera, view, xy)
    half_rays = rays_of(half, view, xy * np.float32([0.5, 0.25]))
    np.testing.assert_allclose(half_rays.directions, whole_rays.directions, atol=1e-6)
