from pathlib import Path

import numpy as np
import pytest

from scenes.formats import intrinsics as ins
from scenes.formats.json_files import Fields

FILE = Path("transforms.json")


def read(root, frame=None, size=(100, 80)):
    return ins.from_fields(Fields(FILE, frame or {}, "frames[0]."), Fields(FILE, root), size)


def test_fields_are_read_with_their_defaults():
    got = read({"fl_x": 90})
    np.testing.assert_array_equal(got.focal, [90, 90])
    np.testing.assert_array_equal(got.principal, [50, 40])
    np.testing.assert_array_equal(got.distortion, np.zeros(8))
    np.testing.assert_array_equal(got.size, [100, 80])
    full = {"fl_x": 90, "fl_y": 95, "cx": 51, "cy": 41, "w": 200, "h": 160}
    lens = {"k1": 1, "k2": 2, "p1": 3, "p2": 4, "k3": 5}
    got = read(full | {name: value / 100 for name, value in lens.items()})
    np.testing.assert_array_equal(got.focal, [90, 95])
    np.testing.assert_array_equal(got.principal, [51, 41])
    np.testing.assert_allclose(got.distortion, [0.01, 0.02, 0.03, 0.04, 0.05, 0, 0, 0])
    np.testing.assert_array_equal(got.size, [200, 160])


def test_a_frame_overrides_its_file():
    got = read({"fl_x": 90, "k1": 0.1, "cx": 3}, {"fl_x": 70, "k1": 0.2})
    np.testing.assert_array_equal(got.focal, [70, 70])
    assert got.distortion[0] == 0.2
    assert got.principal[0] == 3


def test_angles_stand_in_for_focal_lengths():
    got = read({"camera_angle_x": np.pi / 2, "camera_angle_y": 2 * np.arctan(0.5)})
    np.testing.assert_allclose(got.focal, [50, 80])
    np.testing.assert_allclose(read({"camera_angle_x": np.pi / 2}).focal, [50, 50])


def test_the_rational_model_needs_its_name():
    lens = {"fl_x": 90, "k4": 0.1}
    with pytest.raises(ValueError, match="FULL_OPENCV"):
        read(lens)
    assert read(lens | {"camera_model": "FULL_OPENCV"}).distortion[5] == 0.1


BAD = {
    "nothing": ({}, "fl_x is missing, and so is camera_angle_x"),
    "zero": ({"fl_x": 0}, "fl_x must be positive, got 0"),
    "text": ({"fl_x": "long"}, "fl_x must be a number"),
    "nan": ({"fl_x": 90, "cx": float("nan")}, "cx must be finite"),
    "boolean": ({"fl_x": True}, "fl_x must be a number"),
    "size": ({"fl_x": 90, "w": -3}, "w must be positive"),
    "angle": ({"camera_angle_x": 4.0}, "camera_angle_x must be below pi"),
    "fisheye": ({"fl_x": 9, "camera_model": "OPENCV_FISHEYE"}, "OPENCV_FISHEYE is not supported"),
    "model": ({"fl_x": 9, "camera_model": 3}, "camera_model must be a non-empty text"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_fields_are_named(case):
    root, message = BAD[case]
    with pytest.raises(ValueError, match=message) as caught:
        read(root)
    assert str(caught.value).startswith("transforms.json: ")


def test_fisheye_lenses_are_refused_as_instant_ngp_names_them():
    root = {"fl_x": 50.0, "k1": 0.01, "is_fisheye": False}
    assert read(root).distortion[0] == 0.01
    with pytest.raises(ValueError, match=r"is_fisheye: camera model OPENCV_FISHEYE is not"):
        read(root | {"is_fisheye": True})
    with pytest.raises(ValueError, match="is_fisheye must be true or false"):
        read(root | {"is_fisheye": "no"})


def test_a_camera_matrix_gains_half_a_pixel():
    got = ins.from_matrix(np.array([[90.0, 0, 49.5], [0, 95, 39.5], [0, 0, 1]]), (100, 80), "K")
    np.testing.assert_array_equal(got.principal, [50, 40])
    np.testing.assert_array_equal(got.focal, [90, 95])


@pytest.mark.parametrize(
    "matrix",
    [
        np.eye(2),
        np.full((3, 3), np.nan),
        np.array([[90.0, 5, 1], [0, 90, 1], [0, 0, 1]]),
        -np.eye(3),
    ],
)
def test_other_matrices_are_refused(matrix):
    with pytest.raises(ValueError, match="K: "):
        ins.from_matrix(matrix, (100, 80), "K")


def test_colmap_parameters_are_counted_and_checked():
    with pytest.raises(ValueError, match="c: PINHOLE has 4 parameters, got 3"):
        ins.from_colmap("PINHOLE", (10, 10), np.ones(3), "c")
    with pytest.raises(ValueError, match="c: parameters must be finite"):
        ins.from_colmap("PINHOLE", (10, 10), np.array([1, np.inf, 1, 1]), "c")
    with pytest.raises(ValueError, match="c: camera model FOV is not supported"):
        ins.from_colmap("FOV", (10, 10), np.ones(5), "c")


def test_images_of_another_shape_are_refused():
    camera = read({"fl_x": 90, "w": 100, "h": 80})
    ins.check_image_size(camera, (50, 40), "a.png")
    ins.check_image_size(camera, (51, 40), "a.png")
    with pytest.raises(ValueError, match=r"a\.png: .* 100 x 80 pixels, the image has 80 x 100"):
        ins.check_image_size(camera, (80, 100), "a.png")
