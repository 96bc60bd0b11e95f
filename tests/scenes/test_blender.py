import json

import numpy as np
import pytest
from PIL import Image

from scenes.formats import load
from scenes.loading import load_scene
from scenes.posed_images import validate_splits


def edit(folder, split, change):
    """Rewrites one transforms file."""
    path = folder / f"transforms_{split}.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_reads_back_what_was_written(blender_folder, tiny):
    scene = load(blender_folder)
    for split in ("train", "test", "val"):
        got, expected = getattr(scene, split), getattr(tiny, split)
        np.testing.assert_array_equal(got.images, expected.images)
        for field in ("camera_to_world", "focal", "principal", "distortion"):
            want = getattr(expected.cameras, field)
            np.testing.assert_allclose(getattr(got.cameras, field), want, rtol=1e-6, atol=1e-6)
        assert (got.near, got.far) == (2.0, 6.0)
        np.testing.assert_array_equal(got.aabb, [[-1.5] * 3, [1.5] * 3])
    assert scene.train.names == ("train/r_0.png", "train/r_1.png", "train/r_2.png")
    assert scene.name == "scene"
    assert scene.notes == ()


def test_downscale_keeps_the_field_of_view(blender_folder):
    whole, half = load(blender_folder).train, load(blender_folder, downscale=2).train
    assert half.images.shape == (3, 12, 12, 4)
    np.testing.assert_allclose(half.cameras.focal, whole.cameras.focal / 2)
    np.testing.assert_allclose(half.cameras.principal, [[6.0, 6.0]] * 3)


def test_missing_splits_fall_back(blender_folder):
    (blender_folder / "transforms_test.json").unlink()
    scene = load(blender_folder)
    np.testing.assert_array_equal(scene.test.images, scene.val.images)
    assert "val views stand in" in scene.notes[0]
    (blender_folder / "transforms_val.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"transforms_test\.json"):
        load(blender_folder)


def test_missing_val_is_no_fault(blender_folder):
    (blender_folder / "transforms_val.json").unlink()
    scene = load(blender_folder)
    assert scene.val is None
    assert scene.notes == ()


def set_frame(field, value):
    def change(values):
        values["frames"][1][field] = value

    return change


def drop_frame_field(field):
    return lambda values: values["frames"][1].pop(field)


def matrix(row, col, value):
    def change(values):
        values["frames"][1]["transform_matrix"][row][col] = value

    return change


BAD_JSON = {
    "no frames": (lambda v: v.pop("frames"), r"frames is missing"),
    "empty split": (lambda v: v.update(frames=[]), r"frames must not be empty"),
    "frames not a list": (lambda v: v.update(frames={}), r"frames must be a list, got dict"),
    "frame not an object": (lambda v: v["frames"].append(3), r"frames\[2\] must be an object"),
    "no angle": (lambda v: v.pop("camera_angle_x"), r"camera_angle_x is missing"),
    "text angle": (lambda v: v.update(camera_angle_x="wide"), r"camera_angle_x must be a number"),
    "nan angle": (
        lambda v: v.update(camera_angle_x=float("nan")),
        r"camera_angle_x must be finite",
    ),
    "zero angle": (lambda v: v.update(camera_angle_x=0), r"camera_angle_x must be positive"),
    "wide angle": (lambda v: v.update(camera_angle_x=3.2), r"camera_angle_x must be below pi"),
    "no path": (drop_frame_field("file_path"), r"frames\[1\]\.file_path must be a non-empty text"),
    "no matrix": (
        drop_frame_field("transform_matrix"),
        r"frames\[1\]\.transform_matrix is missing",
    ),
    "flat matrix": (
        set_frame("transform_matrix", [1, 2, 3]),
        r"frames\[1\]\.transform_matrix must be a 4x4 matrix, got shape \(3,\)",
    ),
    "ragged matrix": (
        set_frame("transform_matrix", [[1], [1, 2]]),
        r"frames\[1\]\.transform_matrix must be a 4x4 matrix of numbers",
    ),
    "nan pose": (matrix(0, 3, float("nan")), r"frames\[1\]\.transform_matrix must be finite"),
    "scaled pose": (matrix(0, 0, 2.5), r"frames\[1\]\.transform_matrix must have an orthonormal"),
    "projective pose": (matrix(3, 0, 0.5), r"frames\[1\]\.transform_matrix must end in the row"),
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_a_malformed_file_is_named_with_its_field(blender_folder, case):
    change, message = BAD_JSON[case]
    edit(blender_folder, "test", change)
    with pytest.raises(ValueError, match=r"transforms_test\.json: " + message) as caught:
        load(blender_folder)
    assert "\n" not in str(caught.value)


def test_broken_json_is_named_with_its_line(blender_folder):
    path = blender_folder / "transforms_train.json"
    path.write_text('{"camera_angle_x": 0.6,\n "frames": [}')
    with pytest.raises(ValueError, match=r"transforms_train\.json: not valid JSON at line 2"):
        load(blender_folder)
    path.write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"transforms_train\.json: must hold a JSON object"):
        load(blender_folder)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"transforms_train\.json: not a text file"):
        load(blender_folder)


def test_a_missing_frame_is_named(blender_folder):
    (blender_folder / "train" / "r_2.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"transforms_train\.json: frames\[2\]\.file_path"):
        load(blender_folder)


def test_bad_images_are_named(blender_folder):
    path = blender_folder / "train" / "r_1.png"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"r_1\.png: unreadable or truncated"):
        load(blender_folder)
    Image.fromarray(np.zeros((5, 6, 4), np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"r_1\.png: all images .* one size"):
        load(blender_folder)


def test_folders_that_are_no_scene_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no known format"):
        load(tmp_path)
    file = tmp_path / "file.txt"
    file.write_text("")
    with pytest.raises(ValueError, match="must be a folder"):
        load(file)


def test_one_entry_for_folders_and_analytic_scenes(blender_folder):
    assert load_scene(blender_folder).name == "scene"
    scene = load_scene("synthetic:spheres", num_train=2, num_test=1, size=20, downscale=2)
    assert scene.name == "synthetic:spheres"
    assert scene.train.images.shape == (2, 10, 10, 4)
    with pytest.raises(ValueError, match="spheres, blocks, detail"):
        load_scene("synthetic:nothing")


def test_lego_loads_with_the_published_camera(sample):
    scene = validate_splits(load(sample("blender_lego_400"), downscale=4))
    assert [s.num_views for s in (scene.train, scene.test, scene.val)] == [100, 25, 25]
    assert scene.train.images.shape[1:] == (100, 100, 4)
    np.testing.assert_allclose(scene.train.cameras.focal, 1111.111 / 8, rtol=1e-5)
    radius = np.linalg.norm(scene.train.cameras.camera_to_world[:, :3, 3], axis=1)
    np.testing.assert_allclose(radius, 4.031, atol=1e-3)
    cover = (scene.train.images[..., 3] > 127).mean(axis=(1, 2))
    assert cover.min() > 0.19
    assert cover.max() < 0.37
    assert scene.train.depth is None
