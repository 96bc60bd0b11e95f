"""Maps of every format by the ending of their file: in through one door, out through another."""

import os
import pathlib

from scenes.formats.atomic import write_file

from ..block_map import BlockMap
from ..palette import Palette
from .magica_voxel import load_vox, map_from_vox, save_vox
from .map_json import Repairs, load_map, save_map
from .mesh import MESH_ENDINGS, save_mesh
from .schematic import load_schematic, save_schematic

READABLE = (".json", ".vox", ".schem", ".schematic")
WRITABLE = (*READABLE, *MESH_ENDINGS)


def load_any_map(path: str | os.PathLike[str], palette: Palette) -> tuple[BlockMap, Repairs]:
    """Reads a map.json, MagicaVoxel .vox, Sponge .schem or legacy .schematic.

    Colours of a .vox become the nearest material; .vox and schematics have cells of one metre.
    Raises:
      FileNotFoundError: no such file.
      ValueError: another ending, or naming the file and what is wrong with it.
    """
    ending = pathlib.Path(path).suffix.lower()
    if ending not in READABLE:
        raise ValueError(f"{path}: a map ends in one of {', '.join(READABLE)}")
    if ending == ".json":
        return load_map(path, palette.names)
    if ending != ".vox":
        return load_schematic(path, palette.names)
    return map_from_vox(load_vox(path), palette), Repairs({})


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raises ValueError unless the ending is that of a format maps are written in."""
    if pathlib.Path(path).suffix.lower() not in WRITABLE:
        raise ValueError(f"{path}: a map is written as one of {', '.join(WRITABLE)}")


def save_any_map(path: str | os.PathLike[str], block_map: BlockMap, palette: Palette) -> None:
    """Writes a map, in one step, in the format of its ending; meshes are merged faces with flat
    colours.

    Raises:
      ValueError: another ending, or a map that the format cannot hold.
      OSError: when it cannot be written, naming it; what was there before stays.
      ModuleNotFoundError: naming the package that writes the format.
    """
    check_writable(path)
    target = pathlib.Path(path)
    ending = target.suffix.lower()
    if ending == ".json":
        save_map(target, block_map)
    elif ending == ".vox":
        write_file(target, lambda partial: save_vox(partial, block_map, palette))
    elif ending in (".schem", ".schematic"):
        write_file(target, lambda partial: save_schematic(partial, block_map))
    else:
        write_file(target, lambda partial: save_mesh(partial, block_map, palette))
