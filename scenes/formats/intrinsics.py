"""Turns the intrinsics of every format into focal lengths, principal point and OpenCV's lens.

Results are for the size the file speaks of; `capture.finish` scales them to the images. Principal
points count from the image's corner, as COLMAP, instant-ngp and nerfstudio write them.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .json_files import Fields


class Intrinsics(NamedTuple):
    """One camera's intrinsics in pixels of an image of `size` (cols, rows)."""

    focal: Float[np.ndarray, " 2"]
    principal: Float[np.ndarray, " 2"]
    distortion: Float[np.ndarray, " 8"]
    size: Float[np.ndarray, " 2"]


# COLMAP's models: how many focal lengths, and where its lens parameters go in OpenCV's order
# k1, k2, p1, p2, k3, k4, k5, k6. Fisheye models have another projection and are not here.
_LENS_SLOTS: dict[str, tuple[int, tuple[int, ...]]] = {
    "SIMPLE_PINHOLE": (1, ()),
    "PINHOLE": (2, ()),
    "SIMPLE_RADIAL": (1, (0,)),
    "RADIAL": (1, (0, 1)),
    "OPENCV": (2, (0, 1, 2, 3)),
    "FULL_OPENCV": (2, (0, 1, 2, 3, 4, 5, 6, 7)),
}
SUPPORTED_MODELS = tuple(_LENS_SLOTS)
_LENS_FIELDS = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
_FOCAL = (1e-3, 1e9)
_LARGEST = 1e9
_MODEL_ALIASES = {"PERSPECTIVE": "OPENCV", "OPENCV5": "FULL_OPENCV", "SIMPLE_RADIAL": "OPENCV"}


def from_colmap(
    model: str, size: tuple[int, int], params: Float[np.ndarray, " params"], where: str
) -> Intrinsics:
    """Reads a COLMAP camera: focal length(s), principal point, lens.

    Args:
      size: (cols, rows).
      where: file and camera, named in errors.
    Raises:
      ValueError: for a model that is not supported, a wrong number of parameters, or values that
        are not finite and positive where they must be.
    """
    check_model(model, where)
    num_focal, slots = _LENS_SLOTS[model]
    expected = num_focal + 2 + len(slots)
    if len(params) != expected:
        raise ValueError(f"{where}: {model} has {expected} parameters, got {len(params)}")
    if not np.all(np.isfinite(params)):
        raise ValueError(f"{where}: parameters must be finite, got {list(params)}")
    distortion = np.zeros(8)
    distortion[list(slots)] = params[num_focal + 2 :]
    focal = np.resize(params[:num_focal], 2)
    return _checked(focal, params[num_focal : num_focal + 2], distortion, size, where)


def from_fields(frame: Fields, root: Fields, image_size: tuple[int, int]) -> Intrinsics:
    """Reads a frame's intrinsics from `transforms.json`, its own fields before the file's.

    Understands fl_x, fl_y, cx, cy, w, h, k1 to k6, p1, p2 and camera_angle_x, camera_angle_y, and
    refuses is_fisheye.
    What is missing: fl_y is fl_x, the principal point is the middle, w and h are the image's.

    Args:
      image_size: (cols, rows) of the frame's image.
    Raises:
      ValueError: naming file and field.
    """

    def holder(name: str) -> Fields:
        return frame if name in frame else root

    model = "OPENCV"
    if "camera_model" in holder("camera_model"):
        source = holder("camera_model")
        model = source.text("camera_model")
        model = _MODEL_ALIASES.get(model, model)
        check_model(model, source.where("camera_model"))
    fisheye = holder("is_fisheye")  # how instant-ngp says it
    if fisheye.flag("is_fisheye"):
        check_model("OPENCV_FISHEYE", fisheye.where("is_fisheye"))
    cols = holder("w").positive("w", image_size[0])
    rows = holder("h").positive("h", image_size[1])
    focal_x = _focal(holder, "fl_x", "camera_angle_x", cols)
    focal_y = _focal(holder, "fl_y", "camera_angle_y", rows)
    if focal_x is None and focal_y is None:
        raise ValueError(f"{root.where('fl_x')} is missing, and so is camera_angle_x")
    focal = np.array([focal_x or focal_y, focal_y or focal_x], np.float64)
    principal = np.array(
        [holder("cx").number("cx", 0.5 * cols), holder("cy").number("cy", 0.5 * rows)]
    )
    lens = np.array([holder(name).number(name, 0.0) for name in _LENS_FIELDS])
    if model != "FULL_OPENCV" and np.any(lens[5:]):
        raise ValueError(
            f"{root.where('k4')}: a fourth radial coefficient needs camera_model FULL_OPENCV, "
            f"got {model}"
        )
    return _checked(focal, principal, lens, (int(cols), int(rows)), str(root.file))


