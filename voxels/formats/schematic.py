"""Minecraft schematics: Sponge .schem (versions 1 to 3) and the legacy .schematic.

Both are gzipped NBT with cells in the order (y * length + z) * width + x, +X east, +Y up,
+Z south: our own axes. Sponge holds a palette of block states and variable-length numbers;
legacy files hold a byte per block (plus a nibble of `AddBlocks`). Written files are Sponge
version 2 and legacy "Alpha"; writing needs the package nbtlib.
"""

import collections
import os
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from ..block_map import BlockMap, make_map
from ..palette import AIR
from .blocks import (
    LEGACY_ID_OF_MATERIAL,
    MATERIAL_OF_LEGACY_ID,
    MINECRAFT_OF_MATERIAL,
    material_of,
)
from .map_json import Repairs
from .nbt import read_nbt

_DATA_VERSION = 2586  # Minecraft 1.16.5


def load_schematic(
    path: str | os.PathLike[str], names: tuple[str, ...], *, scale: float = 1.0
) -> tuple[BlockMap, Repairs]:
    """Reads a .schem or .schematic; blocks in no table become air and are counted by name.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not a schematic, or its arrays do not fit its dimensions.
    """
    source = pathlib.Path(path)
    if not source.exists():
        raise FileNotFoundError(f"no schematic at {source}")
    root = read_nbt(source)
    try:
        return _map(root, names, scale)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def save_schematic(path: str | os.PathLike[str], block_map: BlockMap) -> None:
    """Writes Sponge version 2 for a name that ends in .schem, legacy for .schematic.

    Raises:
      ValueError: another ending, an axis above 65535, or a material without a Minecraft block.
      ModuleNotFoundError: nbtlib is not installed.
    """
    nbtlib = _nbtlib()
    target = pathlib.Path(path)
    x, y, z = block_map.materials.shape
    if max(x, y, z) > 0xFFFF:
        raise ValueError(f"a schematic holds at most 65535 cells an axis, got {(x, y, z)}")
    lacking = [name for name in block_map.names if name not in MINECRAFT_OF_MATERIAL]
    if lacking:
        raise ValueError(f"no Minecraft block is known for {lacking}")
    numbers = block_map.materials.transpose(1, 2, 0).reshape(-1)
    size = [nbtlib.Short(_signed16(n)) for n in (x, y, z)]
    fields: dict[str, Any] = dict(zip(("Width", "Height", "Length"), size, strict=True))
    ending = target.suffix.lower()
    if ending == ".schem":
        states = [f"minecraft:{MINECRAFT_OF_MATERIAL[name]}" for name in block_map.names]
        palette = {state: nbtlib.Int(i) for i, state in enumerate(["minecraft:air", *states])}
        fields |= {
            "Version": nbtlib.Int(2),
            "DataVersion": nbtlib.Int(_DATA_VERSION),
            "PaletteMax": nbtlib.Int(len(palette)),
            "Palette": nbtlib.Compound(palette),
            "BlockData": nbtlib.ByteArray(_to_varints(numbers)),
            "BlockEntities": nbtlib.List[nbtlib.Compound]([]),
        }
    elif ending == ".schematic":
        ids = np.array([0, *(LEGACY_ID_OF_MATERIAL[name] for name in block_map.names)], np.uint8)
        fields |= {
            "Materials": nbtlib.String("Alpha"),
            "Blocks": nbtlib.ByteArray(ids[numbers].view(np.int8)),
            "Data": nbtlib.ByteArray(np.zeros(numbers.size, np.int8)),
            "Entities": nbtlib.List[nbtlib.Compound]([]),
            "TileEntities": nbtlib.List[nbtlib.Compound]([]),
        }
    else:
        raise ValueError(f'a schematic ends in ".schem" or ".schematic", got "{target.name}"')
    nbtlib.File(fields, gzipped=True, root_name="Schematic").save(target)


