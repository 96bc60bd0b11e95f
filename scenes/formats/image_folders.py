"""Finds the photographs of LLFF and COLMAP captures: `images` and smaller copies `images_4`.

`images_N` holds the photographs divided by N (mip-NeRF 360's layout). For a downscale of D the
smallest copy with N <= D is read and the rest is done by resizing. Where all copies are smaller
than asked for, the largest stands in and a note says so.
"""

import re
from pathlib import Path
from typing import NamedTuple

from .pictures import EXTENSIONS

_NAMES = ("images", "rgb", "color", "input")


class ImageFolder(NamedTuple):
    """A folder of photographs, sorted by name, `factor` times smaller than the originals."""

    folder: Path
    factor: float
    paths: tuple[Path, ...]
    notes: tuple[str, ...]


def choose_folder(scene: Path, downscale: int | float | None) -> ImageFolder:
    """Chooses which copy of the photographs to read.

    Args:
      downscale: how much smaller than the originals they are wanted; None and 1 want the largest.
    Raises:
      FileNotFoundError: if there is no folder of images.
    """
    found: dict[float, Path] = {}
    for folder in sorted(path for path in scene.iterdir() if path.is_dir()):
        match = re.fullmatch(r"images_(\d+)", folder.name)
        if match and int(match.group(1)) > 0 and image_files(folder):
            found[float(match.group(1))] = folder
        elif folder.name in _NAMES and image_files(folder):
            found.setdefault(1.0, folder)
    if not found:
        raise FileNotFoundError(f"{scene}: no folder images or images_N with photographs in it")
    smallest = min(found)
    factor = max((value for value in found if value <= (downscale or 1)), default=smallest)
    notes = ()
    if smallest > 1:
        notes = (f"the full-size photographs are absent: {found[factor].name} is read",)
    return ImageFolder(found[factor], factor, image_files(found[factor]), notes)


def image_files(folder: Path) -> tuple[Path, ...]:
    """Images in a folder and its subfolders, sorted by name."""
    return tuple(sorted(p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS))
