"""Chooses the reader for a folder by what is in it."""

import os
from pathlib import Path

from ..posed_images import SplitImages
from .blender import is_blender, load_blender
from .capture import AUTOMATIC_SIDE, Capture, finish
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
    holdout: int = DEFAULT_HOLDOUT,
) -> SplitImages:
    """Loads a folder of posed images, whichever known format it is in.

    A folder that is no scene itself but holds scenes loads the first of them, with a note.

    Args:
      downscale: divides the images' sides, at least 1; None keeps Blender scenes as they are and
        halves photographs until the longer side is at most `longest_side` pixels.
      longest_side: see downscale.
      with_depth: also read depth that is not a measurement of the training views: COLMAP's
        triangulated points (sparse), Blender's pictures of the test views. Measured depth is
        always read.
      holdout: every so many views is for testing where no split is listed.
    Raises:
      FileNotFoundError: if the folder, or a file it refers to, does not exist.
      ValueError: if no format is recognised, or naming the file and field that is wrong.
    """
    folder = Path(path).expanduser()
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such folder")
    if not folder.is_dir():
        raise ValueError(f"{folder}: must be a folder of posed images, got a file")
    if is_blender(folder):
        return load_blender(folder, downscale=downscale or 1, with_depth=with_depth)
    capture = _read(folder, downscale)
    if capture is None:
        inner = [child for child in sorted(folder.iterdir()) if child.is_dir() and _is_scene(child)]
        if not inner:
            raise ValueError(f"{folder}: no known format; looked for {_LOOKED_FOR}")
        scene = load(
            inner[0],
            downscale=downscale,
            longest_side=longest_side,
            with_depth=with_depth,
            holdout=holdout,
        )
        names = ", ".join(child.name for child in inner)
        note = f"{folder.name} holds {len(inner)} scenes ({names}): {inner[0].name} is loaded"
        return scene._replace(notes=(note, *scene.notes))
    return finish(
        capture,
        downscale=downscale,
        longest_side=longest_side,
        with_depth=with_depth,
        holdout=holdout,
    )


def _read(folder: Path, downscale: int | float | None) -> Capture | None:
    """The first format that recognises the folder; what has lens distortion comes first."""
    if is_transforms(folder):
        return read_transforms(folder)
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
