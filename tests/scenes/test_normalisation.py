import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scenes import normalisation as norm
from scenes.cameras import make_cameras, project
from scenes.contraction import to_unit_cube
from scenes.rotations import look_at, nearest_rotation, rigid

UP = np.array([0.0, 0.0, 1.0])


def ring(num=12, radius=3.0, seed=0):
    """Cameras around a point that is not the origin, in a turned world."""
    angle = np.linspace(0, 2 * np.pi, num, endpoint=False)
    origins = radius * np.stack([np.cos(angle), np.sin(angle), np.full(num, 0.4)], axis=-1)
    poses = look_at(origins, np.zeros(3), UP)
    return move(poses, seed)


def facing(num=10, spread=0.3, seed=0):
    """Cameras side by side that look the same way."""
    rng = np.random.default_rng(seed)
    origins = np.concatenate([rng.uniform(-spread, spread, (num, 2)), np.zeros((num, 1))], axis=1)
    targets = origins * 0.8 + [0.0, 0.0, -8.0]
    return move(look_at(origins, targets, np.array([0.0, 1.0, 0.0])), seed)


def move(poses, seed):
    turn = nearest_rotation(np.random.default_rng(seed + 50).normal(size=(3, 3)))
    return rigid(turn, np.array([30.0, -20.0, 7.0])) @ poses


def tangents(num, half=0.5):
    return np.tile([[[-half, -half], [half, half]]], (num, 1, 1))


def test_focus_is_where_the_cameras_look():
    poses = ring()
    np.testing.assert_allclose(norm.focus_point(poses), [30.0, -20.0, 7.0], atol=1e-9)
    parallel = np.tile(np.eye(4), (3, 1, 1))
    parallel[:, 0, 3] = [0.0, 1.0, 5.0]
    np.testing.assert_allclose(norm.focus_point(parallel), [2.0, 0.0, 0.0])


def test_scene_and_world_cameras_see_the_same_pixels():
    poses = ring(seed=1)
    turn = nearest_rotation(np.random.default_rng(9).normal(size=(3, 3)))
    world_from_scene = rigid(2.5 * turn, np.array([3.0, 1.0, -2.0]))
    assert norm.scale_of(world_from_scene) == pytest.approx(2.5)
    moved = norm.to_scene(world_from_scene, poses)
    points = np.array([30.0, -20.0, 7.0]) + np.random.default_rng(2).normal(0, 0.5, (12, 3))
    inside = (points - world_from_scene[:3, 3]) @ np.linalg.inv(world_from_scene[:3, :3]).T
    view = np.arange(12, dtype=np.int32)
    see = jax.jit(project)
    xy, depth = see(
        make_cameras(poses, np.full(2, 50.0), np.full(2, 32.0)), view, np.float32(points)
    )
    again, small = see(
        make_cameras(moved, np.full(2, 50.0), np.full(2, 32.0)), view, np.float32(inside)
    )
    np.testing.assert_allclose(again, xy, atol=2e-3)
    np.testing.assert_allclose(small * 2.5, depth, rtol=1e-5)


def test_cameras_around_something_are_unbounded_upright_and_within_one():
    poses = ring()
    frame = norm.frame_of(poses, norm.Evidence(), tangents(12))
    assert frame.kind == "unbounded"
    moved = norm.to_scene(frame.world_from_scene, poses)
    np.testing.assert_allclose(np.linalg.norm(moved[:, :3, 3], axis=1).max(), 1.0)
    np.testing.assert_allclose(norm.focus_point(moved), 0, atol=1e-9)
    np.testing.assert_allclose(np.ptp(moved[:, 2, 3]), 0, atol=1e-9)  # the ring lies level
    assert np.all(moved[:, 2, 1] > 0.9)
    assert 0.01 <= frame.near < 0.2
    assert frame.far >= 100


