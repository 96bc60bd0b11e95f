"""Reads LLFF captures: `poses_bounds.npy` beside folders of photographs.

A row is a 3x5 matrix [R | t | rows, cols, focal] and two planar depths, the nearest and the
farthest surface in view. Its axes are down, right, back; rows are in the order of sorted file
names. Intrinsics are for the full-size photographs, also where only smaller copies are there.
Source: Mildenhall et al. 2019 (Local Light Field Fusion).
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from ..rotations import rigid
from .array_files import read_npy
from .capture import Capture, View
from .image_folders import choose_folder
from .intrinsics import Intrinsics, check_intrinsics
from .splits import read_lists

FILE = "poses_bounds.npy"


def is_llff(folder: Path) -> bool:
    """Whether a folder holds an LLFF capture."""
    return (folder / FILE).is_file()


def read_llff(folder: Path, *, downscale: int | float | None = None) -> Capture:
    """Reads a capture from `poses_bounds.npy`.

    Args:
      downscale: which of several image folders to read; see `image_folders`.
    Raises:
      FileNotFoundError, ValueError: naming file and row.
    """
    file = folder / FILE
    rows = _read_rows(file)
    images = choose_folder(folder, downscale)
    if len(images.paths) != len(rows):
        raise ValueError(
            f"{file}: has {len(rows)} rows, but {images.folder} has {len(images.paths)} images"
        )
    views = []
    for index, (row, path) in enumerate(zip(rows, images.paths, strict=True)):
        matrix, (near, far) = row[:15].reshape(3, 5), row[15:]
        size_rows, size_cols, focal = matrix[:, 4]
        if min(size_rows, size_cols, focal) <= 0:
            raise ValueError(f"{file}: row {index} needs positive height, width and focal length")
        size = np.array([size_cols, size_rows])
        intrinsics = Intrinsics(np.full(2, focal), 0.5 * size, np.zeros(8), size)
        check_intrinsics(intrinsics, f"{file}: row {index}")
        if not 0 < near < far:
            raise ValueError(f"{file}: row {index} needs bounds 0 < near < far, got {near}, {far}")
        views.append(
            View(
                name=path.name,
                path=path,
                field=f"row {index}",
                camera_to_world=opengl_from_llff(matrix[:, :4]),
                intrinsics=intrinsics,
                bounds=(float(near), float(far)),
            )
        )
    return Capture(
        name=folder.name,
        source=file,
        views=tuple(views),
        num_listed=len(views),
        lists=read_lists(folder),
        shrunk=images.factor,
        notes=images.notes,
    )


def opengl_from_llff(matrix: Float[np.ndarray, "3 4"]) -> Float[np.ndarray, "4 4"]:
    """Turns a pose with axes down, right, back into one with axes right, up, back."""
    down, right, back, origin = matrix.T
    return rigid(np.stack([right, -down, back], axis=1), origin)


def _read_rows(file: Path) -> Float[np.ndarray, "views 17"]:
    rows = read_npy(file)
    if rows.ndim != 2 or rows.shape[1] != 17 or not np.issubdtype(rows.dtype, np.floating):
        raise ValueError(f"{file}: must hold rows of 17 numbers, got shape {rows.shape}")
    if not len(rows):
        raise ValueError(f"{file}: must not be empty: the split has no views")
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if bad.size:
        raise ValueError(f"{file}: row {bad[0]} must be finite")
    return rows.astype(np.float64)
