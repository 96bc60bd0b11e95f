"""Solids with a closed form: spheres, boxes turned about z, and flat discs.

Host-side NumPy in float64; points and directions are stored components first, [3, rays], which
is several times faster than the other way round. One origin may serve all rays ([3, 1]).
A pattern of frequency f (radians per unit) blends a solid's colour and its accent by a product
of cosines of its local coordinates.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

_MISS = np.inf


class Solid(NamedTuple):
    """One solid.

    Attributes:
      kind: "sphere" (size[0] radius), "box" (size half edges, turned by `turn` radians about z),
        or "disc" (horizontal, size[0] radius).
      color, accent: base colour, and the one the pattern blends to.
      frequency: of the pattern in radians per unit; 0 is plain.
      gloss: strength of the highlight, the only view-dependent term.
    """

    kind: Literal["sphere", "box", "disc"]
    center: tuple[float, float, float]
    size: tuple[float, float, float]
    color: tuple[float, float, float]
    turn: float = 0.0
    accent: tuple[float, float, float] = (0.0, 0.0, 0.0)
    frequency: float = 0.0
    gloss: float = 0.0


class Hit(NamedTuple):
    """First hits: distance (NaN none) and which solid (-1 none)."""

    depth: Float[np.ndarray, " rays"]
    solid: Int[np.ndarray, " rays"]


def intersect(
    scene: tuple[Solid, ...],
    origins: Float[np.ndarray, "3 #rays"],
    directions: Float[np.ndarray, "3 rays"],
) -> Hit:
    """Finds the first solid each ray (unit direction) meets ahead of its origin."""
    best = np.full(directions.shape[1], _MISS)
    which = np.full(directions.shape[1], -1, np.int64)
    is_shared = origins.shape[1] == 1
    for index, solid in enumerate(scene):
        near = np.flatnonzero(_may_hit(solid, origins, directions))
        start = origins if is_shared else origins[:, near]
        depth = distance(solid, start, directions[:, near])
        closer = depth < best[near]
        best[near[closer]] = depth[closer]
        which[near[closer]] = index
    return Hit(np.where(which < 0, np.nan, best), which)


def distance(
    solid: Solid, origins: Float[np.ndarray, "3 #rays"], directions: Float[np.ndarray, "3 rays"]
) -> Float[np.ndarray, " rays"]:
    """Distance along each ray to a solid's surface; infinity where it misses.

    Rays that start inside a sphere or box see its far wall.
    """
    offset = origins - _column(solid.center)
    if solid.kind == "sphere":
        return _sphere(offset, directions, solid.size[0])
    if solid.kind == "disc":
        return _disc(offset, directions, solid.size[0])
    return _box(_turn(offset, -solid.turn), _turn(directions, -solid.turn), solid.size)


def outward_normal(
    solid: Solid, points: Float[np.ndarray, "3 points"]
) -> Float[np.ndarray, "3 points"]:
    """Outward unit normal at points on a solid's surface; a disc's points up."""
    offset = points - _column(solid.center)
    if solid.kind == "sphere":
        return offset / np.sqrt(_dot(offset, offset))
    if solid.kind == "disc":
        return np.repeat(_column((0.0, 0.0, 1.0)), offset.shape[1], axis=1)
    local = _turn(offset, -solid.turn)
    face = np.argmax(np.abs(local) / _column(solid.size), axis=0)
    return _turn(np.sign(local) * np.eye(3)[:, face], solid.turn)


def surface_color(
    solid: Solid, points: Float[np.ndarray, "3 points"]
) -> Float[np.ndarray, "3 points"]:
    """Colour of a solid's surface before lighting."""
    base = _column(solid.color)
    if solid.frequency == 0.0:
        return np.repeat(base, points.shape[1], axis=1)
    local = _turn(points - _column(solid.center), -solid.turn)
    wave = np.prod(np.cos(solid.frequency * local), axis=0)
    share = 0.5 + 0.5 * np.tanh(4.0 * wave)  # squares with soft edges
    return base + share * (_column(solid.accent) - base)


def _column(values: tuple[float, float, float]) -> np.ndarray:
    return np.array(values)[:, None]


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _may_hit(solid: Solid, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Which rays meet the sphere around a solid; most rays need nothing more."""
    reach = sum(half * half for half in solid.size)
    offset = origins - _column(solid.center)
    along = _dot(offset, directions)
    return along * along >= _dot(offset, offset) - 1.0001 * reach


def _turn(vectors: np.ndarray, angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    x, y, z = vectors
    return np.stack([cos * x - sin * y, sin * x + cos * y, z])


def _sphere(offset: np.ndarray, directions: np.ndarray, radius: float) -> np.ndarray:
    along = _dot(offset, directions)
    inside = along * along - (_dot(offset, offset) - radius * radius)
    root = np.sqrt(np.maximum(inside, 0.0))
    depth = np.where(-along - root > 0, -along - root, -along + root)
    return np.where((inside >= 0) & (depth > 0), depth, _MISS)


def _disc(offset: np.ndarray, directions: np.ndarray, radius: float) -> np.ndarray:
    fall = np.where(np.abs(directions[2]) < 1e-12, 1e-12, directions[2])
    depth = -offset[2] / fall
    x, y = offset[0] + depth * directions[0], offset[1] + depth * directions[1]
    return np.where((depth > 0) & (x * x + y * y <= radius * radius), depth, _MISS)


def _box(
    offset: np.ndarray, directions: np.ndarray, half: tuple[float, float, float]
) -> np.ndarray:
    inverse = 1.0 / np.where(np.abs(directions) < 1e-12, 1e-12, directions)
    middle, reach = -offset * inverse, _column(half) * np.abs(inverse)
    enter = np.max(middle - reach, axis=0)
    leave = np.min(middle + reach, axis=0)
    depth = np.where(enter > 0, enter, leave)
    return np.where((enter <= leave) & (depth > 0), depth, _MISS)
