"""map.json: a list of named blocks with integer positions.

Keys read: `blocks` [{position: [x, y, z], blockType: name}], `worldConfig.dimensions.{x, y, z}`,
and the side of a cell, which editors write as `worldScale` and trainers as
`worldConfig.worldScale`. Any other key is ignored. What is repaired is counted in `Repairs`;
what cannot be repaired raises ValueError naming the file and the field.
"""

import collections
import json
import math
import os
import pathlib
import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from scenes.formats.atomic import write_file
from scenes.formats.json_files import read_json_value

from ..block_map import BlockMap, make_map
from ..palette import AIR

DEFAULT_SCALE = 2.0
_MAX_CELLS = 1 << 30
_SCALES = (1e-9, 1e9)


class Repairs(NamedTuple):
    """What a reader had to mend; all zero and empty for a clean file.

    Attributes:
      unknown: block names without a material, and how many blocks each; they became air.
      outside: blocks outside the dimensions; dropped.
      repeated: blocks at a position already taken; the last one stays.
      explicit_air: blocks named Air; they clear their cell.
      is_size_inferred: there were no dimensions; the largest position plus one was taken.
      is_scale_assumed: there was no scale; `DEFAULT_SCALE` was taken.
    """

    unknown: dict[str, int]
    outside: int = 0
    repeated: int = 0
    explicit_air: int = 0
    is_size_inferred: bool = False
    is_scale_assumed: bool = False

    def __bool__(self) -> bool:
        """Whether anything was mended (an explicit air block is no defect)."""
        inferred = self.is_size_inferred or self.is_scale_assumed
        return bool(self.unknown or self.outside or self.repeated or inferred)

    def describe(self) -> str:
        """One sentence for a person; empty when nothing was mended."""
        parts = []
        if self.unknown:
            names = ", ".join(f"{name} ({n})" for name, n in sorted(self.unknown.items()))
            parts.append(f"{sum(self.unknown.values())} blocks of unknown type became air: {names}")
        if self.outside:
            parts.append(f"{self.outside} blocks outside the dimensions were dropped")
        if self.repeated:
            parts.append(f"{self.repeated} blocks shared a position; the last one counts")
        if self.is_size_inferred:
            parts.append("no dimensions; taken from the largest position")
        if self.is_scale_assumed:
            parts.append(f"no worldScale; {DEFAULT_SCALE} assumed")
        return "; ".join(parts)


def load_map(
    path: str | os.PathLike[str],
    names: tuple[str, ...],
    *,
    aliases: Mapping[str, str] | None = None,
    is_strict: bool = False,
) -> tuple[BlockMap, Repairs]:
    """Reads a map.json.

    Args:
      names: the solid materials of the palette in use.
      aliases: other names of blocks, each to a name in `names` or to "Air".
      is_strict: raise where a repair would be needed.
    Raises:
      FileNotFoundError: no such file.
      ValueError: not JSON, a field of the wrong type, or a repair when strict.
    """
    source = pathlib.Path(path)
    document = read_json_value(source)
    try:
        block_map, repairs = parse_map(document, names, aliases=aliases)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    if is_strict and repairs:
        raise ValueError(f"{source}: {repairs.describe()}")
    return block_map, repairs


def parse_map(
    document: Any, names: tuple[str, ...], *, aliases: Mapping[str, str] | None = None
) -> tuple[BlockMap, Repairs]:
    """Turns the JSON document of a map into arrays; see `load_map`."""
    if not isinstance(document, dict):
        raise ValueError(f"a map is a JSON object, got {type(document).__name__}")
    blocks = document.get("blocks")
    if not isinstance(blocks, list):
        raise ValueError('"blocks" must be a list of {position, blockType}')
    config = document.get("worldConfig")
    config = config if isinstance(config, dict) else {}
    numbers = {AIR: 0, **{name: 1 + i for i, name in enumerate(names)}}
    for alias, name in (aliases or {}).items():
        if name not in numbers:
            raise ValueError(f'alias "{alias}" points to "{name}", which is no material')
        numbers.setdefault(alias, numbers[name])

    positions = np.array([_position(block, i) for i, block in enumerate(blocks)], np.int64)
    positions = positions.reshape(-1, 3)
    kinds = [block["blockType"] for block in blocks]
    shape, is_size_inferred = _dimensions(config, positions)
    scale, is_scale_assumed = _scale(document, config)

    inside = ((positions >= 0) & (positions < np.array(shape))).all(axis=1)
    unknown = collections.Counter(kind for kind in kinds if kind not in numbers)
    values = np.array([numbers.get(kind, 0) for kind in kinds], np.int16)
    materials = np.zeros(shape, np.int16)
    x, y, z = positions[inside].T
    flat = (x * shape[1] + y) * shape[2] + z
    # the last block at a position counts, whatever order a fancy assignment would take
    cells, first_from_end = np.unique(flat[::-1], return_index=True)
    materials.reshape(-1)[cells] = values[inside][::-1][first_from_end]
    repairs = Repairs(
        unknown=dict(unknown),
        outside=int((~inside).sum()),
        repeated=len(flat) - len(cells),
        explicit_air=sum(kind == AIR for kind in kinds),
        is_size_inferred=is_size_inferred,
        is_scale_assumed=is_scale_assumed,
    )
    return make_map(materials, names, scale), repairs


