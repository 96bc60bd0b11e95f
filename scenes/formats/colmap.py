"""Reads captures reconstructed by COLMAP: a sparse model beside folders of photographs.

Covers mip-NeRF 360's layout (`sparse/0`, `images`, `images_2`, `images_4`). Registered photographs
whose file is missing are left out and counted; photographs COLMAP did not register are counted too.
"""

from pathlib import Path

import numpy as np

from ..cameras import opengl_from_opencv
from ..posed_images import FARTHEST
from ..rotations import matrix_from_quaternion, rigid
from .capture import Capture, Sparse, View
from .colmap_model import ColmapImage, ColmapModel, find_model, read_model
from .image_folders import ImageFolder, choose_folder
from .intrinsics import Intrinsics, from_colmap
from .splits import read_lists

_MIN_TRACK = 3
_MAX_ERROR = 2.0


def is_colmap(folder: Path) -> bool:
    """Whether a folder holds a sparse model in one of the usual places."""
    return find_model(folder) is not None


def read_colmap(folder: Path, *, downscale: int | float | None = None) -> Capture:
    """Reads a capture from a sparse model.

    Points seen by fewer than 3 photographs, with a mean error above 2 pixels or farther than
    1e12 are not used.

    Args:
      downscale: which of several image folders to read; see `image_folders`.
    Raises:
      FileNotFoundError, ValueError: naming file and record.
    """
    place = find_model(folder)
    if place is None:
        raise FileNotFoundError(
            f"{folder}: no sparse model (cameras, images) in sparse/0 or beside"
        )
    model = read_model(place)
    source = place / f"images{'.bin' if (place / 'images.bin').is_file() else '.txt'}"
    if not model.images:
        raise ValueError(f"{source}: must not be empty: the split has no views")
    images = choose_folder(folder, downscale)
    intrinsics = {
        key: from_colmap(camera.model, camera.size, camera.params, f"{place}: camera {key}")
        for key, camera in model.cameras.items()
    }
    good = (model.points.track >= _MIN_TRACK) & (model.points.error <= _MAX_ERROR)
    good &= np.abs(model.points.position).max(axis=1, initial=0) < FARTHEST
    row_of = {int(key): row for row, key in enumerate(model.points.id[good])}
    files, used = _files(images), set()
    views, missing = [], []
    for image in model.images.values():
        path = files.get(_stem(image.name))
        if path is None:
            missing.append(image.name)
            continue
        used.add(path)
        views.append(_view(image, path, intrinsics[image.camera], row_of, source))
    notes = list(images.notes)
    if len(used) < len(images.paths):
        spare = sorted(set(images.paths) - used)
        notes.append(
            f"{len(spare)} of {len(images.paths)} photographs have no pose and are left out, "
            f"the first is {spare[0].name}"
        )
    return Capture(
        name=folder.name,
        source=source,
        views=tuple(views),
        missing=tuple(missing),
        num_listed=len(model.images),
        points=model.points.position[good],
        lists=read_lists(folder),
        shrunk=images.factor,
        notes=tuple(notes),
    )


def camera_to_world(image: ColmapImage) -> np.ndarray:
    """Pose of a registered photograph, camera to world with OpenGL axes."""
    rotation = matrix_from_quaternion(image.quaternion).T
    return opengl_from_opencv(rigid(rotation, -rotation @ image.translation))


def reprojection(model: ColmapModel, key: int) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints of one photograph and the world points they belong to, as [seen, 2], [seen, 3]."""
    image = model.images[key]
    row_of = {int(point): row for row, point in enumerate(model.points.id)}
    rows = np.array([row_of[int(point)] for point in image.point], int)
    return image.xy, model.points.position[rows]


def _view(
    image: ColmapImage, path: Path, intrinsics: Intrinsics, row_of: dict[int, int], source: Path
) -> View:
    numbers = np.concatenate([image.quaternion, image.translation])
    if not np.all(np.abs(numbers) <= FARTHEST) or np.linalg.norm(image.quaternion) < 1e-9:
        raise ValueError(
            f"{source}: image {image.name}: pose must be finite and below {FARTHEST:g}, "
            f"got {numbers.tolist()}"
        )
    kept = np.array([int(point) in row_of for point in image.point], bool)
    rows = np.array([row_of[int(point)] for point in image.point[kept]], np.int64)
    return View(
        name=image.name,
        path=path,
        field=f"image {image.name}",
        camera_to_world=camera_to_world(image),
        intrinsics=intrinsics,
        sparse=Sparse(image.xy[kept], rows),
    )


def _files(images: ImageFolder) -> dict[str, Path]:
    """Photographs by name without ending, since copies may be of another type."""
    return {_stem(path.relative_to(images.folder).as_posix()): path for path in images.paths}


def _stem(name: str) -> str:
    return Path(name).with_suffix("").as_posix()