def from_matrix(
    matrix: Float[np.ndarray, "rows cols"], size: tuple[int, int], where: str
) -> Intrinsics:
    """Reads a 3x3 or 4x4 camera matrix in OpenCV's convention, pixel centres at whole numbers.

    Half a pixel is added to the principal point, because here centres lie at +0.5.
    Raises:
      ValueError: for another shape, skew, or values that are not finite and positive.
    """
    if matrix.shape not in ((3, 3), (4, 4)) or not np.all(np.isfinite(matrix)):
        raise ValueError(f"{where}: must be a finite 3x3 camera matrix, got shape {matrix.shape}")
    if abs(matrix[0, 1]) > 1e-6 * abs(matrix[0, 0]):
        raise ValueError(f"{where}: a camera matrix with skew is not supported")
    focal, principal = np.diag(matrix)[:2], matrix[:2, 2] + 0.5
    return _checked(focal, principal, np.zeros(8), size, where)


def check_model(model: str, where: str) -> None:
    """Refuses camera models with another projection than OpenCV's pinhole with a lens.

    Raises:
      ValueError: naming the models that are supported.
    """
    if model not in _LENS_SLOTS:
        raise ValueError(
            f"{where}: camera model {model} is not supported, only {', '.join(SUPPORTED_MODELS)}; "
            "undistort the images first"
        )


def check_image_size(intrinsics: Intrinsics, image_size: tuple[int, int], where: str) -> None:
    """Refuses images whose shape is not that of the intrinsics, as of a photo turned by 90 degrees.

    Raises:
      ValueError: naming both sizes, if they differ by more than 2 % and a pixel after scaling.
    """
    expected = intrinsics.size[0] * image_size[1] / intrinsics.size[1]
    if abs(expected - image_size[0]) > max(1.0, 0.02 * image_size[0]):
        cols, rows = intrinsics.size
        raise ValueError(
            f"{where}: intrinsics are for {cols:g} x {rows:g} pixels, the image has "
            f"{image_size[0]} x {image_size[1]}: another shape"
        )


def check_intrinsics(intrinsics: Intrinsics, where: str) -> None:
    """Refuses numbers no camera has, before they overflow the float32 of a camera.

    Raises:
      ValueError: for values that are not finite, focal lengths outside [0.001, 1e9] pixels, a size
        below one pixel, or anything else above 1e9.
    """
    focal, size = intrinsics.focal, intrinsics.size
    if not np.all((focal >= _FOCAL[0]) & (focal <= _FOCAL[1])):
        raise ValueError(f"{where}: focal lengths must be positive, got {focal.tolist()}")
    if not np.all((size >= 1) & (size <= _LARGEST)):
        raise ValueError(f"{where}: image size must be positive, got {size.tolist()}")
    for name in ("principal", "distortion"):
        values = getattr(intrinsics, name)
        if not np.all(np.abs(values) <= _LARGEST):
            raise ValueError(f"{where}: {name} must be below {_LARGEST:g}, got {values.tolist()}")


def _focal(holder, length: str, angle: str, side: float) -> float | None:
    if length in holder(length):
        return holder(length).positive(length)
    if angle in holder(angle):
        value = holder(angle).positive(angle)
        if value >= np.pi:
            raise ValueError(f"{holder(angle).where(angle)} must be below pi, got {value:g}")
        return 0.5 * side / np.tan(0.5 * value)
    return None


def _checked(
    focal: np.ndarray,
    principal: np.ndarray,
    distortion: np.ndarray,
    size: tuple[int, int],
    where: str,
) -> Intrinsics:
    found = Intrinsics(
        *(np.asarray(values, np.float64) for values in (focal, principal, distortion, size))
    )
    check_intrinsics(found, where)
    return found
