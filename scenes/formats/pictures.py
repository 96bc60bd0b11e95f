"""Reads photographs, masks and depth maps from files into NumPy arrays.

Colour comes out as uint8 RGB or RGBA with straight alpha, at the size asked for. Pixels are taken
as stored: an EXIF orientation is not applied, because camera poses speak of the stored pixels.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image, UnidentifiedImageError

from ..cores import cores
from .array_files import read_npy

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
_MOST_THREADS = 8
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
_Item = TypeVar("_Item")
_T = TypeVar("_T")


def read_images(
    paths: Sequence[Path], *, downscale: int | float = 1.0, source: str
) -> UInt8[np.ndarray, "views rows cols channels"]:
    """Decodes images of equal size in parallel; RGBA if any of them is transparent anywhere.

    Args:
      downscale: divides both sides, rounded to whole pixels; averages in premultiplied space.
      source: the file that lists them, named in errors.
    Raises:
      ValueError: naming the file, for an unreadable or truncated image, one deeper than 8 bits,
        or one of another size than the first.
    """
    check_downscale(downscale)
    if not paths:
        raise ValueError(f"{source}: no images to read")
    images = in_threads(lambda path: _shrink(read_image(path), downscale), paths)
    for path, image in zip(paths, images, strict=True):
        if image.shape[:2] != images[0].shape[:2]:
            raise ValueError(
                f"{path}: all images of {source} must have one size; "
                f"{paths[0].name} is {_size(images[0])}, this one {_size(image)}"
                + ("" if downscale == 1 else f" (after dividing by {downscale:g})")
            )
    is_opaque = all(image.shape[2] == 3 or image[..., 3].min() == 255 for image in images)
    channels = 3 if is_opaque else 4
    stack = np.empty((len(images), *images[0].shape[:2], channels), np.uint8)
    for place in stack:
        image = images.pop(0)  # frees each when copied, so memory is needed once
        used = min(channels, image.shape[2])
        place[..., :used] = image[..., :used]
        place[..., used:] = 255
    return stack


def read_image(path: Path) -> UInt8[np.ndarray, "rows cols channels"]:
    """Decodes one image to RGB or RGBA.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: naming the file, if it is not an image, is cut short, or has more than 8 bits.
    """

    def convert(image: Image.Image) -> np.ndarray:
        if image.mode in _DEEP_MODES:
            raise ValueError(f"{path}: colour images must have 8 bits a channel, got {image.mode}")
        has_alpha = image.mode in ("RGBA", "LA", "PA", "La", "RGBa")
        has_alpha = has_alpha or "transparency" in image.info
        return np.asarray(image.convert("RGBA" if has_alpha else "RGB"))

    return _decode(path, convert)


def image_size(path: Path) -> tuple[int, int]:
    """Reads (cols, rows) from an image's header.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: naming the file, if it is not an image.
    """
    try:
        with Image.open(path) as image:
            return image.size
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: image not found") from None
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise ValueError(f"{path}: not a readable image ({error})") from None


def read_plane(path: Path) -> Shaped[np.ndarray, "rows cols"]:
    """Decodes a one-channel map (mask, depth) at its own depth: integers or float32.

    Of an image with several channels the first is taken; of one with a palette of greys the greys,
    of one with other colours the numbers of the colours, as label maps want. `.npy` files are read
    as they are.
    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: naming the file, if it cannot be read or is not two-dimensional.
    """
    plane = read_npy(path) if path.suffix == ".npy" else _decode(path, _values)
    if plane.ndim == 3 and plane.shape[2]:
        plane = plane[..., 0]
    if plane.ndim != 2 or not plane.size:
        raise ValueError(f"{path}: must be a two-dimensional map, got shape {plane.shape}")
    if plane.dtype.kind not in "biuf":
        raise ValueError(f"{path}: must be a map of numbers, got {plane.dtype}")
    return plane


def _values(image: Image.Image) -> np.ndarray:
    colors = image.getpalette("RGB") if image.mode == "P" else None
    if colors is not None and colors[0::3] == colors[1::3] == colors[2::3]:
        image = image.convert("L")
    return np.asarray(image)


def resize_nearest(
    plane: Shaped[np.ndarray, "rows cols"], rows: int, cols: int
) -> Shaped[np.ndarray, "new_rows new_cols"]:
    """Resizes by taking the value under each new pixel's centre; nothing is averaged."""
    row = ((np.arange(rows) + 0.5) * plane.shape[0] / rows).astype(int)
    col = ((np.arange(cols) + 0.5) * plane.shape[1] / cols).astype(int)
    return plane[row[:, None], col]


def in_threads(function: Callable[[_Item], _T], items: Sequence[_Item]) -> list[_T]:
    """Applies a decoder to items in parallel, in order; the first error is raised as it is."""
    with ThreadPoolExecutor(min(_MOST_THREADS, len(cores()))) as pool:
        return list(pool.map(function, items))


def check_downscale(downscale: int | float) -> None:
    """Refuses to enlarge.

    Raises:
      ValueError: if downscale is not a finite number of at least 1.
    """
    if not (np.isfinite(downscale) and downscale >= 1):
        raise ValueError(f"downscale must be at least 1, got {downscale}")


def _decode(path: Path, convert: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    try:
        with Image.open(path) as image:
            image.verify()  # checksums, where the format has any; decoding passes over a PNG's
        with Image.open(path) as image:
            image.load()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: image not found") from None
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not a readable image") from None
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise ValueError(f"{path}: unreadable or truncated image ({error})") from None
    return convert(image)


def _shrink(
    image: UInt8[np.ndarray, "rows cols channels"], downscale: int | float
) -> UInt8[np.ndarray, "new_rows new_cols channels"]:
    if downscale == 1:
        return image
    rows, cols = (max(1, round(side / downscale)) for side in image.shape[:2])
    if image.shape[2] == 3:
        return np.asarray(Image.fromarray(image).resize((cols, rows), Image.Resampling.BOX))
    values = image.astype(np.float32)
    alpha = _box_filter(values[..., 3], rows, cols)
    color = [_box_filter(values[..., i] * values[..., 3], rows, cols) for i in range(3)]
    straight = [plane / np.maximum(alpha, 1e-6) for plane in color]
    return np.clip(np.round(np.stack([*straight, alpha], axis=-1)), 0, 255).astype(np.uint8)


def _box_filter(plane: Float[np.ndarray, "rows cols"], rows: int, cols: int) -> np.ndarray:
    return np.asarray(Image.fromarray(plane).resize((cols, rows), Image.Resampling.BOX))


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
