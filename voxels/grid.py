"""The optimised world: a logit of being there and logits of what it is made of, per cell.

Occupancy is sigmoid(occupancy_logits / temperature); air is one minus it, not a black material.
Material probabilities are softmax(material_logits / temperature) over the solid materials only.
A cell is solid after export where its occupancy exceeds one half, with its likeliest material.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from .block_map import BlockMap, make_map

_OPAQUE = 1e-6  # transmittance below which nothing is seen through a cell


class VoxelGrid(NamedTuple):
    """Parameters of a block world, a pytree to optimise.

    Attributes:
      occupancy_logits: positive where a block is likelier than air.
      material_logits: one per solid material.
    """

    occupancy_logits: Float[Array, "x y z"]
    material_logits: Float[Array, "x y z materials"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Cells along x, y, z."""
        x, y, z = self.occupancy_logits.shape
        return x, y, z


@dataclasses.dataclass(frozen=True, kw_only=True)
class InitialLogits:
    """How certain a grid made from a map starts out.

    Attributes:
      occupancy: logit of a block; air gets its negative. 2 learns quickly: at 5 the sigmoid
        damps gradients 150-fold.
      material: logit of the map's material, others get 0.
      noise: standard deviation of normal noise on all logits.
    """

    occupancy: float = 2.0
    material: float = 2.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.occupancy <= 0 or self.material < 0 or self.noise < 0:
            raise ValueError("needed occupancy > 0, material >= 0 and noise >= 0")


class GridStatistics(NamedTuple):
    """What a grid looks like, as scalars for a log.

    Attributes:
      num_solid: cells with occupancy above one half.
      num_active: cells with occupancy above 0.01.
      occupancy_mean, occupancy_std: over all cells.
      occupancy_entropy, material_entropy: in nats; the mean over all cells, and over cells
        weighted by occupancy.
      density: num_solid over all cells.
      material_share: expected share of each material among what is solid.
    """

    num_solid: Int[Array, ""]
    num_active: Int[Array, ""]
    occupancy_mean: Float[Array, ""]
    occupancy_std: Float[Array, ""]
    occupancy_entropy: Float[Array, ""]
    material_entropy: Float[Array, ""]
    density: Float[Array, ""]
    material_share: Float[Array, " materials"]


class ActiveCells(NamedTuple):
    """The cells of a grid worth keeping parameters for.

    Attributes:
      flat: C-order index of each cell, increasing; entries beyond the grid's size are padding.
      num_dropped: cells that did not fit; the caller must make room for them and try again.
    """

    flat: Int[Array, " cells"]
    num_dropped: Int[Array, ""]


def grid_from_map(
    block_map: BlockMap,
    initial: InitialLogits | None = None,
    *,
    key: Key[Array, ""] | None = None,
) -> VoxelGrid:
    """Starts a grid at a map.

    Args:
      initial: how certain; default `InitialLogits()`.
      key: needed where `initial.noise` is not zero.
    """
    initial = initial or InitialLogits()
    solid = jnp.asarray(block_map.is_solid)
    occupancy = jnp.where(solid, initial.occupancy, -initial.occupancy).astype(jnp.float32)
    number = jnp.asarray(block_map.materials, jnp.int32)
    # one_hot of -1, which air gets, is all zero
    material = initial.material * jax.nn.one_hot(number - 1, len(block_map.names))
    grid = VoxelGrid(occupancy, material.astype(jnp.float32))
    return _perturb(grid, initial.noise, key)


def uniform_grid(
    shape: tuple[int, int, int],
    num_materials: int,
    *,
    occupancy_logit: float = -2.0,
    noise: float = 0.0,
    key: Key[Array, ""] | None = None,
) -> VoxelGrid:
    """Starts a grid that knows nothing: equal occupancy, equal materials, and noise.

    Raises:
      ValueError: a size that is not positive, or noise without a key.
    """
    if min(shape) < 1 or num_materials < 1:
        raise ValueError(f"needed positive sizes, got {shape} and {num_materials} materials")
    grid = VoxelGrid(
        jnp.full(shape, occupancy_logit, jnp.float32),
        jnp.zeros((*shape, num_materials), jnp.float32),
    )
    return _perturb(grid, noise, key)


def temper(
    grid: VoxelGrid, temperature: float | Float[Array, ""]
) -> tuple[Float[Array, "x y z"], Float[Array, "x y z materials"]]:
    """Occupancy logits and material probabilities at a temperature, as the renderer takes them."""
    probs = jax.nn.softmax(grid.material_logits / temperature, axis=-1)
    return grid.occupancy_logits / temperature, probs


