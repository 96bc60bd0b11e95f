"""Which devices a run uses, and arrays on all of them or on one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding

from samplers.device_axis import AXIS, SAME

from . import processes

ALL = "all"


def choose(asked: str | None) -> Mesh | None:
    """Makes the mesh that --devices asks for; None for a single device.

    Without a word a single process takes one device, and several processes take all they have.

    Raises:
      ValueError: for what is not a number or "all", more devices than there are, and a part of
        the devices of several processes.
    """
    total = jax.device_count()
    if asked is None:
        number = total if processes.count() > 1 else 1
    elif asked == ALL:
        number = total
    elif asked.isdigit() and int(asked) > 0:
        number = int(asked)
    else:
        raise ValueError(f"--devices takes a number or all, got {asked!r}")
    if number > total:
        raise ValueError(f"--devices {number}: JAX finds {total} ({jax.default_backend()})")
    if processes.count() > 1 and number != total:
        raise ValueError(
            f"--devices {number}: a run of {processes.count()} processes uses all {total} devices; "
            "start fewer processes, or show them fewer devices"
        )
    if number == 1:
        return None
    return jax.make_mesh(
        (number,), (AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:number]
    )


def words(mesh: Mesh) -> str:
    """Says what a mesh is, for people."""
    kind = mesh.devices.flat[0].device_kind
    found = f"every step is shared by {mesh.size} devices ({kind})"
    return found if processes.count() == 1 else f"{found} of {processes.count()} processes"


def spread(tree: Any, mesh: Mesh | None, specs: Any = SAME) -> Any:
    """Puts arrays that every process has on all devices.

    Args:
      specs: SAME, SPLIT, or a tree of them that begins like `tree`.
    """
    if mesh is None:
        return tree
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
    if processes.count() == 1:
        return jax.device_put(tree, shardings)

    def place(sharding: NamedSharding, part: Any) -> Any:
        return jax.tree.map(lambda leaf: _placed(leaf, sharding), part)

    return jax.tree.map(place, shardings, tree)


def spread_from_first(tree: Any, mesh: Mesh | None, specs: Any = SAME) -> Any:
    """Puts the first process's arrays on all devices; the others give arrays of the same shapes.

    The result may be donated: no two arrays in it share memory, as those of a fresh state may.
    """
    if mesh is None:
        return tree
    if processes.count() == 1:
        tree = jax.tree.map(jnp.copy, tree)
    else:
        from jax.experimental import multihost_utils

        tree = multihost_utils.broadcast_one_to_all(jax.tree.map(np.asarray, tree))
    return spread(tree, mesh, specs)


def local(tree: Any) -> Any:
    """Takes one device's copy of arrays that are the same on all, without moving anything."""

    def one(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1:
            if not leaf.is_fully_replicated:
                raise ValueError("needs an array that is the same on all devices")
            return leaf.addressable_data(0)
        return leaf

    return jax.tree.map(one, tree)


def whole(tree: Any) -> Any:
    """Puts arrays together that are split over devices; every process has to ask for them.

    Returns:
      The tree with its replicated arrays on one device and the others on the host.
    """

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_replicated:
            return local(leaf)
        if leaf.is_fully_addressable:
            return np.asarray(leaf)
        from jax.experimental import multihost_utils

        return multihost_utils.process_allgather(leaf, tiled=True)

    return jax.tree.map(one, tree)


def _placed(leaf: Any, sharding: NamedSharding) -> Any:
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _placed(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    values = np.asarray(leaf)
    return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])