def test_measured_depth_sets_near_and_far():
    poses = ring()
    evidence = norm.Evidence(near=1.0, far=1000.0)
    frame = norm.frame_of(poses, evidence, tangents(12))
    scale = norm.scale_of(frame.world_from_scene)
    assert frame.near == pytest.approx(0.8 / scale)
    assert frame.far == pytest.approx(2000 / scale)
    box = np.array([[28.0, -22.0, 6.0], [32.0, -18.0, 8.0]])
    frame = norm.frame_of(poses, norm.Evidence(box=box, near=1.0), tangents(12))
    assert norm.scale_of(frame.world_from_scene) == pytest.approx(2.0)
    np.testing.assert_allclose(frame.world_from_scene[:3, 3], box.mean(axis=0))


def test_a_complete_box_is_bounded_and_reached_by_every_ray():
    poses = ring()
    box = np.array([[29.0, -21.0, 6.5], [31.0, -19.0, 7.5]])
    frame = norm.frame_of(poses, norm.Evidence(box=box, is_complete=True), tangents(12))
    assert frame.kind == "bounded"
    np.testing.assert_allclose(frame.aabb, [[-1, -1, -0.5], [1, 1, 0.5]])
    origins = norm.to_scene(frame.world_from_scene, poses)[:, :3, 3]
    inside = np.random.default_rng(0).uniform(frame.aabb[0], frame.aabb[1], (500, 3))
    distance = np.linalg.norm(inside - origins[:, None], axis=-1)
    assert frame.near <= distance.min()
    assert frame.far >= distance.max()


def test_side_by_side_cameras_are_forward_facing_only_if_close_to_each_other():
    poses = facing()
    assert norm.is_forward_facing(poses, 4.0)
    assert not norm.is_forward_facing(poses, 0.2)  # the scene begins among the cameras
    assert not norm.is_forward_facing(poses, None)
    assert not norm.is_forward_facing(ring(), 100.0)


def test_a_forward_facing_scene_holds_all_that_any_view_sees():
    poses = facing(spread=0.8)
    evidence = norm.Evidence(near=3.0, far=40.0)
    frame = norm.frame_of(poses, evidence, tangents(10))
    assert frame.kind == "forward_facing"
    scale = norm.scale_of(frame.world_from_scene)
    moved = norm.to_scene(frame.world_from_scene, poses)
    np.testing.assert_allclose(moved[:, :3, 3].mean(axis=0), 0, atol=1e-9)
    rng = np.random.default_rng(3)
    planar = rng.uniform(3.0, 40.0, (10, 200)) / scale
    slopes = rng.uniform(-0.5, 0.5, (10, 200, 2))
    local = np.concatenate([slopes, -np.ones((10, 200, 1))], axis=-1) * planar[..., None]
    points = np.einsum("nij,nkj->nki", moved[:, :3, :3], local) + moved[:, None, :3, 3]
    flat = jnp.asarray(points.reshape(-1, 3), jnp.float32)
    cube = np.asarray(to_unit_cube(flat, "forward_facing", frame.aabb))
    assert cube.min() > -0.01
    assert cube.max() < 1.01
    assert np.ptp(cube, axis=0).min() > 0.7  # and not much more
    distance = np.linalg.norm(local, axis=-1)
    assert frame.near <= distance.min()
    assert frame.far >= distance.max()


def test_robust_box_ignores_strays():
    points = np.random.default_rng(4).uniform(-1, 1, (10_000, 3)) * [1, 2, 0.5]
    points[:5] = 1e6
    box = norm.robust_box(points)
    np.testing.assert_allclose(box, [[-1, -2, -0.5], [1, 2, 0.5]], rtol=0.06)
    flat = norm.robust_box(points * [1, 1, 0])
    assert np.all(flat[0] < flat[1])


def test_cameras_in_one_place_still_have_a_frame():
    poses = np.tile(np.eye(4), (4, 1, 1))
    frame = norm.frame_of(poses, norm.Evidence(), tangents(4))
    assert np.all(np.isfinite(frame.world_from_scene))
    assert 0 < frame.near < frame.far


def test_image_tangents_are_the_slopes_of_the_corners():
    cameras = make_cameras(np.eye(4)[None], np.array([10.0, 20.0]), np.array([4.0, 6.0]))
    np.testing.assert_allclose(norm.image_tangents(cameras, 10, 12), [[[-0.4, -0.3], [0.8, 0.2]]])
