"""Export to glTF (.glb, .gltf), PLY and OBJ through trimesh: merged faces with flat colours.

Colours are per vertex and per rectangle, unlit, so that other programs light them.
Axes stay ours (+Y up), which is glTF's convention. Needs the package trimesh.
"""

import os
import pathlib
from typing import Any

import numpy as np

from ..block_map import BlockMap
from ..meshing import face_mesh
from ..palette import SLOT_OF_FACE, Palette

MESH_ENDINGS = (".glb", ".gltf", ".ply", ".obj")


def save_mesh(path: str | os.PathLike[str], block_map: BlockMap, palette: Palette) -> int:
    """Writes the surface of a map; the file's ending says how.

    Returns:
      How many rectangles were written.
    Raises:
      ValueError: another ending, or a map without blocks.
      ModuleNotFoundError: trimesh is not installed.
    """
    try:
        import trimesh
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "mesh files need trimesh: pip install 'hardlight[formats]'"
        ) from error
    target = pathlib.Path(path)
    ending = target.suffix.lower()
    if ending not in MESH_ENDINGS:
        raise ValueError(f'a mesh file ends in one of {MESH_ENDINGS}, got "{target.name}"')
    mesh = face_mesh(block_map)
    if not len(mesh.face):
        raise ValueError("the map has no blocks, so there is no surface to write")
    color = np.asarray(palette.colors)[mesh.material - 1, SLOT_OF_FACE[mesh.face]]
    rgba = np.concatenate([np.round(255 * color), np.full((len(color), 1), 255)], axis=-1)
    surface = trimesh.Trimesh(
        vertices=mesh.corners.reshape(-1, 3),
        faces=mesh.triangles(),
        vertex_colors=np.repeat(rgba.astype(np.uint8), 4, axis=0),
        process=False,
    )
    if ending == ".gltf":  # one file, as for every other ending: its arrays are inside
        files: Any = surface.export(file_type="gltf", embed_buffers=True)
        target.write_bytes(files["model.gltf"])
    else:
        surface.export(target, file_type=ending[1:])
    return len(mesh.face)
