"""Reads `transforms.json` as nerfstudio, instant-ngp and their exporters write it.

Poses have OpenGL axes. Intrinsics may stand at the top or in each frame. Frames whose image does
not exist are left out and counted in the scene's notes. Depth is planar unless
`is_euclidean_depth` is true; its unit is `depth_unit_scale_factor` (nerfstudio) or
`integer_depth_scale` (instant-ngp).
"""

from pathlib import Path

from .capture import Capture, View
from .intrinsics import from_fields
from .json_files import Fields, can_be_name, read_json
from .pictures import EXTENSIONS, image_size
from .splits import read_lists

_DEPTH_FIELDS = ("depth_file_path", "depth_path")


def is_transforms(folder: Path) -> bool:
    """Whether a folder holds one `transforms.json`."""
    return (folder / "transforms.json").is_file()


def read_transforms(file: Path) -> Capture:
    """Reads a capture from a file in the format of `transforms.json`, whatever its name.

    Raises:
      FileNotFoundError, ValueError: naming file and field.
    """
    folder, root = file.parent, read_json(file)
    frames = root.objects("frames")
    views, missing = [], []
    sizes: dict[str, tuple[int, int]] = {}
    for frame in frames:
        name = frame.text("file_path")
        path = find_image(folder, name)
        if path is None:
            missing.append(name)
            continue
        if path.suffix not in sizes:  # the header of one image of a kind stands for all
            sizes[path.suffix] = image_size(path)
        views.append(view_of(folder, root, frame, path, sizes[path.suffix]))
    lists = {
        split: tuple(_texts(root, f"{split}_filenames"))
        for split in ("train", "test", "val")
        if f"{split}_filenames" in root
    }
    return Capture(
        name=folder.name,
        source=file,
        views=tuple(views),
        missing=tuple(missing),
        num_listed=len(frames),
        depth_scale=depth_unit(root),
        is_distance=root.flag("is_euclidean_depth"),
        lists=lists or read_lists(folder),
    )


def find_image(folder: Path, name: str) -> Path | None:
    """Finds an image by the path a file gives, which may lack its extension."""
    base = folder / name
    for candidate in (base, *(Path(f"{base}{suffix}") for suffix in EXTENSIONS)):
        if candidate.is_file():
            return candidate
    return None


def view_of(
    folder: Path, root: Fields, frame: Fields, path: Path, image_size: tuple[int, int]
) -> View:
    """Reads a frame: its pose, its intrinsics, and the files of its depth and its mask.

    Args:
      folder: what the frame's paths start from.
      path: of its image.
      image_size: (cols, rows) of its image.
    Raises:
      ValueError: naming file and field.
    """
    depth = next((frame.text(field) for field in _DEPTH_FIELDS if field in frame), None)
    mask = frame.text("mask_path") if "mask_path" in frame else None
    return View(
        name=frame.text("file_path"),
        path=path,
        field=f"{frame.prefix}transform_matrix",
        camera_to_world=frame.matrix("transform_matrix"),
        intrinsics=from_fields(frame, root, image_size),
        depth_path=None if depth is None else folder / depth,
        mask_path=None if mask is None else folder / mask,
    )


def depth_unit(root: Fields) -> float | None:
    """Length of one stored unit of depth, where the file gives it.

    Raises:
      ValueError: naming file and field.
    """
    for field in ("depth_unit_scale_factor", "integer_depth_scale"):
        if field in root:
            scale = root.positive(field)
            if not 1e-9 <= scale <= 1e9:
                raise ValueError(f"{root.where(field)} must be in [1e-9, 1e9], got {scale:g}")
            return scale
    return None


def _texts(root: Fields, name: str) -> list[str]:
    values = root.values[name]
    if not isinstance(values, list) or not all(
        isinstance(value, str) and can_be_name(value) for value in values
    ):
        raise ValueError(f"{root.where(name)} must be a list of image names")
    return values
