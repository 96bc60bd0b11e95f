"""Occupancy grid: which cells of the scene's box are worth sampling.

Notation: the box [low, high] is cut into resolution^3 cells; `density` holds a decaying maximum of
the field's density per cell, in 1 / scene unit, -1 where a cell was never looked at. A cell is
occupied when a marching step of length `step` through it would be at least `threshold` opaque, or
when it was never looked at.

Cells are visited in a fixed, scattered order: each update evaluates the next `cells_per_update` of
them at a random point inside, so every cell is refreshed once per sweep, exactly, at a constant
cost per step (random visits would leave 37 % of them untouched in the same time).

Source: Mueller et al. 2022, appendix E.2 (decaying maximum, threshold never above the mean).
Differs in the visiting order and in letting the maximum decay per visit, not per update.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class OccupancyConfig:
    """Size and habits of the grid."""

    resolution: int = 96
    threshold: float = 0.01
    """Opacity of one marching step above which a cell counts as occupied."""
    decay: float = 0.7
    """Factor on the remembered density each time a cell is visited."""
    cells_per_update: int = 65536

    def __post_init__(self):
        """Refuses impossible settings."""
        if not 2 <= self.resolution <= 1024:
            raise ValueError(f"occupancy resolution must be 2 to 1024, got {self.resolution}")
        if not 0.0 < self.threshold < 1.0 or not 0.0 < self.decay < 1.0:
            raise ValueError(
                "occupancy threshold and decay must lie inside (0, 1), "
                f"got {self.threshold} and {self.decay}"
            )
        if self.cells_per_update < 1:
            raise ValueError(f"cells_per_update must be at least 1, got {self.cells_per_update}")

    @property
    def num_cells(self) -> int:
        """Cells in the grid."""
        return self.resolution**3


class OccupancyState(NamedTuple):
    """What is known of each cell, in C order of (x, y, z)."""

    density: Float[Array, " cells"]
    occupied: Bool[Array, " cells"]
    cursor: Int[Array, ""]


def init(config: OccupancyConfig) -> OccupancyState:
    """Starts with every cell unknown, hence occupied."""
    return OccupancyState(
        density=jnp.full((config.num_cells,), -1.0),
        occupied=jnp.ones((config.num_cells,), bool),
        cursor=jnp.zeros((), jnp.int32),
    )


def cell_index(config: OccupancyConfig, unit: Float[Array, "*batch 3"]) -> Int[Array, "*batch"]:
    """Finds the cell of a point of the unit cube; points outside count for the nearest cell."""
    cell = jnp.clip((unit * config.resolution).astype(jnp.int32), 0, config.resolution - 1)
    return (cell[..., 0] * config.resolution + cell[..., 1]) * config.resolution + cell[..., 2]


def is_occupied(
    config: OccupancyConfig, state: OccupancyState, unit: Float[Array, "*batch 3"]
) -> Bool[Array, "*batch"]:
    """Looks up points of the unit cube."""
    return state.occupied.at[cell_index(config, unit)].get(mode="promise_in_bounds")


def occupied_fraction(state: OccupancyState) -> Float[Array, ""]:
    """Share of the cells that are occupied."""
    return jnp.mean(state.occupied.astype(jnp.float32))


def update(
    config: OccupancyConfig,
    key: Key[Array, ""],
    state: OccupancyState,
    density_fn: Callable[[Float[Array, "n 3"]], Float[Array, " n"]],
    *,
    step: Float[Array, ""] | float,
) -> OccupancyState:
    """Refreshes the next cells of the sweep and decides again which cells are occupied.

    Args:
      density_fn: density at points of the unit cube, per scene unit.
      step: length of the shortest marching step, in scene units.
    Bad input: a non-finite density counts as infinite, so the cell stays occupied and the fault
    stays visible.
    """
    num_cells, count = config.num_cells, min(config.cells_per_update, config.num_cells)
    order = state.cursor + jnp.arange(count, dtype=jnp.int32)
    order = jnp.where(order >= num_cells, order - num_cells, order)
    visited = _scatter_order(config, order)
    corner = jnp.stack(
        [
            visited // (config.resolution * config.resolution),
            visited // config.resolution % config.resolution,
            visited % config.resolution,
        ],
        axis=-1,
    )
    unit = (corner + jax.random.uniform(key, corner.shape)) / config.resolution
    fresh = density_fn(unit)
    fresh = jnp.where(jnp.isfinite(fresh), fresh, jnp.inf)
    old = state.density[visited]
    density = state.density.at[visited].set(
        jnp.maximum(jnp.maximum(config.decay * old, 0.0), fresh)
    )
    # the decisive density is never above the mean, so a scene of thin fog is not emptied at once
    known = density >= 0.0
    finite = jnp.where(known & jnp.isfinite(density), density, 0.0)
    mean = jnp.sum(finite) / jnp.maximum(jnp.sum(known), 1)
    decisive = jnp.minimum(-math.log1p(-config.threshold) / step, mean)
    cursor = state.cursor + count
    return OccupancyState(
        density=density,
        occupied=~known | (density >= decisive),
        cursor=jnp.where(cursor >= num_cells, cursor - num_cells, cursor),
    )


def _scatter_order(config: OccupancyConfig, position: Int[Array, " n"]) -> Int[Array, " n"]:
    """Maps 0..cells-1 one to one onto cells, far from the previous one each time.

    The cell number is position * stride modulo cells with a stride prime to it; uint32
    multiplication would overflow, so the product is formed along the first axis only: (a, b) -> ((a
    * s + b) mod r^..., ...) on the three digits.
    """
    r = config.resolution
    x, y, z = position // (r * r), position // r % r, position % r
    stride = _coprime_stride(r)
    # a unit upper-triangular map of the digits, followed by a multiplication, is one to one
    z = (z + 7 * y + 3 * x) % r
    y = (y + 5 * x) % r
    return ((z * stride) % r * r + (y * stride) % r) * r + (x * stride) % r


def _coprime_stride(resolution: int) -> int:
    stride = max(1, round(resolution * (math.sqrt(5.0) - 1.0) / 2.0))
    while np.gcd(stride, resolution) != 1:
        stride += 1
    return stride
