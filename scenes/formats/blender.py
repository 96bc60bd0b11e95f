"""Reads Blender synthetic scenes: `transforms_{train,val,test}.json` beside folders of PNGs.

The field's own conventions: one horizontal field of view `camera_angle_x` for all views, OpenGL
poses, image paths without extension, near 2, far 6, everything inside a cube of half edge 1.5.
Source: Mildenhall et al. 2020 (NeRF), synthetic data.
"""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ..cameras import make_cameras
from ..posed_images import PosedImages, SplitImages, validate_poses, validate_splits
from .intrinsics import Intrinsics, check_intrinsics
from .json_files import Fields, read_json
from .pictures import EXTENSIONS, image_size, in_threads, read_images, read_plane, resize_nearest
from .transforms_json import find_image

NEAR, FAR = 2.0, 6.0
HALF_EDGE = 1.5
_DEPTH_RANGE = 8.0  # the published test depths store 8 (1 - v / 255) units along the ray


def is_blender(folder: Path) -> bool:
    """Whether a folder holds a Blender synthetic scene."""
    return (folder / "transforms_train.json").is_file()


def load_blender(
    folder: Path, *, downscale: int | float = 1.0, with_depth: bool = False
) -> SplitImages:
    """Loads a Blender synthetic scene.

    A missing transforms_val.json leaves val None; a missing transforms_test.json falls back to
    val for testing, with a note.

    Args:
      downscale: divides the images' sides.
      with_depth: also read the test views' 8-bit depth pictures (`*_depth_*.png`).
    Raises:
      FileNotFoundError: naming the file and frame, for missing files.
      ValueError: naming the file and field, for anything malformed.
    """
    notes = []
    train = _load_split(folder, "train", downscale, with_depth)
    has_val = (folder / "transforms_val.json").is_file()
    val = _load_split(folder, "val", downscale, with_depth) if has_val else None
    if (folder / "transforms_test.json").is_file():
        test = _load_split(folder, "test", downscale, with_depth)
    elif val is not None:
        test = val
        notes.append("transforms_test.json is missing: the val views stand in for the test views")
    else:
        raise FileNotFoundError(
            f"{folder / 'transforms_test.json'}: file not found, and no transforms_val.json either"
        )
    return validate_splits(
        SplitImages(train=train, test=test, val=val, name=folder.name, notes=tuple(notes))
    )


def _load_split(folder: Path, split: str, downscale: int | float, with_depth: bool) -> PosedImages:
    file = folder / f"transforms_{split}.json"
    root = read_json(file)
    frames = root.objects("frames")
    poses = np.stack([frame.matrix("transform_matrix") for frame in frames])
    validate_poses(poses, tuple(f"{frame.prefix}transform_matrix" for frame in frames), str(file))
    paths = [_image_path(folder, frame) for frame in frames]
    images = read_images(paths, downscale=downscale, source=file.name)
    rows, cols = images.shape[1:3]
    full_cols, full_rows = image_size(paths[0])
    focal, principal = _intrinsics(root, full_rows, full_cols)
    factor = np.array([cols / full_cols, rows / full_rows])
    depth = _read_depth(paths, rows, cols) if with_depth else None
    return PosedImages(
        images=images,
        cameras=make_cameras(poses, focal * factor, principal * factor),
        names=tuple(Path(os.path.relpath(path, folder)).as_posix() for path in paths),
        near=NEAR,
        far=FAR,
        aabb=np.array([[-HALF_EDGE] * 3, [HALF_EDGE] * 3], np.float32),
        depth=depth,
    )


def _intrinsics(
    root: Fields, rows: int, cols: int
) -> tuple[Float[np.ndarray, " 2"], Float[np.ndarray, " 2"]]:
    """Focal lengths and principal point for images of full size."""
    angle = root.positive("camera_angle_x")
    if angle >= np.pi:
        raise ValueError(f"{root.where('camera_angle_x')} must be below pi radians, got {angle:g}")
    focal = 0.5 * cols / np.tan(0.5 * angle)
    size = np.array([cols, rows], np.float64)
    found = Intrinsics(np.full(2, focal), 0.5 * size, np.zeros(8), size)
    check_intrinsics(found, root.where("camera_angle_x"))
    return found.focal, found.principal


def _image_path(folder: Path, frame: Fields) -> Path:
    name = frame.text("file_path")
    base = folder / name
    found = find_image(folder, name)
    if found is not None:
        return found
    raise FileNotFoundError(
        f"{frame.where('file_path')}: no image {base} (also tried {', '.join(EXTENSIONS)})"
    )


def _read_depth(
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
