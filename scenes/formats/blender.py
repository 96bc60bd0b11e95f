"""Reads Blender synthetic scenes: `transforms_{train,val,test}.json` beside folders of PNGs.

The field's own conventions: one horizontal field of view `camera_angle_x` for all views, OpenGL
poses, image paths without extension, near 2, far 6, everything inside a cube of half edge 1.5.
Exporters (BlenderNeRF, instant-ngp's tools) write more: the fields of `transforms.json`, for all
frames or in each, which are read as there.
Source: Mildenhall et al. 2020 (NeRF), synthetic data.
"""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ..posed_images import PosedImages, SplitImages, validate_poses, validate_splits
from .capture import Capture, read_views, unit_notes, with_depth_scale
from .intrinsics import check_image_size
from .json_files import Fields, read_json
from .pictures import EXTENSIONS, image_size, in_threads, read_plane, resize_nearest
from .transforms_json import depth_unit, find_image, view_of

SPLIT_FILES = tuple(f"transforms_{split}.json" for split in ("train", "val", "test"))
NEAR, FAR = 2.0, 6.0
HALF_EDGE = 1.5
_FOCAL_FIELDS = ("fl_x", "fl_y", "camera_angle_x", "camera_angle_y")
_DEPTH_RANGE = 8.0  # the published test depths store 8 (1 - v / 255) units along the ray


def is_blender(folder: Path) -> bool:
    """Whether a folder holds a Blender synthetic scene."""
    return (folder / "transforms_train.json").is_file()


def load_blender(
    folder: Path,
    *,
    downscale: int | float = 1.0,
    with_depth: bool = False,
    depth_scale: float | None = None,
) -> SplitImages:
    """Loads a Blender synthetic scene.

    A missing transforms_val.json leaves val None; a missing transforms_test.json falls back to
    val for testing, with a note.

    Args:
      downscale: divides the images' sides.
      with_depth: also read the test views' 8-bit depth pictures (`*_depth_*.png`), where no depth
        maps are listed.
      depth_scale: length of one stored unit of the listed depth maps; None takes the file's.
    Raises:
      FileNotFoundError: naming the file and frame, for missing files.
      ValueError: naming the file and field, for anything malformed.
    """
    found = ["train", *(name for name in ("val", "test") if _file(folder, name).is_file())]
    if found == ["train"]:
        raise FileNotFoundError(
            f"{_file(folder, 'test')}: file not found, and no transforms_val.json either"
        )
    captures = with_depth_scale([_read_split(folder, name) for name in found], depth_scale)
    splits = {
        name: _load_split(capture, downscale, with_depth)
        for name, capture in zip(found, captures, strict=True)
    }
    notes = [note for capture in captures for note in unit_notes(capture)]
    if "test" not in splits:
        splits["test"] = splits["val"]
        notes.append("transforms_test.json is missing: the val views stand in for the test views")
    return validate_splits(
        SplitImages(
            train=splits["train"],
            test=splits["test"],
            val=splits.get("val"),
            name=folder.name,
            notes=tuple(dict.fromkeys(notes)),
        )
    )


def _file(folder: Path, split: str) -> Path:
    return folder / f"transforms_{split}.json"


def _read_split(folder: Path, split: str) -> Capture:
    """Reads the file of a split; the names of its views are the paths of their images."""
    file = _file(folder, split)
    root = read_json(file)
    frames = root.objects("frames")
    poses = np.stack([frame.matrix("transform_matrix") for frame in frames])
    validate_poses(poses, tuple(f"{frame.prefix}transform_matrix" for frame in frames), str(file))
    paths = [_image_path(folder, frame) for frame in frames]
    size = image_size(paths[0])
    views = []
    for frame, path in zip(frames, paths, strict=True):
        if not any(name in holder for name in _FOCAL_FIELDS for holder in (frame, root)):
            root.number("camera_angle_x")  # says that it is missing
        view = view_of(folder, root, frame, path, size)
        check_image_size(view.intrinsics, size, f"{file}: {frame.prefix}w")
        views.append(view._replace(name=Path(os.path.relpath(path, folder)).as_posix()))
    return Capture(
        name=folder.name,
        source=file,
        views=tuple(views),
        depth_scale=depth_unit(root),
        is_distance=root.flag("is_euclidean_depth"),
    )


def _load_split(capture: Capture, downscale: int | float, with_depth: bool) -> PosedImages:
    poses = np.stack([view.camera_to_world for view in capture.views])
    posed = read_views(capture, capture.views, poses, downscale)
    depth = posed.depth
    if depth is None and with_depth:
        depth = _depth_pictures([view.path for view in capture.views], posed.rows, posed.cols)
    return posed._replace(
        near=NEAR,
        far=FAR,
        aabb=np.array([[-HALF_EDGE] * 3, [HALF_EDGE] * 3], np.float32),
        depth=depth,
    )


def _image_path(folder: Path, frame: Fields) -> Path:
    name = frame.text("file_path")
    base = folder / name
    found = find_image(folder, name)
    if found is not None:
        return found
    raise FileNotFoundError(
        f"{frame.where('file_path')}: no image {base} (also tried {', '.join(EXTENSIONS)})"
    )


def _depth_pictures(
    paths: list[Path], rows: int, cols: int
) -> Float[np.ndarray, "views rows cols"] | None:
    """Distances along the ray from the depth pictures beside the images; None if there are none."""
    found = [sorted(path.parent.glob(f"{path.stem}_depth_*.png")) for path in paths]
    if not any(found):
        return None

    def decode(matches: list[Path]) -> np.ndarray:
        if not matches:
            return np.full((rows, cols), np.nan, np.float32)
        value = resize_nearest(read_plane(matches[0]), rows, cols).astype(np.float32)
        return np.where(value > 0, _DEPTH_RANGE * (1.0 - value / 255.0), np.nan).astype(np.float32)

    return np.stack(in_threads(decode, found))
