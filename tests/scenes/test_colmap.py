"""COLMAP's models against pycolmap, and malformed ones."""

import jax
import numpy as np
import pytest

from scenes.cameras import make_cameras, project
from scenes.formats import load
from scenes.formats.colmap import camera_to_world, read_colmap, reprojection
from scenes.formats.colmap_model import find_model, read_model
from scenes.formats.intrinsics import SUPPORTED_MODELS, from_colmap
from scenes.formats.llff import read_llff
from scenes.normalisation import to_scene

from . import written_captures as written

pycolmap = pytest.importorskip("pycolmap", reason="pycolmap is not installed")
see = jax.jit(project)
PARAMS = {
    "SIMPLE_PINHOLE": [80.0, 31.0, 22.0],
    "PINHOLE": [80.0, 75.0, 31.0, 22.0],
    "SIMPLE_RADIAL": [80.0, 31.0, 22.0, 0.1],
    "RADIAL": [80.0, 31.0, 22.0, 0.1, -0.05],
    "OPENCV": [80.0, 75.0, 31.0, 22.0, 0.1, -0.05, 0.003, -0.002],
    "FULL_OPENCV": [80.0, 75, 31, 22, 0.1, -0.05, 0.003, -0.002, 0.02, 0.03, -0.01, 0.005],
}


@pytest.fixture(scope="module")
def can(sample):
    """The drink can's model, read by us and by pycolmap."""
    folder = sample("colmap_can")
    return folder, read_model(folder / "sparse/0"), pycolmap.Reconstruction(folder / "sparse/0")


def test_there_is_a_case_for_every_supported_model():
    assert set(PARAMS) == set(SUPPORTED_MODELS)


@pytest.mark.parametrize("model", PARAMS)
def test_intrinsics_project_as_colmap_does(model):
    reference = pycolmap.Camera(model=model, width=64, height=48, params=PARAMS[model])
    points = np.random.default_rng(0).uniform([-0.4, -0.3, 1.0], [0.4, 0.3, 2.0], (40, 3))
    expected = np.array([reference.img_from_cam(point) for point in points])
    got = from_colmap(model, (64, 48), np.array(PARAMS[model]), "test")
    cameras = make_cameras(np.eye(4)[None], got.focal, got.principal, got.distortion)
    opengl = np.float32(points * [1, -1, -1])
    xy, depth = see(cameras, np.zeros(40, np.int32), opengl)
    np.testing.assert_allclose(xy, expected, atol=1e-4)
    np.testing.assert_allclose(depth, points[:, 2], rtol=1e-6)


def assert_models_equal(model, reference):
    assert set(model.cameras) == set(reference.cameras)
    for key, camera in model.cameras.items():
        other = reference.cameras[key]
        assert camera.model == other.model.name
        assert camera.size == (other.width, other.height)
        np.testing.assert_allclose(camera.params, other.params, rtol=1e-12)
    assert set(model.images) == set(reference.images)
    for key, image in model.images.items():
        other = reference.images[key]
        assert image.name == other.name
        assert image.camera == other.camera_id
        pose = np.linalg.inv(np.vstack([other.cam_from_world().matrix(), [0, 0, 0, 1]]))
        np.testing.assert_allclose(
            camera_to_world(image), pose @ np.diag([1, -1, -1, 1]), atol=1e-9
        )
        seen = [point for point in other.points2D if point.has_point3D()]
        np.testing.assert_allclose(image.xy, np.array([p.xy for p in seen]).reshape(-1, 2))
        np.testing.assert_array_equal(image.point, [p.point3D_id for p in seen])
    order = np.argsort(model.points.id)
    ids = sorted(reference.points3D)
    np.testing.assert_array_equal(model.points.id[order], ids)
    others = [reference.points3D[key] for key in ids]
    np.testing.assert_allclose(model.points.position[order], [p.xyz for p in others])
    np.testing.assert_allclose(model.points.error[order], [p.error for p in others])
    np.testing.assert_array_equal(model.points.track[order], [p.track.length() for p in others])


def test_the_binary_model_equals_pycolmaps(can):
    _, model, reference = can
    assert_models_equal(model, reference)


def test_text_written_by_pycolmap_reads_the_same(can, tmp_path):
    _, _, reference = can
    reference.write_text(tmp_path)
    assert_models_equal(read_model(tmp_path), reference)


