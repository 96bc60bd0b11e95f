"""MagicaVoxel .vox: models of at most 256 cells an axis with a palette of 255 colours.

The file is "VOX ", a version, and chunks (id, content bytes, children bytes). Z is up there:
cell (x, y, z) of ours is (x, size_z - 1 - z, y) of theirs, which keeps the handedness.
Palette entry i of the RGBA chunk is colour number i + 1; files without that chunk have the
format's default palette. Scene graphs are read as far as they place models: nTRN translations add
up, rotations other than none are refused, hidden nodes and layers left out.
Source: the published MagicaVoxel file format, versions 150 and 200.
"""

import math
import os
import pathlib
import struct
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from ..block_map import BlockMap, make_map
from ..palette import Palette

_MAX_SIDE = 256
_MAX_CELLS = 1 << 30
_MAX_SHIFT = 1 << 20


class VoxScene(NamedTuple):
    """Everything placed in one grid.

    Attributes:
      colors: palette number per cell, 0 for empty, in our axes.
      palette: RGBA of number 1 to 255; `default_palette` where the file has none.
    """

    colors: Int[np.ndarray, "x y z"]
    palette: UInt8[np.ndarray, "255 4"]


def load_vox(path: str | os.PathLike[str]) -> VoxScene:
    """Reads a .vox file.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not a .vox file, a chunk cut short, no model, or a rotated model.
    """
    source = pathlib.Path(path)
    data = source.read_bytes()
    try:
        return _parse(data)
    except (struct.error, ValueError, IndexError) as error:
        raise ValueError(f"{source}: not a readable .vox file ({error})") from error


def save_vox(path: str | os.PathLike[str], block_map: BlockMap, palette: Palette) -> None:
    """Writes one model, version 150; material m becomes colour m, with its side colour.

    Raises:
      ValueError: more than 256 cells an axis, or more than 255 materials.
    """
    x, y, z = block_map.materials.shape
    if max(x, y, z) > _MAX_SIDE or len(block_map.names) > 255:
        raise ValueError(f"a .vox model holds 256 cells an axis and 255 colours, got {(x, y, z)}")
    cells = np.argwhere(block_map.materials > 0)
    number = block_map.materials[tuple(cells.T)]
    voxels = np.stack([cells[:, 0], z - 1 - cells[:, 2], cells[:, 1], number], axis=-1)
    rgba = np.full((256, 4), 255, np.uint8)
    sides = np.asarray(palette.colors)[:, 2]
    rgba[: len(sides), :3] = np.round(255 * sides)
    content = _chunk(b"SIZE", struct.pack("<3i", x, z, y))
    content += _chunk(b"XYZI", struct.pack("<i", len(voxels)) + voxels.astype(np.uint8).tobytes())
    content += _chunk(b"RGBA", rgba.tobytes())
    main = b"MAIN" + struct.pack("<2i", 0, len(content)) + content
    pathlib.Path(path).write_bytes(b"VOX " + struct.pack("<i", 150) + main)


def map_from_vox(scene: VoxScene, palette: Palette, *, scale: float = 1.0) -> BlockMap:
    """Gives each colour the material whose side colour is nearest."""
    sides = 255 * np.asarray(palette.colors, np.float64)[:, 2]
    distance = np.linalg.norm(scene.palette[:, None, :3] - sides[None], axis=-1)
    nearest = np.concatenate([[0], 1 + np.argmin(distance, axis=-1)])
    return make_map(nearest[scene.colors], palette.names, scale)


def default_palette() -> UInt8[np.ndarray, "255 4"]:
    """RGBA of number 1 to 255 in a file that has no palette of its own.

    Six steps of red, green and blue from white to black (left out), blue fastest; then ten shades
    of red, of green, of blue and of grey.
    """
    steps = np.arange(255, -1, -51)
    cube = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)[:-1]
    shades = 17 * np.array([14, 13, 11, 10, 8, 7, 5, 4, 2, 1])
    kinds = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])
    ramps = (kinds[:, None] * shades[:, None]).reshape(-1, 3)
    colors = np.concatenate([cube, ramps])
    return np.concatenate([colors, np.full((255, 1), 255)], axis=-1).astype(np.uint8)


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<2i", len(content), 0) + content


