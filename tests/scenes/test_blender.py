import json

import numpy as np
import pytest
from PIL import Image

from scenes.formats import load
from scenes.formats.depth_maps import ray_lengths
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
    for name in ("file.txt", "cameras.json"):
        (tmp_path / name).write_text("")
        with pytest.raises(ValueError, match=r"must be a folder of .*transforms\*\.json; got"):
            load(tmp_path / name)


def test_one_entry_for_folders_and_analytic_scenes(blender_folder):
    assert load_scene(blender_folder).name == "scene"
    scene = load_scene("synthetic:spheres", num_train=2, num_test=1, size=20, downscale=2)
    assert scene.name == "synthetic:spheres"
    assert scene.train.images.shape == (2, 10, 10, 4)
    with pytest.raises(ValueError, match="spheres, blocks, detail"):
        load_scene("synthetic:nothing")
    with pytest.raises(ValueError, match="synthetic:spheres: depth_scale is for depth maps"):
        load_scene("synthetic:spheres", depth_scale=0.001)


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


LENS = {"k1": 0.02, "k2": -0.01, "p1": 0.001, "p2": -0.0005}


def test_intrinsics_of_exporters_are_those_of_transforms_json(blender_folder):
    """BlenderNeRF and instant-ngp write focal lengths, a principal point and a lens."""
    fields = {"fl_x": 60.0, "fl_y": 63.0, "cx": 22.0, "cy": 25.0, "w": 48, "h": 48, **LENS}
    edit(blender_folder, "train", lambda values: values.update(fields))
    edit(blender_folder, "train", lambda values: values["frames"][1].update(fl_x=70.0, cx=20.0))
    scene = load(blender_folder)
    focal = [[30.0, 31.5], [35.0, 31.5], [30.0, 31.5]]  # the images are 24 x 24
    np.testing.assert_allclose(scene.train.cameras.focal, focal)
    principal = [[11.0, 12.5], [10.0, 12.5], [11.0, 12.5]]
    np.testing.assert_allclose(scene.train.cameras.principal, principal)
    lens = [*LENS.values(), 0, 0, 0, 0]
    np.testing.assert_allclose(scene.train.cameras.distortion, [lens] * 3, rtol=1e-6)
    np.testing.assert_array_equal(scene.test.cameras.distortion, np.zeros((2, 8)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"is_fisheye": True}, "is_fisheye: camera model OPENCV_FISHEYE is not supported"),
        ({"camera_model": "EQUIRECTANGULAR"}, "camera_model: camera model EQUIRECTANGULAR is not"),
        ({"w": 48, "h": 24}, r"frames\[0\]\.w: intrinsics are for 48 x 24 .* another shape"),
        ({"is_euclidean_depth": "true"}, "is_euclidean_depth must be true or false, got 'true'"),
    ],
)
def test_what_exporters_write_and_nobody_honours_is_refused(blender_folder, fields, message):
    edit(blender_folder, "test", lambda values: values.update(fields))
    with pytest.raises(ValueError, match=r"transforms_test\.json: .*" + message):
        load(blender_folder)


def test_listed_masks_and_depth_maps_are_read(blender_folder, tiny):
    mask = np.zeros((24, 24), np.uint8)
    mask[:, 12:] = 255
    Image.fromarray(mask).save(blender_folder / "m.png")
    lengths = ray_lengths(tiny.train.cameras, 24, 24)
    planar = np.nan_to_num(tiny.train.depth / lengths)[1]
    stored = np.round(planar / 0.0002).astype(np.uint16)
    Image.fromarray(stored).save(blender_folder / "d.png")
    files = {"mask_path": "m.png", "depth_file_path": "d.png"}
    edit(blender_folder, "train", lambda values: values["frames"][1].update(files))
    scene = load(blender_folder, depth_scale=0.0002)
    np.testing.assert_allclose(scene.train.depth[1], tiny.train.depth[1], atol=3e-4)
    assert np.isnan(scene.train.depth[[0, 2]]).all()
    assert not scene.train.masks[1, :, :12].any()
    assert scene.train.masks[1, :, 12:].all()
    assert scene.train.masks[0].all()
    assert scene.test.depth is None
    assert scene.notes == ()
    in_millimetres = load(blender_folder)
    np.testing.assert_allclose(in_millimetres.train.depth[1], 5 * scene.train.depth[1], rtol=1e-5)
    assert ["millimetres" in note for note in in_millimetres.notes] == [True]
    np.testing.assert_array_equal(scene.train.images, tiny.train.images)


def test_the_file_may_be_named_instead_of_the_folder(blender_folder):
    whole = load(blender_folder)
    named = load(blender_folder / "transforms_train.json")
    np.testing.assert_array_equal(named.test.images, whole.test.images)
    assert named.name == whole.name
    edit(blender_folder, "train", lambda values: values["frames"].pop())
    (blender_folder / "transforms_train.json").rename(blender_folder / "transforms_few.json")
    few = load(blender_folder / "transforms_few.json")
    assert few.train.num_views + few.test.num_views == 2
    with pytest.raises(FileNotFoundError, match=r"transforms_none\.json: no such file"):
        load(blender_folder / "transforms_none.json")
