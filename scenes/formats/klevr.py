"""Reads Kubric's KLEVR scenes: `metadata.json`, `rgba_*.png`, `depth_*.tiff`.

Poses are positions and quaternions (w, x, y, z) with OpenGL axes; depth is planar, in scene units,
1e10 where there is only background. Source: Vora et al. 2021 (NeSF), its data set.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from ..posed_images import FARTHEST
from ..rotations import matrix_from_quaternion, rigid
from .capture import Capture, View
from .intrinsics import Intrinsics, check_intrinsics
from .json_files import Fields, read_json


def is_klevr(folder: Path) -> bool:
    """Whether a folder holds a KLEVR scene."""
    return (folder / "metadata.json").is_file() and any(folder.glob("depth_*.tiff"))


def read_klevr(folder: Path) -> Capture:
    """Reads a scene; its background is black and its bounds are those the file gives.

    Raises:
      FileNotFoundError, ValueError: naming file and field.
    """
    file = folder / "metadata.json"
    root = read_json(file)
    camera = _object(root, "camera")
    meta = _object(root, "metadata")
    positions = _table(camera, "positions", 3)
    quaternions = _table(camera, "quaternions", 4)
    if len(positions) != len(quaternions):
        raise ValueError(
            f"{camera.where('quaternions')} must be {len(positions)} as positions are, "
            f"got {len(quaternions)}"
        )
    size = np.array([meta.positive("width"), meta.positive("height")])
    with np.errstate(over="ignore"):  # refused as infinite below
        focal = camera.positive("focal_length") / camera.positive("sensor_width") * size[0]
    intrinsics = Intrinsics(np.full(2, focal), 0.5 * size, np.zeros(8), size)
    check_intrinsics(intrinsics, camera.where("focal_length"))
    bad = np.flatnonzero(np.linalg.norm(quaternions, axis=1) < 1e-9)
    if bad.size:
        raise ValueError(f"{camera.where('quaternions')}[{bad[0]}] must not be zero")
    poses = rigid(matrix_from_quaternion(quaternions), positions)
    views, missing = [], []
    for index, pose in enumerate(poses):
        path = folder / f"rgba_{index:05d}.png"
        if not path.is_file():
            missing.append(path.name)
            continue
        depth = folder / f"depth_{index:05d}.tiff"
        views.append(
            View(
                name=path.name,
                path=path,
                field=f"camera.quaternions[{index}]",
                camera_to_world=pose,
                intrinsics=intrinsics,
                depth_path=depth if depth.is_file() else None,
            )
        )
    return Capture(
        name=f"{folder.parent.name}/{folder.name}",
        source=file,
        views=tuple(views),
        missing=tuple(missing),
        num_listed=len(poses),
        depth_scale=1.0,
        box=_box(root),
        lists=_lists(root),
        background="black",
    )


def _object(root: Fields, name: str) -> Fields:
    values = root.values.get(name)
    if not isinstance(values, dict):
        raise ValueError(f"{root.where(name)} must be an object, got {type(values).__name__}")
    return Fields(root.file, values, f"{root.prefix}{name}.")


def _table(fields: Fields, name: str, width: int) -> Float[np.ndarray, "rows cols"]:
    try:
        table: np.ndarray = np.array(fields.values.get(name), np.float64)
    except (TypeError, ValueError, OverflowError):
        table = np.zeros(0)
    if table.ndim != 2 or table.shape[1] != width or not len(table):
        raise ValueError(f"{fields.where(name)} must be rows of {width} numbers")
    bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if bad.size:
        raise ValueError(f"{fields.where(name)}[{bad[0]}] must be finite")
    if np.abs(table).max() > FARTHEST:
        raise ValueError(f"{fields.where(name)} must be below {FARTHEST:g}")
    return table


def _box(root: Fields) -> Float[np.ndarray, "2 3"] | None:
    if "scene_boundaries" not in root:
        return None
    bounds = _object(root, "scene_boundaries").values
    corners = {"scene_boundaries": [bounds.get("min"), bounds.get("max")]}
    box = _table(Fields(root.file, corners, root.prefix), "scene_boundaries", 3)
    if not np.all(box[0] < box[1]):
        raise ValueError(f"{root.where('scene_boundaries')} must have min below max")
    return box


def _lists(root: Fields) -> dict[str, tuple[str, ...]]:
    if "split_ids" not in root:
        return {}
    splits = _object(root, "split_ids")
    lists = {}
    for split in ("train", "test", "val"):
        values = splits.values.get(split)
        if values is None:
            continue
        if not isinstance(values, list) or not all(isinstance(value, int) for value in values):
            raise ValueError(f"{splits.where(split)} must be a list of view numbers")
        lists[split] = tuple(f"rgba_{value:05d}.png" for value in values)
    return lists
