"""metadata.json: the cameras of a captured set of views.

Matrices are flat, column-major (element [row r, column c] at 4 c + r), for column vectors;
`viewMatrix` takes world to camera, right-handed, looking along -Z with +Y up, and the projection
is OpenGL's (clip z within [-w, w]). A view needs `viewMatrix`, or `position`, `forward` and `up`;
and `projectionMatrix`, or `intrinsics.fovYDegrees`; where both are there they must agree. `up` may
lean along `forward`. Any other key is ignored.
"""

import json
import os
import pathlib
import reprlib
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from scenes.cameras import Cameras, make_cameras
from scenes.formats.intrinsics import Intrinsics, check_intrinsics
from scenes.formats.json_files import can_be_name, read_json_value

DEFAULT_NEAR, DEFAULT_FAR = 0.1, 500.0
_TOLERANCE = 1e-3
_MAX_SIDE = 1 << 16
_LARGEST = 1e12  # of positions and matrices; float32 must hold its square


class CapturedViews(NamedTuple):
    """Cameras as read from a metadata.json.

    Attributes:
      cameras: one per view, OpenGL axes, camera to world.
      names: identifiers of the views.
      rows, cols: size of the images in pixels.
      near, far: the clip distances, smallest and largest over the views.
      image_paths: file of each view's image, None where the file names none.
    """

    cameras: Cameras
    names: tuple[str, ...]
    rows: int
    cols: int
    near: float
    far: float
    image_paths: tuple[pathlib.Path | None, ...]


def load_views(path: str | os.PathLike[str]) -> CapturedViews:
    """Reads a metadata.json.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not JSON, or a field that is missing, of the wrong length, not finite, not a
        rigid transform (row-major matrices are recognised and said so), or at odds with another.
    """
    source = pathlib.Path(path)
    document = read_json_value(source)
    try:
        return parse_views(document, source.parent)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def parse_views(document: Any, folder: pathlib.Path) -> CapturedViews:
    """Turns the JSON document into cameras; image paths are taken relative to `folder`."""
    if not isinstance(document, dict):
        raise ValueError(f"metadata is a JSON object, got {type(document).__name__}")
    size = document.get("imageSize")
    if not isinstance(size, dict) or not all(_is_count(size.get(k)) for k in ("width", "height")):
        raise ValueError(
            f'"imageSize" must be {{width, height}} in pixels, got {reprlib.repr(size)}'
        )
    cols, rows = size["width"], size["height"]
    views = document.get("views")
    if not isinstance(views, list) or not views:
        raise ValueError('"views" must be a list with at least one view')
    count = document.get("viewCount", len(views))
    if count != len(views):
        raise ValueError(f'"viewCount" is {reprlib.repr(count)} but there are {len(views)} views')

    poses, focals, principals, nears, fars, names, paths = [], [], [], [], [], [], []
    for i, view in enumerate(views):
        where = f"views[{i}]"
        if not isinstance(view, dict):
            raise ValueError(f"{where} must be an object")
        poses.append(_pose(view, where))
        focal, principal = _intrinsics(view, where, rows, cols)
        check_intrinsics(Intrinsics(focal, principal, np.zeros(8), np.array([cols, rows])), where)
        _check_angle(view, where, 2 * focal[1] / rows)
        focals.append(focal)
        principals.append(principal)
        intrinsics = view.get("intrinsics")
        intrinsics = intrinsics if isinstance(intrinsics, dict) else {}
        nears.append(_number(intrinsics, "near", f"{where}.intrinsics", DEFAULT_NEAR))
        fars.append(_number(intrinsics, "far", f"{where}.intrinsics", DEFAULT_FAR))
        if not 0 < nears[-1] < fars[-1]:
            raise ValueError(f"{where}.intrinsics needs 0 < near < far")
        names.append(_name(view, i))
        path = view.get("rgbPath")
        if isinstance(path, str) and not can_be_name(path):
            raise ValueError(f"{where}.rgbPath must name a file, got {reprlib.repr(path)}")
        paths.append(folder / path if isinstance(path, str) else None)
    cameras = make_cameras(np.stack(poses), np.stack(focals), np.stack(principals))
    return CapturedViews(cameras, tuple(names), rows, cols, min(nears), max(fars), tuple(paths))


