"""Reads depth maps and masks, and turns planar depth into distance along the ray.

Unknown depth is NaN: zero, negative, not finite, above a million units, or the largest number of
an integer type. Nothing is ever averaged; resizing takes the nearest pixel.
"""

from pathlib import Path

import jax
import numpy as np
from jaxtyping import Bool, Float, Shaped

from ..cameras import Cameras, pixel_directions
from ..rays import pixel_grid
from .pictures import read_plane, resize_nearest

MILLIMETRES = 0.001
_LARGEST = 1e6
_CHUNK = 65536  # pixels at a time, so that one compiled program serves every image size
_directions = jax.jit(pixel_directions)


def read_depth(
    path: Path, rows: int, cols: int, *, scale: float | None = None
) -> Float[np.ndarray, "rows cols"]:
    """Reads a depth map at the size of its image; NaN where unknown.

    Args:
      scale: length of one stored unit; None is a millimetre for integers and 1 for floats.
    Raises:
      FileNotFoundError, ValueError: naming the file.
    """
    if path.suffix.lower() == ".exr":
        raise ValueError(f"{path}: EXR depth is not supported; convert it to .npy or .tiff")
    return depth_of(resize_nearest(read_plane(path), rows, cols), scale)


def depth_of(
    stored: Shaped[np.ndarray, "rows cols"], scale: float | None = None
) -> Float[np.ndarray, "rows cols"]:
    """Turns stored values into depth; see `read_depth`."""
    is_known = np.isfinite(stored) & (stored > 0)
    if np.issubdtype(stored.dtype, np.integer):
        is_known &= stored != np.iinfo(stored.dtype).max
        scale = MILLIMETRES if scale is None else scale
    depth = np.where(is_known, stored, np.nan).astype(np.float32) * np.float32(scale or 1.0)
    return np.where(depth < _LARGEST, depth, np.float32(np.nan))


def holds_integers(path: Path) -> bool:
    """Whether a depth map stores integers, whose unit has to be known.

    Raises:
      FileNotFoundError, ValueError: naming the file.
    """
    return bool(np.issubdtype(read_plane(path).dtype, np.integer))


def read_mask(path: Path, rows: int, cols: int) -> Bool[np.ndarray, "rows cols"]:
    """Reads a mask at the size of its image; True where it is bright.

    Bright is above zero if the largest value is 1, else above 127.
    Raises:
      FileNotFoundError, ValueError: naming the file.
    """
    plane = resize_nearest(read_plane(path), rows, cols)
    return plane > (0 if plane.max(initial=0) <= 1 else 127)


def ray_lengths(cameras: Cameras, rows: int, cols: int) -> Float[np.ndarray, "views rows cols"]:
    """Distance along the ray of a point of planar depth 1, for every pixel's centre."""
    intrinsics = np.concatenate(jax.tree.leaves(cameras._replace(camera_to_world=None)), axis=1)
    _, first, which = np.unique(intrinsics, axis=0, return_index=True, return_inverse=True)
    lengths = [_lengths_of_view(cameras, int(view), pixel_grid(rows, cols)) for view in first]
    return np.stack(lengths)[which.reshape(-1)]


def distance_from_planar(
    planar: Float[np.ndarray, "views rows cols"], cameras: Cameras
) -> Float[np.ndarray, "views rows cols"]:
    """Turns planar depth into distance along the ray through each pixel's centre."""
    return planar * ray_lengths(cameras, *planar.shape[1:])


def _lengths_of_view(cameras: Cameras, view: int, grid: np.ndarray) -> np.ndarray:
    if cameras.distortion is None or not np.any(cameras.distortion[view]):  # no compilation
        slopes = (grid - cameras.principal[view]) / cameras.focal[view]
        return np.sqrt(1.0 + np.sum(np.square(np.asarray(slopes)), axis=-1))
    one = jax.tree.map(lambda field: np.asarray(field)[view : view + 1], cameras)
    flat = grid.reshape(-1, 2)
    padded = np.resize(flat, (-(-len(flat) // _CHUNK) * _CHUNK, 2)).reshape(-1, _CHUNK, 2)
    first = np.zeros(_CHUNK, np.int32)
    directions = np.concatenate([_directions(one, first, part) for part in padded])[: len(flat)]
    return np.linalg.norm(directions, axis=-1).reshape(grid.shape[:2])
