"""Pictures for people: PNG files, depth and errors in colour, views beside the truth."""

import io
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from scenes.formats.atomic import write_file

Picture = UInt8[np.ndarray, "rows cols 3"]
_GAP = 4


def write_png(path: Path, picture: UInt8[np.ndarray, "rows cols 3"]) -> None:
    """Writes a picture in one step."""
    write_file(path, lambda partial: Image.fromarray(picture).save(partial, format="PNG"))


def png_bytes(picture: UInt8[np.ndarray, "rows cols 3"]) -> bytes:
    """Encodes a picture."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def to_uint8(color: Float[np.ndarray, "rows cols 3"]) -> UInt8[np.ndarray, "rows cols 3"]:
    """Rounds colours in [0, 1] to 8 bits; values outside are clipped, NaN is black."""
    return np.round(np.clip(np.nan_to_num(color), 0.0, 1.0) * 255.0).astype(np.uint8)


def colorize(
    values: Float[np.ndarray, "rows cols"],
    *,
    low: float | None = None,
    high: float | None = None,
    color_map: str = "viridis",
    hidden: Float[np.ndarray, "rows cols"] | None = None,
) -> UInt8[np.ndarray, "rows cols 3"]:
    """Shows numbers as colours, from low to high.

    Args:
      low, high: values at the ends; by default the 1st and 99th percentile.
      hidden: share of each pixel, in [0, 1], that is painted white instead.
    Bad input: values that are not finite are painted grey.
    """
    import matplotlib

    known = np.isfinite(values)
    shown = values[known if hidden is None else known & (hidden < 0.5)]
    if shown.size == 0:
        shown = np.zeros(1)
    low = float(np.percentile(shown, 1)) if low is None else low
    high = float(np.percentile(shown, 99)) if high is None else high
    scaled = (np.where(known, values, low) - low) / max(high - low, 1e-12)
    table = matplotlib.colormaps[color_map]
    color = table(np.clip(scaled, 0.0, 1.0))[..., :3]
    color = np.where(known[..., None], color, 0.5)
    if hidden is not None:
        color = color * (1.0 - hidden[..., None]) + hidden[..., None]
    return to_uint8(color)


def depth_picture(
    depth: Float[np.ndarray, "rows cols"],
    opacity: Float[np.ndarray, "rows cols"],
    *,
    low: float | None = None,
    high: float | None = None,
) -> UInt8[np.ndarray, "rows cols 3"]:
    """Near is bright, far is dark, nothing is white.

    Args:
      low, high: the nearest and farthest depth told apart; None: of this picture.
    """
    hidden = np.clip(1.0 - opacity, 0.0, 1.0)
    return colorize(depth, low=low, high=high, color_map="viridis_r", hidden=hidden)


def error_picture(
    color: Float[np.ndarray, "rows cols 3"],
    target: Float[np.ndarray, "rows cols 3"],
    *,
    high: float = 0.25,
) -> UInt8[np.ndarray, "rows cols 3"]:
    """Root mean squared error of each pixel; black is none, the brightest is `high` and above."""
    error = np.sqrt(np.mean(np.square(color - target), axis=-1))
    return colorize(error, low=0.0, high=high, color_map="inferno")


def times_average(relative: Float[np.ndarray, "rows cols"]) -> UInt8[np.ndarray, "rows cols 3"]:
    """Shows multiples of an average: grey is 1, red up to 8, blue down to an eighth."""
    relative = np.log2(np.maximum(relative, 1e-6))
    return colorize(relative, low=-3.0, high=3.0, color_map="coolwarm")


def side_by_side(parts: list[UInt8[np.ndarray, "rows _ 3"]]) -> UInt8[np.ndarray, "rows _ 3"]:
    """Joins pictures of equal height with white between them."""
    space = np.full((parts[0].shape[0], _GAP, 3), 255, np.uint8)
    joined = [parts[0]]
    for part in parts[1:]:
        joined += [space, part]
    return np.concatenate(joined, axis=1)