def test_reprojection_errors_are_those_colmap_reports(can):
    """Through our cameras, in scene coordinates: a wrong axis, centre or lens would be far off."""
    folder, model, reference = can
    scene = load(folder)
    errors, owners = [], []
    for key, image in model.images.items():
        posed = scene.test if image.name in scene.test.names else scene.train
        view = posed.names.index(image.name)
        xy, points = reprojection(model, key)
        inside = np.linalg.inv(scene.world_from_scene) @ np.c_[points, np.ones(len(points))].T
        padded = np.resize(inside[:3].T, (1024, 3)).astype(np.float32)
        got, depth = see(posed.cameras, np.full(1024, view, np.int32), padded)
        errors.append(np.linalg.norm(np.asarray(got)[: len(xy)] - xy, axis=1))
        owners.append(image.point)
        assert np.all(np.asarray(depth) > 0)
    errors, owners = np.concatenate(errors), np.concatenate(owners)
    assert len(errors) == reference.compute_num_observations()
    totals = np.bincount(owners, errors, minlength=owners.max() + 1)
    means = totals[model.points.id] / np.bincount(owners)[model.points.id]
    np.testing.assert_allclose(means, model.points.error, atol=0.01)


def test_llff_and_colmap_files_of_one_capture_agree(can, sample, tmp_path):
    """poses_bounds.npy was made from the same model: equal poses, near-equal bounds."""
    folder, model, _ = can
    llff = {view.name: view for view in read_llff(folder).views}
    images = {image.name: image for image in model.images.values()}
    assert set(llff) == set(images)
    for name, view in llff.items():
        np.testing.assert_allclose(view.camera_to_world, camera_to_world(images[name]), atol=1e-5)
        points = model.points.position[np.isin(model.points.id, images[name].point)]
        planar = (points - view.camera_to_world[:3, 3]) @ -view.camera_to_world[:3, 2]
        assert view.bounds is not None
        assert view.bounds[0] == pytest.approx(np.quantile(planar, 0.001), rel=0.25)
        assert view.bounds[1] == pytest.approx(np.quantile(planar, 0.999), rel=0.25)


def test_triangulated_points_become_sparse_depth(can):
    folder, model, _ = can
    scene = load(folder, with_depth=True, downscale=4)
    assert load(folder, downscale=4).train.depth is None
    posed = scene.train
    assert posed.depth is not None
    known = np.isfinite(posed.depth)
    assert known.sum(axis=(1, 2)).min() > 50
    key, image = next((k, i) for k, i in model.images.items() if i.name == posed.names[0])
    xy, points = reprojection(model, key)
    scale = np.cbrt(np.linalg.det(scene.world_from_scene[:3, :3]))
    distance = np.linalg.norm(points - camera_to_world(image)[:3, 3], axis=1) / scale
    used = model.points.id[(model.points.track >= 3) & (model.points.error <= 2.0)]
    is_used = np.isin(image.point, used)
    xy, distance = xy[is_used], distance[is_used]
    col, row = np.floor(xy / 4).astype(int).T
    stored = posed.depth[0, row, col]
    good = np.isfinite(stored)
    assert good.all()
    assert np.median(np.abs(stored[good] / distance[good] - 1)) < 1e-5
    assert np.all(stored[good] <= distance[good] * (1 + 1e-5))  # the nearest wins


@pytest.fixture
def folder(tmp_path):
    scene = tmp_path / "scene"
    scene.mkdir()
    written.colmap(scene)
    return scene


def test_a_360_layout_reads_the_copy_that_fits(folder):
    (folder / "images").rename(folder / "full")
    written.save_images(folder / "images", written.truth(lens=True))
    small = written.truth(lens=True)
    written.save_images(folder / "images_2", small._replace(images=small.images[:, ::2, ::2]))
    assert read_colmap(folder).shrunk == 1
    assert read_colmap(folder, downscale=3).shrunk == 2
    half = load(folder, downscale=2)
    assert half.train.images.shape[1:3] == (10, 12)
    whole = load(folder)
    np.testing.assert_allclose(half.train.cameras.focal * 2, whole.train.cameras.focal, rtol=1e-6)
    for path in (folder / "images").iterdir():
        path.unlink()
    alone = load(folder)
    assert alone.train.images.shape[1:3] == (10, 12)
    assert any("images_2 is read" in note for note in alone.notes)