def save_views(path: str | os.PathLike[str], views: CapturedViews) -> None:
    """Writes a metadata.json that `load_views` reads back; image paths become relative.

    Raises:
      ValueError: a camera with lens distortion, which the format cannot hold.
    """
    target = pathlib.Path(path)
    poses, focals, principals, distortion = (np.asarray(x, np.float64) for x in views.cameras)
    if np.any(distortion != 0):
        raise ValueError("metadata.json holds pinhole cameras only; these have lens distortion")
    entries = []
    for i, name in enumerate(views.names):
        pose = poses[i]
        projection = _projection(focals[i], principals[i], views)
        view_matrix = np.linalg.inv(pose)
        image = views.image_paths[i]
        entries.append(
            {
                "id": name,
                "index": i,
                "position": pose[:3, 3].tolist(),
                "forward": (-pose[:3, 2]).tolist(),
                "up": pose[:3, 1].tolist(),
                "right": pose[:3, 0].tolist(),
                "intrinsics": {
                    "fovYDegrees": float(np.degrees(2 * np.arctan(1 / projection[1, 1]))),
                    "aspect": float(projection[1, 1] / projection[0, 0]),
                    "near": views.near,
                    "far": views.far,
                },
                "viewMatrix": view_matrix.T.ravel().tolist(),
                "projectionMatrix": projection.T.ravel().tolist(),
                "viewProjectionMatrix": (projection @ view_matrix).T.ravel().tolist(),
                "rgbPath": None if image is None else _relative(image, target.parent),
                "depthPath": None,
                "normalPath": None,
            }
        )
    document = {
        "formatVersion": "1.0",
        "imageSize": {"width": views.cols, "height": views.rows},
        "viewCount": len(entries),
        "views": entries,
    }
    target.write_text(json.dumps(document, indent=1), encoding="utf-8")


def _pose(view: dict, where: str) -> Float[np.ndarray, "4 4"]:
    if view.get("viewMatrix") is not None:
        matrix = _matrix(view["viewMatrix"], f"{where}.viewMatrix")
        if np.abs(matrix[3] - (0, 0, 0, 1)).max() > _TOLERANCE:
            looks_transposed = np.abs(matrix[:, 3] - (0, 0, 0, 1)).max() <= _TOLERANCE
            hint = "; it looks row-major" if looks_transposed else ""
            raise ValueError(f"{where}.viewMatrix: the last row must be 0 0 0 1{hint}")
        rotation = matrix[:3, :3]
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > _TOLERANCE:
            raise ValueError(f"{where}.viewMatrix: the rotation is not orthonormal")
        if np.linalg.det(rotation) < 0:
            raise ValueError(f"{where}.viewMatrix: left-handed; a right-handed view is needed")
        pose = np.linalg.inv(matrix)
        if view.get("position") is not None:
            position = _vector(view["position"], f"{where}.position")
            if np.abs(pose[:3, 3] - position).max() > _TOLERANCE * (1 + np.abs(position).max()):
                raise ValueError(
                    f"{where}: viewMatrix puts the camera at {pose[:3, 3].round(3).tolist()}, "
                    f"position at {position.tolist()}; a row-major matrix reads like that"
                )
        _check_axes(view, where, pose[:3, :3])
        return pose
    missing = [key for key in ("position", "forward", "up") if view.get(key) is None]
    if missing:
        raise ValueError(f"{where} needs viewMatrix, or position, forward and up (no {missing})")
    forward = _vector(view["forward"], f"{where}.forward")
    right = np.cross(forward, _vector(view["up"], f"{where}.up"))
    if np.linalg.norm(right) < 1e-9:
        raise ValueError(f"{where}: forward and up are parallel or zero")
    forward, right = forward / np.linalg.norm(forward), right / np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(right, forward), -forward], axis=1)
    pose[:3, 3] = _vector(view["position"], f"{where}.position")
    return pose


def _check_axes(view: dict, where: str, rotation: Float[np.ndarray, "3 3"]) -> None:
    """Refuses a `forward` or `up` that is not the view matrix's, turned by what rounding may."""
    right, up, backward = rotation.T
    if view.get("forward") is not None:
        given = _direction(view["forward"], f"{where}.forward")
        if np.abs(given + backward).max() > _TOLERANCE:
            raise ValueError(
                f"{where}: viewMatrix looks along {(-backward).round(3).tolist()}, forward is "
                f"{given.round(3).tolist()}; a row-major matrix reads like that"
            )
    if view.get("up") is not None:
        given = _direction(view["up"], f"{where}.up")
        if abs(given @ right) > _TOLERANCE or given @ up <= 0:
            raise ValueError(
                f"{where}: viewMatrix has {up.round(3).tolist()} upwards, up is "
                f"{given.round(3).tolist()}; a row-major matrix reads like that"
            )


def _check_angle(view: dict, where: str, slope: float) -> None:
    """Refuses a `fovYDegrees` other than the projection's, whose 1 / tan(angle / 2) is given."""
    intrinsics = view.get("intrinsics")
    if not isinstance(intrinsics, dict) or intrinsics.get("fovYDegrees") is None:
        return
    angle = _angle(intrinsics, where)
    if abs(slope * np.tan(np.radians(angle) / 2) - 1) > _TOLERANCE:
        found = np.degrees(2 * np.arctan(1 / slope))
        raise ValueError(
            f"{where}: projectionMatrix spans {found:.3f} degrees from top to bottom, "
            f"intrinsics.fovYDegrees is {angle:g}"
        )


