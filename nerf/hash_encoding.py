"""Multiresolution hash encoding: features of a point, read from grids of growing resolution.

Notation: level l has r_l cells along each axis of the unit cube, r_l = floor(base * b^l) with b
chosen so that the last level has the finest resolution. A point x lies in the cell with lower
corner floor(x r_l) and its features are the trilinear mix of the 8 corners. A level with (r_l +
1)^3 <= T entries is stored densely; a finer one shares T entries through the hash (i * 1) xor (j *
2654435761) xor (k * 805459861) modulo T.

Source: Mueller et al. 2022, "Instant Neural Graphics Primitives", section 3. Differs in the scale:
the corner lattice is aligned with the cube (no half-cell offset).

How the gradient is computed matters more than anything else here. Written the natural way (stack 8
corners, sum) the transposed program is several times slower on a CPU; `benchmarks/hash_encoding.py`
measures the forms. The custom rule below reads corner by corner, and adds each level's 8 x n
updates with one scatter into that level's own table: independent scatters run on different cores,
and a small table stays in cache.
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

_PRIMES = (1, 2654435761, 805459861)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HashEncodingConfig:
    """Sizes of the grids. The encoding has num_levels * num_features outputs."""

    num_levels: int = 8
    num_features: int = 2
    log2_table_size: int = 17
    base_resolution: int = 16
    finest_resolution: int = 1024

    def __post_init__(self):
        """Refuses sizes that cannot be indexed."""
        if self.num_levels < 1 or self.num_features < 1:
            raise ValueError(
                "hash encoding needs num_levels and num_features of at least 1, "
                f"got {self.num_levels} and {self.num_features}"
            )
        if not 4 <= self.log2_table_size <= 28:
            raise ValueError(f"log2_table_size must be 4 to 28, got {self.log2_table_size}")
        if not 1 <= self.base_resolution <= self.finest_resolution <= 2**20:
            raise ValueError(
                "resolutions must satisfy 1 <= base <= finest <= 2^20, "
                f"got {self.base_resolution} and {self.finest_resolution}"
            )

    @property
    def num_outputs(self) -> int:
        """Width of the encoded feature vector."""
        return self.num_levels * self.num_features


class Level(NamedTuple):
    """One grid: cells along an axis, entries stored, and whether every corner has an entry of
    its own."""

    resolution: int
    num_entries: int
    is_dense: bool


def levels(config: HashEncodingConfig) -> tuple[Level, ...]:
    """Lists the grids from coarse to fine."""
    table_size = 2**config.log2_table_size
    growth = 1.0
    if config.num_levels > 1:
        ratio = config.finest_resolution / config.base_resolution
        growth = math.exp(math.log(ratio) / (config.num_levels - 1))
    result = []
    for index in range(config.num_levels):
        # the small epsilon keeps the last level at the finest resolution exactly
        resolution = math.floor(config.base_resolution * growth**index + 1e-6)
        corners = (resolution + 1) ** 3
        is_dense = corners <= table_size
        result.append(Level(resolution, corners if is_dense else table_size, is_dense))
    return tuple(result)


def init_tables(
    config: HashEncodingConfig, key: Key[Array, ""], *, scale: float = 1e-4
) -> tuple[Float[Array, "_ features"], ...]:
    """Draws one table per level, uniform in [-scale, scale]."""
    entries = [level.num_entries for level in levels(config)]
    # one draw for all levels: a generator per level would multiply the time to compile
    values = jax.random.uniform(
        key, (sum(entries), config.num_features), minval=-scale, maxval=scale
    )
    return tuple(jnp.split(values, np.cumsum(entries)[:-1]))


def corner_index(level: Level, cell: Int[Array, "*batch 3"], corner: int) -> Int[Array, "*batch"]:
    """Finds the table entry of one of a cell's 8 corners (bit 0 of `corner` is +x, bit 1 +y, bit
    2 +z)."""
    return _entry(level.is_dense, level.resolution, level.num_entries, cell, corner)


def hash_encode(
    config: HashEncodingConfig,
    tables: tuple[Float[Array, "_ features"], ...],
    points: Float[Array, "n 3"],
) -> Float[Array, "n outputs"]:
    """Encodes points of the unit cube, level by level from coarse to fine.

    Differentiable in the tables (exactly) and in the points (piecewise: the derivative jumps at
    cell faces).
    Bad input: a point outside [0, 1] reads the nearest point of the cube, a non-finite one the
    corner 0; both get zero gradient in the points along the clamped axis.
    """
    return _encode(config, tuple(tables), points)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _encode(config, tables, points):
    cells, fractions = _locate(config, points)
    encoded = [
        _encode_level(level.is_dense, jnp.int32(level.resolution), table, cells[i], fractions[i])
        for i, (level, table) in enumerate(zip(levels(config), tables, strict=True))
    ]
    return jnp.concatenate(encoded, axis=-1)


def _forward(config, tables, points):
    return _encode(config, tables, points), (tables, points)


def _backward(config, residuals, cotangent):
    tables, points = residuals
    num_features = config.num_features
    cells, fractions = _locate(config, points)
    inside = ((points >= 0.0) & (points <= 1.0)).astype(points.dtype)
    table_grads, point_grad = [], jnp.zeros_like(points)
    for i, (level, table) in enumerate(zip(levels(config), tables, strict=True)):
        g = cotangent[:, i * num_features : (i + 1) * num_features]
        place = level.is_dense, jnp.int32(level.resolution), table, cells[i], fractions[i]
        entries, updates = _table_updates(*place, g)
        blank = jnp.zeros_like(table)
        table_grads.append(
            blank.at[entries].add(updates, mode="promise_in_bounds", wrap_negative_indices=False)
        )
        point_grad = point_grad + _point_gradient(*place, g) * (level.resolution * inside)
    return tuple(table_grads), point_grad


_encode.defvjp(_forward, _backward)

# The three passes over a level are jitted with the resolution as an argument, so that all hashed
# levels share one trace; XLA inlines them, and the compiled program is that of plain functions.


@functools.partial(jax.jit, static_argnums=0)
def _encode_level(is_dense: bool, resolution, table, cell, fraction):
    features = jnp.zeros((cell.shape[0], table.shape[1]), table.dtype)
    for corner in range(8):
        entry = _entry(is_dense, resolution, table.shape[0], cell, corner)
        features = features + _corner_weight(fraction, corner)[:, None] * table.at[entry].get(
            mode="promise_in_bounds"
        )
    return features


@functools.partial(jax.jit, static_argnums=0)
def _table_updates(is_dense: bool, resolution, table, cell, fraction, g):
    """Entries [8 n] that the points read, and what to add to each."""
    num_entries = table.shape[0]
    entries = [_entry(is_dense, resolution, num_entries, cell, corner) for corner in range(8)]
    updates = [_corner_weight(fraction, corner)[:, None] * g for corner in range(8)]
    return jnp.concatenate(entries), jnp.concatenate(updates).astype(table.dtype)


@functools.partial(jax.jit, static_argnums=0)
def _point_gradient(is_dense: bool, resolution, table, cell, fraction, g):
    """Slopes [n 3] of what the cotangent g sees, per cell."""
    along = [
        jnp.sum(
            table.at[_entry(is_dense, resolution, table.shape[0], cell, corner)].get(
                mode="promise_in_bounds"
            )
            * g,
            axis=-1,
        )
        for corner in range(8)
    ]
    # axis by axis, as vectors over the points: triples would be built and added corner by corner
    slopes = []
    for axis in range(3):
        one, other = (k for k in range(3) if k != axis)
        slope = jnp.zeros_like(along[0])
        for far in range(4):
            corner = (far & 1) << one | (far >> 1) << other
            f, h = fraction[..., one], fraction[..., other]
            weight = (f if far & 1 else 1.0 - f) * (h if far >> 1 else 1.0 - h)
            slope = slope + weight * (along[corner | 1 << axis] - along[corner])
        slopes.append(slope)
    return jnp.stack(slopes, axis=-1)


def _locate(config, points):
    """Cells and places in them, each [levels n 3]."""
    unit = jnp.where(points > 0.0, jnp.minimum(points, 1.0), 0.0)  # NaN compares false: corner 0
    sides = [level.resolution for level in levels(config)]
    resolution = np.asarray(sides, np.float32)[:, None, None]
    scaled = unit[None] * resolution
    cell = jnp.minimum(jnp.floor(scaled), resolution - 1)
    return cell.astype(jnp.int32), scaled - cell


def _entry(is_dense: bool, resolution, num_entries: int, cell, corner: int):
    i, j, k = (
        cell[..., axis].astype(jnp.uint32) + np.uint32(corner >> axis & 1) for axis in range(3)
    )
    if is_dense:
        side = jnp.uint32(resolution + 1)
        index = i + side * (j + side * k)
    else:
        p, q, r = (np.uint32(prime) for prime in _PRIMES)
        index = (i * p ^ j * q ^ k * r) & np.uint32(num_entries - 1)
    return index.astype(jnp.int32)


def _corner_weight(fraction, corner: int):
    weight = jnp.ones_like(fraction[..., 0])
    for axis in range(3):
        f = fraction[..., axis]
        weight = weight * (f if corner >> axis & 1 else 1.0 - f)
    return weight