def _chunks(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    while start < end:
        name = data[start : start + 4]
        size, children = struct.unpack_from("<2i", data, start + 4)
        if size < 0 or children < 0 or start + 12 + size + children > end:
            raise ValueError(f"chunk {name!r} is cut short")
        yield name, data[start + 12 : start + 12 + size]
        start += 12 + size + children


def _parse(data: bytes) -> VoxScene:
    if data[:4] != b"VOX ":
        raise ValueError('does not begin with "VOX "')
    if data[8:12] != b"MAIN":
        raise ValueError("no MAIN chunk")
    size, children = struct.unpack_from("<2i", data, 12)
    if 20 + size + children > len(data):
        raise ValueError("MAIN is cut short")
    sizes, models, palette = [], [], default_palette()
    nodes: dict[int, _Node] = {}
    hidden_layers: set[int] = set()
    for name, content in _chunks(data, 20 + size, 20 + size + children):
        if name == b"SIZE":
            sizes.append(struct.unpack_from("<3i", content))
            if not 1 <= min(sizes[-1]) <= max(sizes[-1]) <= _MAX_SIDE:
                raise ValueError(f"model {len(sizes) - 1} has the size {sizes[-1]}")
        elif name == b"XYZI":
            (count,) = struct.unpack_from("<i", content)
            if not 0 <= 4 * count <= len(content) - 4:
                raise ValueError(f"model {len(models)} is cut short, it has {count} voxels")
            voxels = np.frombuffer(content, np.uint8, 4 * count, 4).reshape(count, 4)
            models.append(voxels.astype(np.int64))
        elif name == b"RGBA":
            palette = np.frombuffer(content, np.uint8, 1024).reshape(256, 4)[:255].copy()
        elif name in (b"nTRN", b"nGRP", b"nSHP"):
            number, node = _node(name, content)
            nodes[number] = node
        elif name == b"LAYR":
            (number,) = struct.unpack_from("<i", content)
            if _dictionary(content, 4)[0].get("_hidden") == "1":
                hidden_layers.add(number)
    if not models or len(sizes) != len(models):
        raise ValueError(f"{len(models)} models with {len(sizes)} sizes")
    if not nodes and len(models) > 1:
        raise ValueError(f"{len(models)} models, and nothing says where they are")
    placed = _placements(nodes, hidden_layers) if nodes else [(0, np.array(sizes[0]) // 2)]
    if not placed:
        raise ValueError("every model is hidden")
    pieces = []
    for model, position in placed:
        if not 0 <= model < len(models):
            raise ValueError(f"a node shows model {model} of {len(models)}")
        voxels = models[model].copy()
        if (voxels[:, :3] >= np.array(sizes[model])).any():
            raise ValueError(f"model {model} has a voxel outside its size")
        voxels[:, :3] += position - np.array(sizes[model]) // 2
        pieces.append((voxels, position - np.array(sizes[model]) // 2, sizes[model]))
    low = np.min([corner for _, corner, _ in pieces], axis=0)
    high = np.max([corner + np.array(size) for _, corner, size in pieces], axis=0)
    span = high - low
    if (span < 1).any() or math.prod(span.tolist()) > _MAX_CELLS:
        raise ValueError(f"the scene spans {span.tolist()} cells")
    grid = np.zeros(span, np.int16)
    for voxels, _, _ in pieces:
        grid[tuple((voxels[:, :3] - low).T)] = voxels[:, 3]
    return VoxScene(np.ascontiguousarray(grid.transpose(0, 2, 1)[:, :, ::-1]), palette)


class _Node(NamedTuple):
    """A node of the scene graph; of an animated shape only the first model."""

    kind: Literal["transform", "group", "shape"]
    members: list[int]
    shift: Int[np.ndarray, " 3"]
    is_hidden: bool = False
    layer: int = -1


def _node(name: bytes, content: bytes) -> tuple[int, _Node]:
    """A node of the scene graph and its number."""
    (number,) = struct.unpack_from("<i", content)
    about, at = _dictionary(content, 4)
    is_hidden = about.get("_hidden") == "1"
    shift = np.zeros(3, np.int64)
    if name == b"nTRN":
        child, _, layer, frames = struct.unpack_from("<4i", content, at)
        at += 16
        if frames:
            attributes, _ = _dictionary(content, at)
            shift = _shift(attributes.get("_t", "0 0 0"))
            if attributes.get("_r", "4") != "4":
                raise ValueError("a model is rotated, which is not supported")
        return number, _Node("transform", [child], shift, is_hidden, layer)
    (count,) = struct.unpack_from("<i", content, at)
    at += 4
    members = []
    for _ in range(count):
        members.append(struct.unpack_from("<i", content, at)[0])
        at += 4
        if name == b"nSHP":
            _, at = _dictionary(content, at)
    if name == b"nGRP":
        return number, _Node("group", members, shift, is_hidden)
    return number, _Node("shape", members[:1], shift, is_hidden)


def _shift(text: str) -> Int[np.ndarray, " 3"]:
    """A translation, three whole numbers in a text."""
    words = text.split()
    if len(words) != 3 or not all(word.lstrip("-").isdecimal() for word in words):
        raise ValueError(f"a model is moved by {text[:60]!r}")
    if max(map(len, words)) > 9 or max(abs(int(word)) for word in words) > _MAX_SHIFT:
        raise ValueError(f"a model is moved by {text[:60]!r} cells")
    return np.array([int(word) for word in words], np.int64)


def _dictionary(content: bytes, at: int) -> tuple[dict[str, str], int]:
    (count,) = struct.unpack_from("<i", content, at)
    at += 4
    words = []
    for _ in range(2 * count):
        (length,) = struct.unpack_from("<i", content, at)
        if not 0 <= length <= len(content) - at - 4:
            raise ValueError("a name in the scene graph is cut short")
        words.append(content[at + 4 : at + 4 + length].decode("utf-8", "replace"))
        at += 4 + length
    return dict(zip(words[::2], words[1::2], strict=True)), at


def _placements(nodes: dict[int, _Node], hidden_layers: set[int]) -> list[tuple[int, np.ndarray]]:
    """(model, position of its centre) for every shape under node 0 that is shown."""
    found, todo, seen = [], [(0, np.zeros(3, np.int64))], 0
    while todo:
        number, shift = todo.pop()
        seen += 1
        if number not in nodes or seen > len(nodes) * 4 + 16:
            raise ValueError("the scene graph is broken")
        node = nodes[number]
        if node.is_hidden or node.layer in hidden_layers:
            continue
        for member in node.members:
            if node.kind == "shape":
                found.append((member, shift))
            else:
                todo.append((member, shift + node.shift))
    return found
