"""Camera paths: an orbit around what the cameras look at, and paths from a file."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from scenes.cameras import Cameras, make_cameras
from scenes.formats.json_files import Fields, read_json_value
from scenes.normalisation import to_scene
from scenes.posed_images import PosedImages, validate_poses
from scenes.rotations import look_at

from .render_command import FRAME_RATES

_SWAY = 0.35
_LARGEST_SIDE = 65535
_ANGLES = (0.1, 179.0)
_LARGEST_GAP = np.radians(120.0)
"""Angle around the scene without a camera from which on an orbit turns back."""


class CameraPath(NamedTuple):
    """Cameras to render one after the other.

    Attributes:
      cameras: in scene coordinates, for pictures of rows x cols pixels.
      rows, cols: size of the pictures the path asks for.
      fps: frames per second it asks for; None leaves them open.
      is_nerfstudio: it is from a file of nerfstudio's.
    """

    cameras: Cameras
    rows: int
    cols: int
    fps: float | None = None
    is_nerfstudio: bool = False


def orbit(posed: PosedImages, *, num_frames: int, turns: float = 1.0) -> Cameras:
    """Goes around the scene at the cameras' typical distance and height.

    Where a third of the way around has no camera, the path goes back and forth over the rest of it:
    behind a wall there is nothing to see. Where cameras look away from each other, as from the
    middle of a room or a tripod, the path does too. Forward-facing scenes are swayed over, within
    the cameras' spread.
    Intrinsics are those of the first camera, without its lens distortion.
    """
    if num_frames < 1:
        raise ValueError(f"an orbit needs at least 1 frame, got {num_frames}")
    poses = np.asarray(posed.cameras.camera_to_world, np.float64)
    origins, target = poses[:, :3, 3], looked_at(poses)
    angle = 2 * np.pi * turns * np.arange(num_frames) / num_frames
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    up = poses[:, :3, 1].mean(axis=0)
    up = up / max(float(np.linalg.norm(up)), 1e-9)
    if posed.kind == "forward_facing":
        middle, spread = origins.mean(axis=0), origins.std(axis=0)
        right = np.cross(up, middle - target)
        right = right / max(float(np.linalg.norm(right)), 1e-9)
        size = _SWAY * float(np.linalg.norm(spread))
        places = middle + size * (circle[:, :1] * right + circle[:, 1:] * up)
    else:
        offset = origins - target
        height = float(np.median(offset @ up))
        flat = offset - np.outer(offset @ up, up)
        radius = float(np.median(np.linalg.norm(flat, axis=-1)))
        forward = -poses[:, :3, 2]
        is_outward = float(np.median(np.sum(forward * offset, axis=-1))) > -1e-6
        if is_outward:
            flat = forward - np.outer(forward @ up, up)
        first = flat[int(np.argmax(np.linalg.norm(flat, axis=-1)))]
        first = first / max(float(np.linalg.norm(first)), 1e-9)
        second = np.cross(up, first)
        around = np.arctan2(flat @ second, flat @ first)
        gap, middle = _widest_gap(around)
        if gap > _LARGEST_GAP:
            angle = middle + np.pi + (np.pi - gap / 2) * np.sin(angle)
            circle = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        outward = circle[:, :1] * first + circle[:, 1:] * second
        places = target + height * up + radius * outward
        if is_outward:
            tilt = float(np.clip(np.median(forward @ up), -0.99, 0.99))
            target = places + np.sqrt(1.0 - tilt**2) * outward + tilt * up
    return with_intrinsics(posed, look_at(places, target, up))


def _widest_gap(angles: Float[np.ndarray, " views"]) -> tuple[float, float]:
    """Width and middle of the largest stretch of a circle without an angle in it."""
    ordered = np.sort(angles % (2 * np.pi))
    widths = np.diff(np.concatenate([ordered, ordered[:1] + 2 * np.pi]))
    widest = int(np.argmax(widths))
    return float(widths[widest]), float(ordered[widest] + widths[widest] / 2)


def looked_at(poses: Float[np.ndarray, "views 4 4"]) -> Float[np.ndarray, " 3"]:
    """The point nearest to all optical axes, in least squares.

    Axes that are all parallel have none; then a point at unit distance before the mean camera.
    """
    origins, forward = poses[:, :3, 3], -poses[:, :3, 2]
    across = np.eye(3) - forward[:, :, None] * forward[:, None, :]
    matrix = across.sum(axis=0)
    if np.linalg.cond(matrix) > 1e6:
        return origins.mean(axis=0) + forward.mean(axis=0)
    return np.linalg.solve(matrix, np.einsum("vij,vj->i", across, origins))


def with_intrinsics(posed: PosedImages, poses: Float[np.ndarray, "views 4 4"]) -> Cameras:
    """Cameras at other places with the first camera's focal length and no distortion."""
    return make_cameras(
        poses,
        np.asarray(posed.cameras.focal[0]),
        np.array([0.5 * posed.cols, 0.5 * posed.rows]),
    )