def test_photographs_without_a_pose_are_counted(folder):
    (folder / "images" / "extra.png").write_bytes((folder / "images" / "000.png").read_bytes())
    notes = load(folder).notes
    assert any("1 of 10 photographs have no pose" in note for note in notes)


def edit(name, old, new):
    def spoil(folder):
        path = folder / "sparse/0" / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return spoil


def remove(name):
    return lambda folder: (folder / "sparse/0" / name).unlink()


def cut_images(folder):
    path = folder / "sparse/0/images.txt"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


BAD = {
    "no points": (remove("points3D.txt"), FileNotFoundError, r"points3D\.txt: file not found"),
    "fisheye": (
        edit("cameras.txt", "OPENCV", "OPENCV_FISHEYE"),
        ValueError,
        "OPENCV_FISHEYE is not",
    ),
    "few params": (edit("cameras.txt", "OPENCV", "FULL_OPENCV"), ValueError, "has 12 parameters"),
    "no size": (edit("cameras.txt", "OPENCV 24 20", "OPENCV"), ValueError, "whole numbers"),
    "short camera": (edit("cameras.txt", "# cameras", "1 PINHOLE 4"), ValueError, "line 1 must"),
    "no such camera": (edit("images.txt", " 7 004.png", " 9 004.png"), ValueError, "camera 9"),
    "words": (edit("images.txt", " 7 004.png", " seven 004.png"), ValueError, r"images\.txt: line"),
    "pair": (edit("images.txt", "8.5 7.25", "7.25"), ValueError, "triples"),
    "cut": (cut_images, ValueError, r"images\.txt: truncated after image 008\.png"),
    "point": (edit("points3D.txt", " 0.5", ""), ValueError, r"points3D\.txt: line 2"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_malformed_text_model_is_named(folder, case):
    spoil, error, message = BAD[case]
    spoil(folder)
    with pytest.raises(error, match=message) as caught:
        load(folder)
    assert "sparse" in str(caught.value)


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_truncated_binary_model_is_named(can, tmp_path, name, share):
    folder, _, _ = can
    for path in (folder / "sparse/0").glob("*.bin"):
        content = path.read_bytes()
        kept = int(len(content) * share) if path.stem == name else len(content)
        (tmp_path / path.name).write_bytes(content[:kept])
    with pytest.raises(ValueError, match=rf"{name}\.bin: truncated"):
        read_model(tmp_path)


def test_a_model_is_found_in_the_usual_places(tmp_path):
    assert find_model(tmp_path) is None
    for place in (".", "sparse", "sparse/0"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        for name in ("cameras", "images"):
            (tmp_path / place / f"{name}.txt").write_text("")
        assert find_model(tmp_path) == tmp_path / place
    with pytest.raises(FileNotFoundError, match="points3D"):
        read_model(tmp_path)


def test_poses_far_from_the_origin_keep_their_precision(folder):
    """Georeferenced captures: coordinates of a million units."""
    near = load(folder)
    path = folder / "sparse/0/images.txt"
    lines = path.read_text().splitlines()
    shift = np.array([5e5, 4e6, 300.0])
    for index in range(1, len(lines), 2):
        words = lines[index].split()
        w, x, y, z = (float(v) for v in words[1:5])
        rotation = pycolmap.Rotation3d(np.array([x, y, z, w])).matrix()
        moved = np.array([float(v) for v in words[5:8]]) - rotation @ shift
        words[5:8] = [repr(float(v)) for v in moved]
        lines[index] = " ".join(words)
    path.write_text("\n".join(lines) + "\n")
    points = folder / "sparse/0/points3D.txt"
    points.write_text("# none\n")
    far = load(folder)
    np.testing.assert_allclose(
        far.train.cameras.camera_to_world, near.train.cameras.camera_to_world, atol=2e-5
    )
    np.testing.assert_allclose(
        far.world_from_scene[:3, 3] - shift, near.world_from_scene[:3, 3], atol=1e-5
    )
    assert to_scene(far.world_from_scene, np.eye(4)[None]).dtype == np.float64