def harden(grid: VoxelGrid) -> tuple[Float[Array, "x y z"], Float[Array, "x y z materials"]]:
    """The exported world with straight-through materials: values one-hot, gradients softmax's.

    Occupancy logits are passed on; the renderer's `hard` alpha makes them binary.
    """
    probs = jax.nn.softmax(grid.material_logits, axis=-1)
    one_hot = jax.nn.one_hot(jnp.argmax(probs, axis=-1), probs.shape[-1], dtype=probs.dtype)
    return grid.occupancy_logits, probs + jax.lax.stop_gradient(one_hot - probs)


def bound_logits(grid: VoxelGrid, limit: float | Float[Array, ""]) -> VoxelGrid:
    """Keeps logits where a gradient can still move them.

    Occupancy within `limit` of zero; the likeliest material at zero, which changes no
    probability, and the others at most `limit` below it.
    """
    highest = jnp.max(grid.material_logits, axis=-1, keepdims=True)
    return VoxelGrid(
        jnp.clip(grid.occupancy_logits, -limit, limit),
        jnp.maximum(grid.material_logits - highest, -limit),
    )


def map_from_grid(grid: VoxelGrid, names: tuple[str, ...], scale: float) -> BlockMap:
    """The world a grid stands for, on the host; logit 0 counts as air.

    Raises:
      ValueError: as many names as materials are needed.
    """
    if len(names) != grid.material_logits.shape[-1]:
        raise ValueError(f"{grid.material_logits.shape[-1]} materials but {len(names)} names")
    solid = np.asarray(grid.occupancy_logits) > 0
    likeliest = np.argmax(np.asarray(grid.material_logits), axis=-1)
    return make_map(np.where(solid, likeliest + 1, 0), names, scale)


def grid_statistics(grid: VoxelGrid) -> GridStatistics:
    """Summarises a grid."""
    occupancy, probs = jax.nn.sigmoid(grid.occupancy_logits), jax.nn.softmax(grid.material_logits)
    log_probs = jax.nn.log_softmax(grid.material_logits)
    uncertainty = -jnp.sum(probs * log_probs, axis=-1)
    total = jnp.maximum(jnp.sum(occupancy), 1e-12)
    num_solid = jnp.sum(grid.occupancy_logits > 0)
    return GridStatistics(
        num_solid=num_solid,
        num_active=jnp.sum(occupancy > 0.01),
        occupancy_mean=jnp.mean(occupancy),
        occupancy_std=jnp.std(occupancy),
        occupancy_entropy=jnp.mean(binary_entropy(grid.occupancy_logits)),
        material_entropy=jnp.sum(occupancy * uncertainty) / total,
        density=num_solid / occupancy.size,
        material_share=jnp.einsum("xyz,xyzm->m", occupancy, probs, precision="highest") / total,
    )


def binary_entropy(logits: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
    """Entropy in nats of a coin with these logits; finite in value and derivative everywhere."""
    occupancy = jax.nn.sigmoid(logits)
    return occupancy * jax.nn.softplus(-logits) + (1 - occupancy) * jax.nn.softplus(logits)


def active_cells(
    occupancy_logits: Float[Array, "x y z"],
    capacity: int,
    *,
    threshold: float = 0.0,
    kept: Bool[Array, "x y z"] | bool = False,
) -> ActiveCells:
    """Lists cells with occupancy above a threshold that are not walled in.

    A cell is walled in when all six neighbours let through less than 1e-6 (the outside lets
    everything through); where these hide what they should, leaving it out changes no pixel by more.
    What found no room: `num_dropped`.

    Args:
      kept: cells to list although they are walled in, as around an eye inside the walls.
    """
    occupancy = jax.nn.sigmoid(occupancy_logits)
    opaque = jnp.pad(jax.nn.sigmoid(-occupancy_logits) < _OPAQUE, 1)
    is_walled = jnp.ones(occupancy.shape, bool)
    inner = slice(1, -1)
    for axis in range(3):
        for side in (slice(2, None), slice(None, -2)):
            index = [inner, inner, inner]
            index[axis] = side
            is_walled &= opaque[tuple(index)]
    is_listed = (occupancy > threshold) & (~is_walled | kept)
    (flat,) = jnp.nonzero(is_listed.reshape(-1), size=capacity, fill_value=occupancy.size)
    num_dropped = jnp.maximum(jnp.sum(is_listed) - capacity, 0)
    return ActiveCells(flat.astype(jnp.int32), num_dropped.astype(jnp.int32))


def _perturb(grid: VoxelGrid, noise: float, key: Key[Array, ""] | None) -> VoxelGrid:
    if noise == 0:
        return grid
    if key is None:
        raise ValueError("noise needs a key")
    first, second = jax.random.split(key)
    return VoxelGrid(
        grid.occupancy_logits + noise * jax.random.normal(first, grid.shape),
        grid.material_logits + noise * jax.random.normal(second, grid.material_logits.shape),
    )