def _map(root: dict[str, Any], names: tuple[str, ...], scale: float) -> tuple[BlockMap, Repairs]:
    inner = root.get("Schematic")
    root = inner if isinstance(inner, dict) else root
    size = [root.get(field) for field in ("Width", "Height", "Length")]
    if not all(isinstance(side, int) for side in size):
        raise ValueError(f"not a schematic, its Width, Height and Length are {size}")
    width, height, length = (side & 0xFFFF for side in size if isinstance(side, int))
    if "Materials" in root and "BlockData" not in root:
        numbers, states = _legacy(root)
    else:
        numbers, states = _sponge(root)
    if numbers.size != width * height * length:
        raise ValueError(f"{numbers.size} blocks for {width} x {height} x {length} cells")
    blocks, unknown = _materials(numbers, states, names)
    cells = blocks.reshape(height, length, width).transpose(2, 0, 1)
    return make_map(cells, names, scale), Repairs(unknown=unknown)


def _sponge(root: dict[str, Any]) -> tuple[Int[np.ndarray, " cells"], dict[int, str | None]]:
    inner = root.get("Blocks")  # version 3 keeps them in a compound of their own
    holder = inner if isinstance(inner, dict) else root
    palette = holder.get("Palette")
    if not isinstance(palette, dict) or not all(isinstance(n, int) for n in palette.values()):
        raise ValueError("no Palette of block states and their numbers")
    data = _bytes(holder, "BlockData" if "BlockData" in holder else "Data")
    return _from_varints(data), {number: state for state, number in palette.items()}


def _legacy(root: dict[str, Any]) -> tuple[Int[np.ndarray, " cells"], dict[int, str | None]]:
    numbers = _bytes(root, "Blocks").astype(np.int64)
    if "AddBlocks" in root:
        nibbles = _bytes(root, "AddBlocks")
        high = np.stack([nibbles & 15, nibbles >> 4], axis=-1).reshape(-1)[: numbers.size]
        numbers[: high.size] |= high.astype(np.int64) << 8
    return numbers, dict.fromkeys(np.unique(numbers).tolist())


def _bytes(holder: dict[str, Any], field: str) -> UInt8[np.ndarray, " bytes"]:
    array = holder.get(field)
    if not isinstance(array, np.ndarray) or array.dtype != np.int8:
        raise ValueError(f"{field} must be an array of bytes, got {type(array).__name__}")
    return array.view(np.uint8)


def _materials(
    numbers: np.ndarray, states: dict[int, str | None], names: tuple[str, ...]
) -> tuple[Int[np.ndarray, " cells"], dict[str, int]]:
    """Material numbers, and blocks that have none by name."""
    index = {AIR: 0, **{name: 1 + i for i, name in enumerate(names)}}
    kinds, inverse, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    unknown: collections.Counter[str] = collections.Counter()
    values = np.zeros(len(kinds), np.int64)
    for i, kind in enumerate(kinds.tolist()):
        if kind not in states:
            raise ValueError(f"block number {kind} is not in the palette")
        state = states[kind]
        material = MATERIAL_OF_LEGACY_ID.get(kind) if state is None else material_of(state)
        if material in index:
            values[i] = index[material]
        else:
            label = f"id {kind}" if state is None else state.partition("[")[0]
            unknown[label] += int(counts[i])
    return values[inverse.reshape(-1)], dict(unknown)


def _from_varints(data: UInt8[np.ndarray, " bytes"]) -> Int[np.ndarray, " cells"]:
    """Unsigned LEB128: seven bits a byte, low first, the top bit says that more follow."""
    is_last = data < 128
    if data.size and not is_last[-1]:
        raise ValueError("BlockData ends in the middle of a number")
    number = np.cumsum(is_last) - is_last
    first = (
        np.flatnonzero(np.concatenate([[True], is_last[:-1]])) if data.size else np.zeros(0, int)
    )
    place = np.arange(data.size) - first[number]
    if place.size and place.max() > 4:
        raise ValueError("BlockData holds a number of more than five bytes")
    values = np.zeros(int(is_last.sum()), np.int64)
    np.add.at(values, number, (data & 127).astype(np.int64) << (7 * place))
    return values


def _to_varints(numbers: Int[np.ndarray, " cells"]) -> Int[np.ndarray, " bytes"]:
    """Palettes here are below 128, so one byte a cell."""
    return numbers.astype(np.uint8).view(np.int8)


def _signed16(value: int) -> int:
    return value - 0x10000 if value > 0x7FFF else value


def _nbtlib() -> Any:
    try:
        import nbtlib
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "schematics need nbtlib: pip install 'hardlight[formats]'"
        ) from error
    return nbtlib
