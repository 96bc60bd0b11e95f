"""Chooses the reader for a folder by what is in it."""

import os
from pathlib import Path

from ..posed_images import SplitImages
from .blender import SPLIT_FILES, is_blender, load_blender
from .capture import AUTOMATIC_SIDE, Capture, finish, with_depth_scale
from .colmap import is_colmap, read_colmap
from .klevr import is_klevr, read_klevr
from .llff import is_llff, read_llff
from .rgbd import is_rgbd, read_rgbd
from .splits import DEFAULT_HOLDOUT
from .transforms_json import is_transforms, read_transforms

_LOOKED_FOR = (
    "transforms_train.json (Blender), transforms.json (nerfstudio, instant-ngp), metadata.json "
    "with depth_*.tiff (KLEVR), sparse/0 (COLMAP, mip-NeRF 360), poses_bounds.npy (LLFF), "
    "intrinsics and *.pose.txt (RGB-D)"
)


def load(
    path: str | os.PathLike[str],
    *,
    downscale: int | float | None = None,
    longest_side: int = AUTOMATIC_SIDE,
    with_depth: bool = False,
    depth_scale: float | None = None,
    holdout: int = DEFAULT_HOLDOUT,
) -> SplitImages:
    """Loads a folder of posed images, whichever known format it is in.

    A folder that is no scene itself but holds scenes loads the first of them, with a note. A file
    transforms*.json may be named itself: `transforms_train.json` and its like are Blender's and
    stand for their folder, any other is read in the format of `transforms.json`.

    Args:
      downscale: divides the images' sides, at least 1; None keeps Blender scenes as they are and
        halves photographs until the longer side is at most `longest_side` pixels.
      longest_side: see downscale.
      with_depth: also read depth that is not a measurement of the training views: COLMAP's
        triangulated points (sparse), Blender's pictures of the test views. Measured depth is
        always read.
      depth_scale: length of one stored unit of the depth maps, in the unit of the poses; None
        takes what the files say, else a millimetre for integers and 1 for floats.
      holdout: every so many views is for testing where no split is listed.
    Raises:
      FileNotFoundError: if the folder, or a file it refers to, does not exist.
      ValueError: if no format is recognised, or naming the file and field that is wrong.
    """
    folder, file = _folder_and_file(Path(path).expanduser())
    if file is None and is_blender(folder):
        return load_blender(
            folder, downscale=downscale or 1, with_depth=with_depth, depth_scale=depth_scale
        )
    capture = _read(folder, downscale) if file is None else read_transforms(file)
    if capture is None:
        inner = [child for child in sorted(folder.iterdir()) if child.is_dir() and _is_scene(child)]
        if not inner:
            raise ValueError(f"{folder}: no known format; looked for {_LOOKED_FOR}")
        scene = load(
            inner[0],
            downscale=downscale,
            longest_side=longest_side,
            with_depth=with_depth,
            depth_scale=depth_scale,
            holdout=holdout,
        )
        names = ", ".join(child.name for child in inner)
        note = f"{folder.name} holds {len(inner)} scenes ({names}): {inner[0].name} is loaded"
        return scene._replace(notes=(note, *scene.notes))
    return finish(
        *with_depth_scale([capture], depth_scale),
        downscale=downscale,
        longest_side=longest_side,
        with_depth=with_depth,
        holdout=holdout,
    )


def _folder_and_file(path: Path) -> tuple[Path, Path | None]:
    """The folder to look at, and the one file of it to read where the user named that."""
    if not path.exists():
        kind = "file" if path.suffix == ".json" else "folder"
        raise FileNotFoundError(f"{path}: no such {kind}")
    if path.is_dir():
        return path, None
    if not (path.name.startswith("transforms") and path.suffix == ".json"):
        raise ValueError(
            f"{path}: must be a folder of posed images, or a file transforms*.json; "
            "got another file"
        )
    is_split = path.name in SPLIT_FILES and is_blender(path.parent)
    return path.parent, None if is_split else path


def _read(folder: Path, downscale: int | float | None) -> Capture | None:
    """The first format that recognises the folder; what has lens distortion comes first."""
    if is_transforms(folder):
        return read_transforms(folder / "transforms.json")
    if is_klevr(folder):
        return read_klevr(folder)
    if is_colmap(folder):
        return read_colmap(folder, downscale=downscale)
    if is_llff(folder):
        return read_llff(folder, downscale=downscale)
    if is_rgbd(folder):
        return read_rgbd(folder)
    return None


def _is_scene(folder: Path) -> bool:
    tests = (is_blender, is_transforms, is_klevr, is_colmap, is_llff, is_rgbd)
    return any(test(folder) for test in tests)
