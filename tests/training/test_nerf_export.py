import threading
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from training import loaded_run, nerf_export, ply_files, viewer_frusta
from training.viewer import opengl_pose
from training.viewer_frusta import viewer_pose


def test_points_and_faces_read_back_from_a_ply_file(tmp_path):
    rng = np.random.default_rng(0)
    points, normals = rng.normal(size=(2, 7, 3))
    colors = rng.integers(0, 256, (7, 3), np.uint8)
    faces = np.array([[0, 1, 2], [4, 5, 6]])
    path = tmp_path / "mesh.ply"
    ply_files.write_ply(path, points, colors, normals=normals, faces=faces)
    header, _, body = path.read_bytes().partition(b"end_header\n")
    assert b"element vertex 7" in header
    assert b"element face 2" in header
    kind = np.dtype([("p", "<f4", (3,)), ("n", "<f4", (3,)), ("c", "u1", (3,))])
    vertices = np.frombuffer(body[: 7 * kind.itemsize], kind)
    np.testing.assert_allclose(vertices["p"], points, rtol=1e-6)
    np.testing.assert_allclose(vertices["n"], normals, rtol=1e-6)
    np.testing.assert_array_equal(vertices["c"], colors)
    rows = np.frombuffer(body[7 * kind.itemsize :], np.dtype([("k", "u1"), ("f", "<i4", (3,))]))
    np.testing.assert_array_equal(rows["f"], faces)


def test_a_mesh_file_opens_in_trimesh(tmp_path):
    trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed")
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    path = tmp_path / "tetrahedron.ply"
    ply_files.write_ply(path, points, np.full((4, 3), 200, np.uint8), faces=faces)
    mesh = trimesh.load(path, process=False)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(1 / 6)


def test_faces_of_missing_points_are_refused(tmp_path):
    with pytest.raises(ValueError, match="points 0 to 1"):
        ply_files.write_ply(
            tmp_path / "bad.ply",
            np.zeros((2, 3)),
            np.zeros((2, 3), np.uint8),
            faces=np.array([[0, 1, 2]]),
        )


def test_viewer_poses_go_there_and_back():
    rng = np.random.default_rng(1)
    for _ in range(20):
        wxyz, place = rng.normal(size=4), rng.normal(size=3)
        pose = opengl_pose(wxyz, place)
        again = opengl_pose(*viewer_pose(pose))
        np.testing.assert_allclose(again, pose, atol=1e-12)


def test_a_sphere_comes_out_as_a_sphere(finished, tmp_path, monkeypatch):
    trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed")
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    run = loaded_run.load(str(finished[0]))
    radius = 0.6

    def density(points):
        return np.exp(np.clip(40 * (radius - np.linalg.norm(points, axis=-1)), -20, 8))

    def color(points, directions):
        outward = points / np.linalg.norm(points, axis=-1, keepdims=True)
        assert np.sum(outward * directions, axis=-1).max() < -0.8  # seen from outside
        return np.full(points.shape, 77, np.uint8)

    monkeypatch.setattr(nerf_export, "_field", lambda loaded: (density, color))
    nerf_export.write_mesh(run, tmp_path / "sphere.ply", resolution=48)
    mesh = trimesh.load(tmp_path / "sphere.ply", process=False)
    assert mesh.is_watertight
    # ln 2 per cell is reached a little outside or inside of the radius
    size = float(np.ptp(run.setup.scene.train.aabb, axis=0).max()) / 48
    level = radius - np.log(np.log(2) / size) / 40
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=-1), level, atol=0.2 * size)
    assert mesh.volume > 0  # faces look outwards
    monkeypatch.setattr(nerf_export, "_field", lambda loaded: (lambda p: 0 * p[:, 0], color))
    with pytest.raises(ValueError, match="nothing in the box is dense enough"):
        nerf_export.write_mesh(run, tmp_path / "none.ply", resolution=48)


def test_outside_the_space_of_a_field_nothing_is_dense(finished):
    """Tables of a field go on at their border for ever; a box around a frustum would be full."""
    run = loaded_run.load(str(finished[0]))
    grid = run.snapshot.grid._replace(occupied=jnp.ones_like(run.snapshot.grid.occupied))
    density_at, _ = nerf_export._field(run._replace(snapshot=run.snapshot._replace(grid=grid)))
    low, high = np.asarray(run.setup.scene.train.aabb, float)
    inside = low + (high - low) * np.random.default_rng(0).uniform(0.05, 0.95, (50, 3))
    outside = inside + np.eye(3)[np.arange(50) % 3] * (high - low)
    assert np.all(density_at(inside) > 0)
    np.testing.assert_array_equal(density_at(outside), 0.0)


def test_fields_are_written_as_ply_only(finished, tmp_path):
    with pytest.raises(ValueError, match=r"world\.obj: a radiance field is written as \.ply"):
        nerf_export.export(str(finished[0]), "mesh", resolution=8, out=tmp_path / "world.obj")
    assert not list(tmp_path.iterdir())


def test_points_lie_where_the_views_see_something(finished, tmp_path):
    run = loaded_run.load(str(finished[0]))
    render = run.evaluator.render

    def opaque(*args):
        rendered = render(*args)
        return rendered._replace(
            opacity=np.ones_like(rendered.opacity), depth=np.full_like(rendered.depth, 0.5)
        )

    seeing = run._replace(evaluator=SimpleNamespace(render=opaque))
    nerf_export.write_points(seeing, tmp_path / "points.ply", resolution=8)
    _, _, body = (tmp_path / "points.ply").read_bytes().partition(b"end_header\n")
    kind = np.dtype([("p", "<f4", (3,)), ("c", "u1", (3,))])
    points = np.frombuffer(body, kind)["p"]
    assert len(points) == 3 * 8 * 8
    origins = np.asarray(run.setup.scene.train.cameras.camera_to_world)[:, :3, 3].repeat(64, 0)
    np.testing.assert_allclose(np.linalg.norm(points - origins, axis=-1), 0.5, atol=1e-4)


def test_the_frusta_have_a_picture_for_every_mode(finished):
    run = loaded_run.load(str(finished[0]))
    frusta = viewer_frusta.Frusta(None, lambda: run, lambda: "none", threading.Lock())
    for mode in ("photographs", "errors", "draws"):
        shown = frusta.images(mode)
        assert len(shown) == 3
        assert all(image.shape == (16, 16, 3) and image.dtype == np.uint8 for image in shown)


def test_a_newer_checkpoint_is_taken_up(finished):
    run = loaded_run.load(str(finished[0]))
    assert loaded_run.newer(run) is None
    found = loaded_run.newer(run._replace(step=run.step - 1))
    assert found is not None
    assert found.step == run.step
