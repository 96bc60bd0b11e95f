"""Reads RGB-D recordings: a colour image, a depth map and a pose file per frame.

Files are matched by the number in their name. They may lie together (`frame-000015.color.png`,
`frame-000015.depth.png`, `frame-000015.pose.txt`, as 7-Scenes and TSDF-fusion tools write them) or
in folders (`color`, `depth`, `pose`, as ScanNet exports). One text file holds the 3x3 or 4x4 camera
matrix. Conventions are OpenCV's: poses camera to world with y down and z ahead, pixel centres at
whole numbers; depth is planar, in millimetres if integer and metres if not.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ..cameras import opengl_from_opencv
from .capture import Capture, View
from .intrinsics import from_matrix
from .pictures import EXTENSIONS, image_size
from .splits import read_lists

_COLOR = ("color", "rgb", "images", "image")
_DEPTH = ("depth",)
_POSE = ("pose", "poses", "poses_original")
_DEPTH_ENDINGS = (*EXTENSIONS, ".npy")
_INTRINSICS = (
    "intrinsics.K.txt",
    "camera-intrinsics.txt",
    "intrinsics.txt",
    "intrinsic/intrinsic_color.txt",
    "intrinsic_color.txt",
    "camera_intrinsics.txt",
)


def is_rgbd(folder: Path) -> bool:
    """Whether a folder holds an RGB-D recording: camera matrix, and poses by frame."""
    return _intrinsics_file(folder) is not None and bool(_find(folder, _POSE, (".txt",)))


def read_rgbd(folder: Path) -> Capture:
    """Reads a recording.

    Frames without an image or with a pose that was lost (not finite, as ScanNet marks it) are
    left out and counted.
    Raises:
      FileNotFoundError, ValueError: naming file and field.
    """
    source = _intrinsics_file(folder)
    if source is None:
        raise FileNotFoundError(f"{folder}: no camera matrix, looked for {', '.join(_INTRINSICS)}")
    matrix = _read_matrix(source)
    poses = _find(folder, _POSE, (".txt",))
    colors = _find(folder, _COLOR, EXTENSIONS)
    depths = _find(folder, _DEPTH, _DEPTH_ENDINGS)
    if not poses:
        raise FileNotFoundError(f"{folder}: no pose files, looked for *.pose.txt and pose/*.txt")
    views, missing, notes, lost, size = [], [], [], 0, None
    for number, file in sorted(poses.items()):
        if number not in colors:
            missing.append(file.name)
            continue
        pose = _read_matrix(file)
        if pose.shape != (4, 4):
            raise ValueError(f"{file}: must hold a 4x4 matrix, got shape {pose.shape}")
        if not np.all(np.isfinite(pose)):
            lost += 1
            continue
        size = image_size(colors[number]) if size is None else size
        views.append(
            View(
                name=colors[number].relative_to(folder).as_posix(),
                path=colors[number],
                field=file.name,
                camera_to_world=opengl_from_opencv(pose),
                intrinsics=from_matrix(matrix, size, str(source)),
                depth_path=depths.get(number),
            )
        )
    if lost:
        notes.append(f"{lost} of {len(poses)} frames have no finite pose and are left out")
    return Capture(
        name=folder.name,
        source=source,
        views=tuple(views),
        missing=tuple(missing),
        num_listed=len(poses),
        lists=read_lists(folder),
        notes=tuple(notes),
    )


def _intrinsics_file(folder: Path) -> Path | None:
    return next((folder / name for name in _INTRINSICS if (folder / name).is_file()), None)


def _find(folder: Path, kinds: Sequence[str], endings: Sequence[str]) -> dict[int, Path]:
    """Files of one kind by frame number, from folders of that name or by `.kind.` in names."""
    for kind in kinds:
        files = [path for path in (folder / kind).glob("*") if path.suffix.lower() in endings]
        together = [p for p in folder.glob(f"*.{kind}.*") if p.suffix.lower() in endings]
        found = {_number(path): path for path in sorted(files or together)}
        if found:
            return found
    return {}


def _number(path: Path) -> int:
    digits = re.findall(r"\d+", path.name)
    if not digits:
        raise ValueError(f"{path}: frames are matched by number, and this name has none")
    return int(digits[-1])


def _read_matrix(file: Path) -> Float[np.ndarray, "rows cols"]:
    try:
        words = [line.replace(",", " ").split() for line in file.read_text("utf-8").splitlines()]
        matrix = np.array([line for line in words if line], np.float64)
    except (ValueError, UnicodeDecodeError):
        raise ValueError(f"{file}: must hold a matrix of numbers") from None
    if matrix.ndim != 2:
        raise ValueError(f"{file}: must hold a matrix of numbers, got shape {matrix.shape}")
    return matrix
