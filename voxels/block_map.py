"""A block world on the host: one material number per cell, 0 for air.

Cell (x, y, z) spans [x - X/2, x - X/2 + 1] * scale along X, [y, y + 1] * scale along Y (up) and
[z - Z/2, z - Z/2 + 1] * scale along Z: worlds stand on y = 0, centred on the origin. Everything
here is right-handed with +Y up, +X east and +Z south.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class BlockMap(NamedTuple):
    """Which block stands where.

    Attributes:
      materials: 0 for air, else 1 + index into `names`; indexed [x, y, z].
      names: solid materials; material number m is names[m - 1].
      scale: side of a cell in metres.
    """

    materials: Int[np.ndarray, "x y z"]
    names: tuple[str, ...]
    scale: float

    @property
    def is_solid(self) -> Bool[np.ndarray, "x y z"]:
        """Where there is a block."""
        return self.materials > 0

    @property
    def num_blocks(self) -> int:
        """How many cells hold a block."""
        return int(np.count_nonzero(self.materials))


class MapStatistics(NamedTuple):
    """Numbers that describe a map; shares are of the solid blocks."""

    num_blocks: int
    fill: float
    num_exposed: int
    material_share: dict[str, float]


class MapDifference(NamedTuple):
    """How one map differs from another of the same size.

    Attributes:
      added, removed, repainted: cells that became solid, became air, changed material.
      solid_iou: intersection over union of the solid cells; 1.0 when both are empty.
      material_shift: change of each material's share of the solid blocks.
    """

    added: int
    removed: int
    repainted: int
    solid_iou: float
    material_shift: dict[str, float]


def make_map(
    materials: Int[np.ndarray, "x y z"], names: tuple[str, ...], scale: float = 1.0
) -> BlockMap:
    """Builds a map, checked.

    Raises:
      ValueError: an empty axis, a material number outside 0..len(names), or a scale that is not
        positive and finite.
    """
    materials = np.asarray(materials)
    if min(materials.shape) < 1:
        raise ValueError(f"a map needs at least one cell along each axis, got {materials.shape}")
    low, high = int(materials.min()), int(materials.max())
    if low < 0 or high > len(names):
        raise ValueError(f"material numbers must lie in 0..{len(names)}, got {low}..{high}")
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be a positive number of metres, got {scale}")
    return BlockMap(materials.astype(np.int16), names, float(scale))


def origin(shape: tuple[int, int, int], scale: float) -> Float[np.ndarray, " 3"]:
    """World position of the corner of cell (0, 0, 0)."""
    return np.array([-shape[0] / 2 * scale, 0.0, -shape[2] / 2 * scale])


def exposed_faces(materials: Int[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z 6"]:
    """Faces of solid cells that border air or the outside, in the order +X -X +Y -Y +Z -Z."""
    solid = np.pad(materials > 0, 1)
    inner = (slice(1, -1),) * 3
    faces = []
    for axis in range(3):
        for shift in (-1, 1):
            faces.append(solid[inner] & ~np.roll(solid, shift, axis)[inner])
    return np.stack(faces, axis=-1)


def map_statistics(block_map: BlockMap) -> MapStatistics:
    """Counts blocks, exposed blocks and the share of each material."""
    exposed = exposed_faces(block_map.materials).any(axis=-1)
    return MapStatistics(
        num_blocks=block_map.num_blocks,
        fill=block_map.num_blocks / block_map.materials.size,
        num_exposed=int(exposed.sum()),
        material_share=_shares(block_map),
    )


def compare_maps(before: BlockMap, after: BlockMap) -> MapDifference:
    """Compares two maps cell by cell.

    Raises:
      ValueError: the maps have different sizes or different materials.
    """
    if before.materials.shape != after.materials.shape or before.names != after.names:
        raise ValueError(
            "maps to compare need the same size and materials, got "
            f"{before.materials.shape} {before.names} and {after.materials.shape} {after.names}"
        )
    was, now = before.is_solid, after.is_solid
    union = np.count_nonzero(was | now)
    shares = _shares(after)
    return MapDifference(
        added=int(np.count_nonzero(now & ~was)),
        removed=int(np.count_nonzero(was & ~now)),
        repainted=int(np.count_nonzero(was & now & (before.materials != after.materials))),
        solid_iou=float(np.count_nonzero(was & now) / union) if union else 1.0,
        material_shift={name: shares[name] - share for name, share in _shares(before).items()},
    )


def _shares(block_map: BlockMap) -> dict[str, float]:
    counts = np.bincount(block_map.materials.ravel(), minlength=len(block_map.names) + 1)[1:]
    total = max(1, int(counts.sum()))
    return {name: float(n) / total for name, n in zip(block_map.names, counts, strict=True)}
