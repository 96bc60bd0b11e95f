"""One step on several devices: which rows of a batch are whose, and how they are put together.

A step that is mapped over a mesh axis of D devices runs on all of them at once with the same state.
Each device works on its own rows of the batch, D apart so that every device gets its share of an
ordered draw (strata, views one after the other), and what the step learned is put together again.
Alone every function gives back what it is given, so a step for one device is traced as if this
file did not exist.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key

Tree = TypeVar("Tree")

AXIS = "devices"
"""Name of the mesh axis that batches are split over."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceAxis:
    """The mapped axis a step runs under.

    Attributes:
      name: of the mesh axis; None: the step runs on one device, alone.
      size: devices along it.
    """

    name: str | None = None
    size: int = 1

    def __post_init__(self) -> None:
        if self.size < 1 or (self.name is None and self.size != 1):
            raise ValueError(f"needs a name and at least one device, got {self.name}, {self.size}")

    def own(self, rows: Tree) -> Tree:
        """Takes this device's rows of arrays that are the same everywhere.

        Raises:
          ValueError: when traced with a number of rows that the devices do not divide.
        """
        if self.name is None:
            return rows
        place = jax.lax.axis_index(self.name)

        def one(leaf: Array) -> Array:
            self.share_of(leaf.shape[0], "rows")
            parts = leaf.reshape(-1, self.size, *leaf.shape[1:])
            return jax.lax.dynamic_index_in_dim(parts, place, axis=1, keepdims=False)

        return jax.tree.map(one, rows)

    def whole(self, rows: Tree) -> Tree:
        """Puts the rows of all devices in order again; the inverse of `own`."""
        if self.name is None:
            return rows
        name = self.name

        def one(leaf: Array) -> Array:
            parts = jax.lax.all_gather(leaf, name, axis=1)
            return parts.reshape(-1, *leaf.shape[1:])

        return jax.tree.map(one, rows)

    def spread(self, row_fn: Callable[[Array], Array], rows: Array) -> Array:
        """Applies a function of single rows to many, each device to its own; any number of rows."""
        if self.name is None:
            return row_fn(rows)
        count = rows.shape[0]
        missing = -count % self.size
        filled = jnp.pad(rows, ((0, missing),) + ((0, 0),) * (rows.ndim - 1), mode="edge")
        return self.whole(row_fn(self.own(filled)))[:count]

    def sum(self, values: Tree) -> Tree:
        """Adds up what the devices have; not to be differentiated."""
        return values if self.name is None else jax.lax.psum(values, self.name)

    def mean(self, values: Tree) -> Tree:
        """Averages what the devices have; not to be differentiated."""
        return values if self.name is None else jax.lax.pmean(values, self.name)

    def once(self, value: Any) -> Any:
        """A term that is the same everywhere, so that the sum over devices holds it once."""
        return value if self.name is None else value / self.size

    def from_first(self, values: Tree) -> Tree:
        """What the first device has.

        Devices that computed the same thing may differ in the last bit where additions have no
        fixed order, as in scatters on CUDA; a decision must not.
        """
        if self.name is None:
            return values
        is_first = jax.lax.axis_index(self.name) == 0
        chosen = jax.tree.map(lambda leaf: jnp.where(is_first, leaf, 0), values)
        return jax.lax.psum(chosen, self.name)

    def own_key(self, key: Key[Array, ""]) -> Key[Array, ""]:
        """A key of this device's own, for what need not be the same everywhere."""
        return key if self.name is None else jax.random.fold_in(key, jax.lax.axis_index(self.name))

    def share_of(self, count: int, what: str) -> int:
        """This device's part of a number.

        Raises:
          ValueError: when the devices do not divide it.
        """
        if count % self.size:
            raise ValueError(f"cannot split {count} {what} over {self.size} devices")
        return count // self.size


ALONE = DeviceAxis()
"""One device."""

SAME = PartitionSpec()
"""Arrays that are the same on every device."""
SPLIT = PartitionSpec(AXIS)
"""Arrays whose first axis is split over the devices."""


def axis_of(mesh: Mesh | None) -> DeviceAxis:
    """The axis of a mesh made for it; ALONE without one."""
    return ALONE if mesh is None else DeviceAxis(name=AXIS, size=mesh.shape[AXIS])


def jit_step(
    step: Callable[..., Any],
    mesh: Mesh | None,
    *,
    in_specs: Any = SAME,
    out_specs: Any = SAME,
    donate_argnums: int = 0,
) -> Callable[..., Any]:
    """Compiles a step, mapped over the devices of a mesh where there is one.

    Args:
      in_specs, out_specs: SAME or SPLIT for arguments and results, or trees of them.
    """
    if mesh is None:
        return jax.jit(step, donate_argnums=donate_argnums)

    def placed(specs: Any) -> Any:
        return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)

    mapped = jax.shard_map(step, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
    return jax.jit(
        mapped,
        in_shardings=placed(in_specs),
        out_shardings=placed(out_specs),
        donate_argnums=donate_argnums,
    )