def _angle(intrinsics: dict, where: str) -> float:
    angle = _number(intrinsics, "fovYDegrees", f"{where}.intrinsics", 60.0)
    if not 1e-6 < angle < 180 - 1e-6:
        raise ValueError(f"{where}.intrinsics.fovYDegrees must lie in (0, 180), got {angle}")
    return angle


def _intrinsics(
    view: dict, where: str, rows: int, cols: int
) -> tuple[Float[np.ndarray, " 2"], Float[np.ndarray, " 2"]]:
    if view.get("projectionMatrix") is not None:
        matrix = _matrix(view["projectionMatrix"], f"{where}.projectionMatrix")
        if np.abs(matrix[3] - (0, 0, -1, 0)).max() > _TOLERANCE or matrix[0, 0] * matrix[1, 1] <= 0:
            raise ValueError(f"{where}.projectionMatrix: not an OpenGL perspective, column-major")
        focal = np.array([matrix[0, 0] * cols, matrix[1, 1] * rows]) / 2
        principal = np.array([(1 - matrix[0, 2]) * cols, (1 + matrix[1, 2]) * rows]) / 2
        return focal, principal
    intrinsics = view.get("intrinsics")
    if not isinstance(intrinsics, dict) or intrinsics.get("fovYDegrees") is None:
        raise ValueError(f"{where} needs projectionMatrix, or intrinsics.fovYDegrees")
    angle = _angle(intrinsics, where)
    aspect = _number(intrinsics, "aspect", f"{where}.intrinsics", cols / rows)
    if not 1e-6 < aspect < 1e6:
        raise ValueError(f"{where}.intrinsics.aspect must be positive, got {aspect}")
    slope = 1 / np.tan(np.radians(angle) / 2)
    return np.array([slope / aspect * cols, slope * rows]) / 2, np.array([cols, rows]) / 2


def _projection(
    focal: np.ndarray, principal: np.ndarray, views: CapturedViews
) -> Float[np.ndarray, "4 4"]:
    near, far = views.near, views.far
    matrix = np.zeros((4, 4))
    matrix[0, 0], matrix[1, 1] = 2 * focal[0] / views.cols, 2 * focal[1] / views.rows
    matrix[0, 2] = 1 - 2 * principal[0] / views.cols
    matrix[1, 2] = 2 * principal[1] / views.rows - 1
    matrix[2, 2], matrix[2, 3] = -(far + near) / (far - near), -2 * far * near / (far - near)
    matrix[3, 2] = -1
    return matrix


def _matrix(values: Any, where: str) -> Float[np.ndarray, "4 4"]:
    if not isinstance(values, list) or len(values) != 16:
        raise ValueError(f"{where} must be 16 numbers, column-major")
    return _finite(values, where).reshape(4, 4).T


def _vector(values: Any, where: str) -> Float[np.ndarray, " 3"]:
    if not isinstance(values, list) or len(values) != 3:
        raise ValueError(f"{where} must be three numbers, got {reprlib.repr(values)}")
    return _finite(values, where)


def _direction(values: Any, where: str) -> Float[np.ndarray, " 3"]:
    vector = _vector(values, where)
    length = np.linalg.norm(vector)
    if length < 1e-9:
        raise ValueError(f"{where} must not be zero")
    return vector / length


def _finite(values: list, where: str) -> np.ndarray:
    try:
        array = np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{where} must hold numbers ({error})") from error
    if array.ndim != 1:
        raise ValueError(f"{where} must hold numbers, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{where} holds numbers that are not finite")
    if np.abs(array).max() > _LARGEST:
        raise ValueError(f"{where} holds the number {np.abs(array).max():g}, above {_LARGEST:g}")
    return array


def _number(values: dict, key: str, where: str, default: float) -> float:
    value = values.get(key, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) <= _LARGEST:
        raise ValueError(f"{where}.{key} must be a number, got {reprlib.repr(value)}")
    return float(value)


def _name(view: dict, index: int) -> str:
    name = view.get("id", f"view_{index + 1:03d}")
    if not isinstance(name, str | int) or not can_be_name(str(name)):
        raise ValueError(f"views[{index}].id must be a name, got {reprlib.repr(name)}")
    return str(name)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MAX_SIDE


def _relative(path: pathlib.Path, folder: pathlib.Path) -> str:
    return pathlib.PurePosixPath(os.path.relpath(path, folder)).as_posix()