def map_document(
    block_map: BlockMap, *, sequence: int = 1, metadata: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The JSON document of a map: both spellings of the scale, blocks in x, y, z order."""
    x, y, z = block_map.materials.shape
    positions = np.argwhere(block_map.materials > 0)
    blocks = [
        {"position": [int(i), int(j), int(k)], "blockType": block_map.names[m - 1]}
        for (i, j, k), m in zip(
            positions, block_map.materials[tuple(positions.T)].tolist(), strict=True
        )
    ]
    document: dict[str, Any] = {
        "sequence": sequence,
        "worldScale": block_map.scale,
        "worldConfig": {
            "dimensions": {"x": x, "y": y, "z": z},
            "worldScale": block_map.scale,
        },
        "blocks": blocks,
    }
    if metadata:
        document["metadata"] = dict(metadata)
    return document


def save_map(
    path: str | os.PathLike[str],
    block_map: BlockMap,
    *,
    sequence: int = 1,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Writes a map.json, in one step, that `load_map` reads back to the same map without a repair.

    Raises:
      OSError: when it cannot be written, naming it; what was there before stays.
    """
    document = map_document(block_map, sequence=sequence, metadata=metadata)
    text = json.dumps(document, separators=(",", ":"))
    write_file(pathlib.Path(path), lambda partial: partial.write_text(text, encoding="utf-8"))


def _position(block: Any, index: int) -> tuple[int, int, int]:
    where = f"blocks[{index}]"
    if not isinstance(block, dict) or not isinstance(block.get("blockType"), str):
        raise ValueError(f'{where} needs a "blockType" that is a string')
    position = block.get("position")
    if not isinstance(position, list) or len(position) != 3:
        raise ValueError(f"{where}.position must be three integers, got {reprlib.repr(position)}")
    for value in position:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not abs(value) <= 2**40 or value != int(value):
            raise ValueError(
                f"{where}.position must be three integers, got {reprlib.repr(position)}"
            )
    return int(position[0]), int(position[1]), int(position[2])


def _dimensions(config: dict, positions: np.ndarray) -> tuple[tuple[int, int, int], bool]:
    given = config.get("dimensions")
    if given is None:
        if not len(positions) or positions.max() < 0:
            raise ValueError('no "worldConfig.dimensions" and no blocks to infer them from')
        size, is_inferred = np.maximum(positions.max(axis=0) + 1, 1).tolist(), True
    else:
        field = "worldConfig.dimensions"
        if not isinstance(given, dict) or not all(type(given.get(a)) is int for a in "xyz"):
            raise ValueError(f'"{field}" must be {{x, y, z}} integers, got {reprlib.repr(given)}')
        size, is_inferred = [given[axis] for axis in "xyz"], False
    if min(size) < 1 or math.prod(size) > _MAX_CELLS:
        raise ValueError(
            f"dimensions must be positive with at most 2^30 cells, got {reprlib.repr(size)}"
        )
    return (size[0], size[1], size[2]), is_inferred


def _scale(document: dict, config: dict) -> tuple[float, bool]:
    given = {
        field: value
        for field, value in (
            ("worldConfig.worldScale", config.get("worldScale")),
            ("worldScale", document.get("worldScale")),
        )
        if value is not None
    }
    for field, value in given.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not _SCALES[0] <= value <= _SCALES[1]:
            raise ValueError(
                f'"{field}" must be a positive number of metres, got {reprlib.repr(value)}'
            )
    if len({float(value) for value in given.values()}) > 1:
        raise ValueError(f"two scales that differ: {given}")
    return (float(next(iter(given.values()))), False) if given else (DEFAULT_SCALE, True)
