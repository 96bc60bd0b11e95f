"""Broken captures end with one message that names the file and the field."""

import json

import numpy as np
import pytest
from PIL import Image

from scenes.formats import load

from . import written_captures as written


@pytest.fixture
def folder_of(tmp_path):
    """Writes a capture of a format."""

    def write(name):
        folder = tmp_path / name
        folder.mkdir()
        written.WRITERS[name](folder)
        return folder

    return write


def refuses(folder, error, message):
    with pytest.raises(error, match=message) as caught:
        load(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def edit_json(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def in_frame(field, value):
    def change(values):
        values["frames"][2][field] = value

    return change


def in_pose(row, col, value):
    def change(values):
        values["frames"][2]["transform_matrix"][row][col] = value

    return change


TRANSFORMS = {
    "no frames": (lambda v: v.pop("frames"), "frames is missing"),
    "empty": (lambda v: v.update(frames=[]), "frames must not be empty"),
    "no focal length": (lambda v: (v.pop("fl_x"), v.pop("fl_y")), "fl_x is missing"),
    "no path": (in_frame("file_path", None), r"frames\[2\]\.file_path must be"),
    "no pose": (
        lambda v: v["frames"][2].pop("transform_matrix"),
        r"frames\[2\]\.transform_matrix is",
    ),
    "nan pose": (in_pose(1, 1, float("nan")), r"frames\[2\]\.transform_matrix must be finite"),
    "scaled pose": (in_pose(0, 0, 9.0), r"frames\[2\]\.transform_matrix must have an orthonormal"),
    "no depth file": (
        in_frame("depth_file_path", "depth/no.png"),
        r"depth/no\.png: image not found",
    ),
    "no mask": (in_frame("mask_path", "no.png"), r"no\.png: image not found"),
    "depth unit": (
        lambda v: v.update(depth_unit_scale_factor=0),
        "depth_unit_scale_factor must be",
    ),
    "euclidean": (
        lambda v: v.update(is_euclidean_depth="true"),
        "is_euclidean_depth must be true or false, got 'true'",
    ),
    "euclidean number": (
        lambda v: v.update(is_euclidean_depth=2),
        "is_euclidean_depth must be true or false, got 2",
    ),
    "fisheye": (lambda v: v.update(camera_model="FISHEYE"), "camera_model: camera model FISHEYE"),
    "turned": (lambda v: v.update(w=20, h=24), "another shape"),
    "list": (lambda v: v.update(test_filenames="a.png"), "test_filenames must be a list"),
    "listed": (lambda v: v.update(test_filenames=["a.png"]), r"names a\.png, which is no view"),
}


@pytest.mark.parametrize("case", TRANSFORMS)
def test_transforms_json(folder_of, case):
    change, message = TRANSFORMS[case]
    folder = folder_of("transforms")
    edit_json(folder / "transforms.json", change)
    error = FileNotFoundError if "not found" in message else ValueError
    refuses(folder, error, message)


def test_masks_and_extra_fields_of_transforms_json(folder_of):
    folder = folder_of("transforms")
    Image.fromarray(np.repeat([[0, 255]], 20, 0).repeat(12, 1).astype(np.uint8)).save(
        folder / "m.png"
    )
    edit_json(folder / "transforms.json", in_frame("mask_path", "m.png"))
    edit_json(folder / "transforms.json", in_frame("sharpness", 30.0))
    posed = load(folder).train
    view = posed.names.index("images/002.png")
    assert posed.masks is not None
    assert not posed.masks[view, :, :12].any()
    assert posed.masks[view, :, 12:].all()
    assert posed.masks[view - 1].all()


@pytest.mark.parametrize("yes", [True, 1])
def test_euclidean_depth_is_taken_as_it_is(folder_of, yes):
    folder = folder_of("transforms")
    edit_json(folder / "transforms.json", lambda v: v.update(is_euclidean_depth=False))
    planar = load(folder).train
    edit_json(folder / "transforms.json", lambda v: v.update(is_euclidean_depth=yes))
    distance = load(folder).train
    known = np.isfinite(planar.depth)
    ratio = planar.depth[known] / distance.depth[known]
    assert ratio.max() > 1.02  # the corners, where rays are longest
    assert np.quantile(ratio, 0.01) < ratio.max() / 1.02


def test_instant_ngp_depth_fields(folder_of):
    folder = folder_of("transforms")
    expected = load(folder).train.depth

    def rename(values):
        values["integer_depth_scale"] = values.pop("depth_unit_scale_factor")
        for frame in values["frames"]:
            frame["depth_path"] = frame.pop("depth_file_path")

    edit_json(folder / "transforms.json", rename)
    np.testing.assert_array_equal(load(folder).train.depth, expected)


def edit_rows(change):
    def spoil(folder):
        path = folder / "poses_bounds.npy"
        np.save(path, change(np.load(path)))

    return spoil


def set_value(row, col, value):
    def change(rows):
        rows[row, col] = value
        return rows

    return change


LLFF = {
    "text": (lambda f: (f / "poses_bounds.npy").write_bytes(b"no"), "not a readable .npy"),
    "shape": (edit_rows(lambda r: r[:, :16]), r"rows of 17 numbers, got shape \(9, 16\)"),
    "empty": (edit_rows(lambda r: r[:0]), "must not be empty"),
    "count": (edit_rows(lambda r: r[:7]), "has 7 rows, but .* has 9 images"),
    "nan": (edit_rows(set_value(3, 2, np.nan)), "row 3 must be finite"),
    "pose": (edit_rows(set_value(3, 0, 5.0)), "row 3 must have an orthonormal rotation"),
    "bounds": (edit_rows(set_value(4, 15, -1.0)), "row 4 needs bounds 0 < near < far"),
    "focal": (edit_rows(set_value(4, 14, 0.0)), "row 4 needs positive height"),
}


@pytest.mark.parametrize("case", LLFF)
def test_llff(folder_of, case):
    spoil, message = LLFF[case]
    folder = folder_of("llff")
    spoil(folder)
    refuses(folder, ValueError, message)


def test_llff_without_photographs(folder_of):
    folder = folder_of("llff")
    (folder / "images").rename(folder / "elsewhere")
    refuses(folder, FileNotFoundError, "no folder images")


def write_text(name, text):
    return lambda folder: (folder / name).write_text(text)


RGBD = {
    "matrix": (write_text("camera-intrinsics.txt", "1 2\n3"), "must hold a matrix of numbers"),
    "words": (write_text("camera-intrinsics.txt", "a b"), "must hold a matrix of numbers"),
    "shape": (write_text("camera-intrinsics.txt", "1 0\n0 1"), "finite 3x3 camera matrix"),
    "pose": (write_text("frame-000003.pose.txt", "1 0 0\n0 1 0\n0 0 1"), "000003.*4x4 matrix"),
    "scaled": (
        write_text("frame-000003.pose.txt", "2 0 0 0\n0 2 0 0\n0 0 2 0\n0 0 0 1"),
        r"frame-000003\.pose\.txt must have an orthonormal rotation",
    ),
}


@pytest.mark.parametrize("case", RGBD)
def test_rgbd(folder_of, case):
    spoil, message = RGBD[case]
    folder = folder_of("rgbd")
    spoil(folder)
    refuses(folder, ValueError, message)


def test_rgbd_frames_whose_pose_was_lost_are_counted(folder_of):
    folder = folder_of("rgbd")
    np.savetxt(folder / "frame-000003.pose.txt", np.full((4, 4), -np.inf))
    scene = load(folder)
    assert scene.train.num_views + scene.test.num_views == 8
    assert any("1 of 9 frames have no finite pose" in note for note in scene.notes)
    assert any("millimetres" in note for note in scene.notes)


def test_rgbd_files_in_folders_read_the_same(folder_of):
    folder = folder_of("rgbd")
    expected = load(folder)
    for kind in ("color", "depth", "pose"):
        (folder / kind).mkdir()
        for path in folder.glob(f"*.{kind}.*"):
            path.rename(folder / kind / f"{int(path.name[6:12])}{path.suffix}")
    got = load(folder)
    np.testing.assert_array_equal(got.train.images, expected.train.images)
    np.testing.assert_array_equal(got.train.depth, expected.train.depth)
    np.testing.assert_array_equal(
        got.train.cameras.camera_to_world, expected.train.cameras.camera_to_world
    )


def in_camera(field, value):
    return lambda v: v["camera"].__setitem__(field, value)


KLEVR = {
    "no camera": (lambda v: v.pop("camera"), "camera must be an object"),
    "no size": (lambda v: v["metadata"].pop("width"), r"metadata\.width is missing"),
    "positions": (in_camera("positions", [[1, 2]]), r"camera\.positions must be rows of 3"),
    "count": (
        in_camera("positions", [[1, 2, 3]]),
        r"camera\.quaternions must be 1 as positions are",
    ),
    "zero": (in_camera("quaternions", [[0, 0, 0, 0]] * 9), r"quaternions\[0\] must not be zero"),
    "nan": (in_camera("quaternions", [[float("nan")] * 4] * 9), r"quaternions\[0\] must be finite"),
    "focal": (in_camera("focal_length", 0), r"camera\.focal_length must be positive"),
    "box": (lambda v: v["scene_boundaries"].update(max=[0, 0, 0]), "must have min below max"),
    "no box": (lambda v: v["scene_boundaries"].pop("max"), "scene_boundaries must be rows of 3"),
    "split": (lambda v: v["split_ids"].update(test="3"), r"split_ids\.test must be a list"),
}


@pytest.mark.parametrize("case", KLEVR)
def test_klevr(folder_of, case):
    change, message = KLEVR[case]
    folder = folder_of("klevr")
    edit_json(folder / "metadata.json", change)
    refuses(folder, ValueError, message)


def test_large_photographs_are_halved_until_they_fit(folder_of):
    folder = folder_of("llff")
    scene = load(folder, longest_side=10)
    assert scene.train.images.shape[1:3] == (5, 6)
    assert any("divided by 4" in note for note in scene.notes)
    assert load(folder, downscale=1).train.images.shape[1:3] == (20, 24)


def test_a_folder_of_scenes_loads_the_first_and_says_so(tmp_path):
    for name in ("second", "first"):
        (tmp_path / name).mkdir()
        written.klevr(tmp_path / name)
    scene = load(tmp_path)
    assert scene.name.endswith("first")
    assert "holds 2 scenes (first, second): first is loaded" in scene.notes[0]
