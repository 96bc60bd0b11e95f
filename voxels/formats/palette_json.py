"""palette.json: materials by name, each one colour or a colour for its top, bottom and side.

    {"Brick": "#a04030", "Moss": {"top": "#3c7a3a", "side": [0.35, 0.4, 0.25]}}

A colour is "#rrggbb" or three numbers from 0 to 1. `side` is needed where there is no single
colour; top and bottom are as the side where they are left out.
"""

import os
import pathlib
import re
from typing import Any

from scenes.formats.json_files import read_json_value

from ..palette import Palette, make_palette

_HEX = re.compile(r"#[0-9a-fA-F]{6}")
_SLOTS = ("top", "bottom", "side")

Color = tuple[float, float, float]


def load_palette(path: str | os.PathLike[str]) -> Palette:
    """Reads a palette; the order of its materials is that of the file.

    Raises:
      FileNotFoundError: no such file.
      ValueError: naming the file and the material.
    """
    source = pathlib.Path(path)
    document = read_json_value(source)
    if not isinstance(document, dict):
        raise ValueError(f"{source}: a palette is a JSON object of names and colours")
    try:
        return make_palette({name: _faces(name, value) for name, value in document.items()})
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def _faces(name: str, value: Any) -> tuple[Color, Color, Color]:
    if not isinstance(value, dict):
        color = _color(name, value)
        return color, color, color
    unknown = sorted(set(value) - set(_SLOTS))
    if unknown or "side" not in value:
        what = f'has an unknown "{unknown[0]}"' if unknown else 'lacks "side"'
        raise ValueError(f'"{name}" {what}; a material has top, bottom and side')
    top, bottom, side = (_color(name, value.get(slot, value["side"])) for slot in _SLOTS)
    return top, bottom, side


def _color(name: str, value: Any) -> Color:
    if isinstance(value, str) and _HEX.fullmatch(value):
        red, green, blue = (int(value[i : i + 2], 16) / 255 for i in (1, 3, 5))
        return red, green, blue
    is_triple = isinstance(value, list) and len(value) == 3
    numbers = (
        [x for x in value if isinstance(x, int | float) and not isinstance(x, bool)]
        if is_triple
        else []
    )
    if len(numbers) != 3 or not all(0 <= x <= 1 for x in numbers):
        raise ValueError(
            f'"{name}" needs "#rrggbb" or three numbers from 0 to 1, got {value!r:.60}'
        )
    red, green, blue = (float(x) for x in numbers)
    return red, green, blue
