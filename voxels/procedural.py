"""Worlds and cameras made from a seed: for examples, tests, and training small guides.

A world is a height field of a few waves with layers of stone, dirt and grass, sand by the water,
snow on high ground, a lake at `water`, and houses or towers of planks and stone if asked for.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from scenes import rotations
from scenes.cameras import Cameras, make_cameras

from .block_map import BlockMap, make_map
from .palette import terrain_palette

_GRASS, _DIRT, _STONE, _PLANK, _SNOW, _SAND, _WATER = range(1, 8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """What kind of world.

    Attributes:
      shape: cells along x, y (up), z.
      scale: side of a cell in metres.
      roughness: height of the hills as a share of the grid's height.
      water: level of the lakes as a share of the height; 0 is dry.
      snow: height above which ground is white, as a share.
      num_houses: houses of planks on dry ground.
      num_towers: towers of stone.
    """

    shape: tuple[int, int, int] = (16, 16, 16)
    scale: float = 1.0
    roughness: float = 0.5
    water: float = 0.25
    snow: float = 0.6
    num_houses: int = 1
    num_towers: int = 0

    def __post_init__(self) -> None:
        if min(self.shape) < 4:
            raise ValueError(f"a procedural world needs 4 cells an axis, got {self.shape}")
        if not (0 <= self.roughness <= 0.8 and 0 <= self.water <= 0.8 and self.snow >= 0):
            raise ValueError("needed roughness and water within [0, 0.8], snow >= 0")
        if min(self.num_houses, self.num_towers) < 0 or self.scale <= 0:
            raise ValueError("needed num_houses, num_towers >= 0 and scale > 0")


def make_world(config: WorldConfig, seed: int) -> BlockMap:
    """Builds a world of the default palette; the same seed gives the same world."""
    random = np.random.default_rng(seed)
    size_x, size_y, size_z = config.shape
    height = _heights(random, size_x, size_z)
    top = np.floor(0.15 * size_y + height * config.roughness * size_y).astype(int)
    top = np.clip(top, 0, size_y - 2)
    y, ground = np.arange(size_y)[None, :, None], top[:, None, :]
    level = int(config.water * size_y)
    blocks = np.where(y < ground - 2, _STONE, np.where(y < ground, _DIRT, 0))
    surface = np.where(ground >= config.snow * size_y, _SNOW, _GRASS)
    surface = np.where(ground <= level, _SAND, surface)
    blocks = np.where(y == ground, surface, blocks)
    blocks = np.where((y > ground) & (y <= level), _WATER, blocks)
    for kind in [_PLANK] * config.num_houses + [_STONE] * config.num_towers:
        _build(random, blocks, top, kind, level)
    return make_map(blocks, terrain_palette().names, config.scale)


def orbit_cameras(
    config: WorldConfig,
    num_views: int,
    rows: int,
    cols: int,
    *,
    elevations: tuple[float, ...] = (35.0, 20.0, 60.0),
    field_of_view: float = 50.0,
    seed: int | None = None,
) -> Cameras:
    """Cameras around a world, all of it in view, golden-angle apart, at elevations in turn.

    Args:
      elevations: degrees above the horizon.
      seed: where given, turns the ring by a random angle and shakes the elevations a little.
    """
    random = np.random.default_rng(seed)
    size = np.array(config.shape, float) * config.scale
    centre = np.array([0.0, 0.4 * size[1], 0.0])
    slope = np.tan(np.radians(field_of_view) / 2)
    reach = 0.5 * np.linalg.norm(size) / np.sin(np.arctan(slope * min(1.0, cols / rows))) * 0.95
    turn = 0.0 if seed is None else random.uniform(0, 2 * np.pi)
    poses = []
    for i in range(num_views):
        around = turn + i * np.pi * (3 - np.sqrt(5))
        up = elevations[i % len(elevations)] + (0.0 if seed is None else random.uniform(-6, 6))
        up = np.radians(up)
        direction = [np.cos(up) * np.sin(around), np.sin(up), np.cos(up) * np.cos(around)]
        poses.append(look_at(centre + reach * np.array(direction), centre))
    focal = np.full(2, rows / 2 / slope)
    return make_cameras(np.stack(poses), focal, np.array([cols / 2, rows / 2]))


def look_at(
    eye: Float[np.ndarray, " 3"], centre: Float[np.ndarray, " 3"]
) -> Float[np.ndarray, "4 4"]:
    """Camera-to-world pose at `eye` that looks at `centre` with +Y up (OpenGL axes).

    Looking straight up or down, -Z takes the place of up.
    Raises:
      ValueError: if both are the same point.
    """
    forward = np.asarray(centre, float) - eye
    is_vertical = abs(forward[1]) >= (1 - 1e-9) * np.linalg.norm(forward)
    up = np.array([0.0, 0.0, -1.0]) if is_vertical else np.array([0.0, 1.0, 0.0])
    return rotations.look_at(eye, centre, up)


def _heights(random: np.random.Generator, size_x: int, size_z: int) -> Float[np.ndarray, "x z"]:
    x, z = np.meshgrid(np.linspace(0, 1, size_x), np.linspace(0, 1, size_z), indexing="ij")
    height = np.zeros_like(x)
    for _ in range(8):
        wave = random.normal(size=2) * 2.0
        phase = random.uniform(0, 2 * np.pi)
        height += np.sin(2 * np.pi * (wave[0] * x + wave[1] * z) + phase) / (1 + np.hypot(*wave))
    span = height.max() - height.min()
    return (height - height.min()) / max(span, 1e-9)


def _build(
    random: np.random.Generator,
    blocks: Int[np.ndarray, "x y z"],
    top: Int[np.ndarray, "x z"],
    kind: int,
    level: int,
) -> None:
    """Puts a house (wide, with a snow-white roof) or a tower (narrow, tall) on the ground."""
    size_x, size_y, size_z = blocks.shape
    is_house = kind == _PLANK
    width = max(2, min(size_x, size_z) // (4 if is_house else 8))
    x = int(random.integers(0, size_x - width + 1))
    z = int(random.integers(0, size_z - width + 1))
    base = max(int(top[x : x + width, z : z + width].max()), level) + 1
    rise = max(2, size_y // (5 if is_house else 2))
    end = min(base + rise, size_y)
    blocks[x : x + width, base:end, z : z + width] = kind
    if is_house and end < size_y:
        blocks[x : x + width, end, z : z + width] = _SNOW
