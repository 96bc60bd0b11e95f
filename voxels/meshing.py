"""Surfaces of block worlds: exposed faces, merged into as few rectangles as greed finds.

Faces of one direction, layer and material are merged along rows first, then rows of equal extent
across. Rectangles are wound counter-clockwise as seen from outside. Coordinates are metres.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from .block_map import BlockMap, exposed_faces, origin

_AXES = ((0, True), (0, False), (1, True), (1, False), (2, True), (2, False))


class FaceMesh(NamedTuple):
    """Rectangles with what they are made of.

    Attributes:
      corners: four points each, counter-clockwise from outside, in metres.
      face: 0..5 as +X -X +Y -Y +Z -Z.
      material: 1 + index into the map's names.
    """

    corners: Float[np.ndarray, "quads 4 3"]
    face: Int[np.ndarray, " quads"]
    material: Int[np.ndarray, " quads"]

    def triangles(self) -> Int[np.ndarray, "triangles 3"]:
        """Two triangles for each rectangle, wound as it is; they count all corners in a row."""
        first = 4 * np.arange(len(self.corners))[:, None]
        return (first + np.array([[0, 1, 2, 0, 2, 3]])).reshape(-1, 3)


def face_mesh(block_map: BlockMap, *, is_merged: bool = True) -> FaceMesh:
    """Meshes the exposed faces; without merging there is one rectangle per face."""
    exposed = exposed_faces(block_map.materials)
    corners, faces, materials = [], [], []
    for face, (axis, is_upper) in enumerate(_AXES):
        u, v = [k for k in range(3) if k != axis]
        shown = np.where(exposed[..., face], block_map.materials, 0)
        layers = np.moveaxis(shown, (axis, u, v), (0, 1, 2))
        for layer in np.flatnonzero(layers.any(axis=(1, 2))):
            for row, col, rows, cols in _rectangles(layers[layer], is_merged):
                points = np.zeros((4, 3))
                points[:, axis] = layer + is_upper
                points[:, u] = [row, row + rows, row + rows, row]
                points[:, v] = [col, col, col + cols, col + cols]
                # u then v turns about +axis, except for axis y, where x then z turns about -y
                if is_upper == (axis == 1):
                    points = points[::-1]
                corners.append(points)
                faces.append(face)
                materials.append(layers[layer][row, col])
    shape = block_map.materials.shape
    place = np.array(corners).reshape(-1, 4, 3) * block_map.scale
    corner = origin((shape[0], shape[1], shape[2]), block_map.scale)
    return FaceMesh(place + corner, np.array(faces, int), np.array(materials, int))


def _rectangles(
    layer: Int[np.ndarray, "rows cols"], is_merged: bool
) -> list[tuple[int, int, int, int]]:
    """(row, col, rows, cols) of rectangles that cover the non-zero cells of a layer once."""
    left = layer.copy()
    found = []
    for row, col in np.argwhere(layer > 0):
        kind = left[row, col]
        if kind == 0:
            continue
        rows = cols = 1
        if is_merged:
            run = left[row, col:] == kind
            cols = len(run) if run.all() else int(np.argmin(run))
            below = (left[row:, col : col + cols] == kind).all(axis=1)
            rows = len(below) if below.all() else int(np.argmin(below))
        left[row : row + rows, col : col + cols] = 0
        found.append((int(row), int(col), rows, cols))
    return found