def read_path(
    path: Path, posed: PosedImages, world_from_scene: Float[np.ndarray, "4 4"]
) -> CameraPath:
    """Reads a path of our own or of nerfstudio's.

    Ours is {"frames": [{"transform_matrix": 4x4 camera to world, OpenGL axes}, ...]}, with the
    size and the lens of the training images; "fps" may stand beside it. Nerfstudio's has
    "camera_path": [{"camera_to_world": 16 numbers row by row, OpenGL axes, "fov": vertical,
    degrees}, ...], "render_height", "render_width", "fps" and "seconds".

    Args:
      world_from_scene: the file's coordinates are those of the scene's own files, as the exports'
        are; this takes the scene's to them.
    Raises:
      FileNotFoundError, ValueError: naming the file and the field.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such camera path")
    values = read_json_value(path)
    if isinstance(values, dict) and "camera_path" in values:
        return _read_nerfstudio(Fields(path, values), posed, world_from_scene)
    frames = values.get("frames") if isinstance(values, dict) else None
    if not isinstance(frames, list) or not frames:
        raise ValueError(f"{path}: frames must be a list of at least one camera")
    matrices = [
        frame.get("transform_matrix") if isinstance(frame, dict) else None for frame in frames
    ]
    fields = tuple(f"frames[{index}].transform_matrix" for index in range(len(frames)))
    poses = [
        _matrix(path, field, matrix, (4, 4)) for field, matrix in zip(fields, matrices, strict=True)
    ]
    validate_poses(np.stack(poses), fields, str(path))
    return CameraPath(
        with_intrinsics(posed, to_scene(world_from_scene, np.stack(poses))),
        rows=posed.rows,
        cols=posed.cols,
        fps=_rate(Fields(path, values), len(poses)),
    )


def _read_nerfstudio(
    root: Fields, posed: PosedImages, world_from_scene: Float[np.ndarray, "4 4"]
) -> CameraPath:
    """Square pixels, the principal point in the middle, as nerfstudio renders its paths."""
    kind = root.text("camera_type") if "camera_type" in root else "perspective"
    if kind.lower() != "perspective":
        raise ValueError(
            f"{root.where('camera_type')}: cameras of type {kind} are not supported, only "
            "perspective ones"
        )
    entries = root.objects("camera_path")
    fields = tuple(f"{entry.prefix}camera_to_world" for entry in entries)
    poses = np.stack(
        [
            _matrix(root.file, field, entry.values.get("camera_to_world"), (16,)).reshape(4, 4)
            for field, entry in zip(fields, entries, strict=True)
        ]
    )
    validate_poses(poses, fields, str(root.file))
    rows = _side(root, "render_height", posed.rows)
    aspect = entries[0].positive("aspect", posed.cols / posed.rows)
    cols = _side(root, "render_width", max(1, round(rows * min(aspect, _LARGEST_SIDE))))
    slopes = np.array([np.tan(0.5 * np.radians(_field_of_view(root, entry))) for entry in entries])
    return CameraPath(
        make_cameras(
            to_scene(world_from_scene, poses),
            np.repeat(0.5 * rows / slopes[:, None], 2, axis=1),
            np.array([0.5 * cols, 0.5 * rows]),
        ),
        rows=rows,
        cols=cols,
        fps=_rate(root, len(entries)),
        is_nerfstudio=True,
    )


def _matrix(path: Path, field: str, value: object, shape: tuple[int, ...]) -> np.ndarray:
    try:
        matrix = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        matrix = np.zeros(())
    if matrix.shape != shape:
        wanted = "a 4 x 4 matrix" if len(shape) == 2 else "16 numbers, a matrix row by row"
        raise ValueError(f"{path}: {field} must be {wanted}")
    return matrix


def _side(root: Fields, name: str, default: int) -> int:
    value = root.positive(name, default)
    if value != round(value) or value > _LARGEST_SIDE:
        raise ValueError(
            f"{root.where(name)} must be a whole number up to {_LARGEST_SIDE}, got {value:g}"
        )
    return int(value)


def _field_of_view(root: Fields, entry: Fields) -> float:
    """Vertical, in degrees."""
    holder, name = (entry, "fov") if "fov" in entry else (root, "default_fov")
    if name not in holder:
        raise ValueError(f"{entry.where('fov')} is missing; a number of degrees is needed")
    angle = holder.positive(name)
    if not _ANGLES[0] <= angle <= _ANGLES[1]:
        raise ValueError(
            f"{holder.where(name)} must be in [{_ANGLES[0]:g}, {_ANGLES[1]:g}] degrees, "
            f"got {angle:g}"
        )
    return angle


def _rate(root: Fields, num_frames: int) -> float | None:
    """Frames per second, given or by the path's duration."""
    if "fps" not in root and "seconds" not in root:
        return None
    name = "fps" if "fps" in root else "seconds"
    value = root.positive(name)
    rate = value if name == "fps" else num_frames / value
    slowest, fastest = FRAME_RATES
    if not slowest <= rate <= fastest:
        raise ValueError(
            f"{root.where(name)} must give {slowest:g} to {fastest:g} frames a second, got {rate:g}"
        )
    return rate
