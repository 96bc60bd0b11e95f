"""Chooses the reader for a folder by what is in it."""

import os
from pathlib import Path

from ..posed_images import SplitImages
from .blender import is_blender, load_blender


def load(
    path: str | os.PathLike[str], *, downscale: float = 1.0, with_depth: bool = False
) -> SplitImages:
    """Loads a folder of posed images, whichever known format it is in.

    Args:
      downscale: divides the images' sides; at least 1.
      with_depth: read depth that is only meant for evaluation too.
    Raises:
      FileNotFoundError: if the folder, or a file it refers to, does not exist.
      ValueError: if no format is recognised, or naming the file and field that is wrong.
    """
    folder = Path(path)
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such folder")
    if not folder.is_dir():
        raise ValueError(f"{folder}: must be a folder of posed images, got a file")
    if is_blender(folder):
        return load_blender(folder, downscale=downscale, with_depth=with_depth)
    raise ValueError(
        f"{folder}: no known format; looked for transforms_train.json (Blender synthetic)"
    )
