"""The weight pyramid with its leaves split over the devices of a mesh axis.

Every device owns the pyramid of one contiguous slice of the items; only root sums are gathered.
Two ways to draw:
* `draw_fixed_share`: every device draws n / H items of its own, no data moves, and the exact
  probabilities say so: q = ((1 - λ) w / S_h + λ / N_h) / H. Unbiased with weights 1 / (N q).
* `draw_global`: the distribution of the single pyramid, q = (1 - λ) w / S + λ / N. All devices use
  the same random bits, each resolves the draws that fall on it, and one sum shares them.

Moving to another number of devices: `gather_weights`, then `build_sharded` on the new mesh.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, Key

from . import pyramid, pyramid_write
from .base import uniform_index
from .draws import invert_cdf
from .pyramid import WeightPyramid


def build_sharded(
    weights: Float[Array, " items"],
    mesh: Mesh,
    axis: str,
    *,
    fan_out: int | None = None,
    leaf_format: str = "float32",
    has_maxima: bool = False,
) -> WeightPyramid:
    """Builds one pyramid per device over equal slices of the items, stacked along axis 0.

    Raises:
      ValueError: when there are fewer items than devices, or slices would be empty.
    """
    num_items, num_shards = weights.shape[0], mesh.shape[axis]
    per_shard = -(-num_items // num_shards)
    if per_shard * (num_shards - 1) >= num_items:
        raise ValueError(f"cannot split {num_items} items over {num_shards} devices evenly enough")
    padded = jnp.pad(weights, (0, per_shard * num_shards - num_items))
    rows = jax.device_put(
        padded.reshape(num_shards, per_shard), NamedSharding(mesh, PartitionSpec(axis))
    )

    def one(part: Float[Array, "1 per_shard"]) -> WeightPyramid:
        shard = jax.lax.axis_index(axis)
        own = pyramid.build(
            part[0], fan_out=fan_out, leaf_format=leaf_format, has_maxima=has_maxima
        )
        count = jnp.minimum(num_items - shard * per_shard, per_shard).astype(jnp.int32)
        return jax.tree.map(lambda leaf: leaf[None], own._replace(num_items=count))

    return _on_shards(one, mesh, (PartitionSpec(axis),), PartitionSpec(axis))(rows)


def draw_fixed_share(
    key: Key[Array, ""],
    shards: WeightPyramid,
    n: int,
    mesh: Mesh,
    axis: str,
    *,
    uniform_fraction: float = 0.0,
) -> tuple[Int[Array, " {n}"], Float[Array, " {n}"]]:
    """Draws n / H items on every device, from its own slice.

    A slice that weighs nothing is drawn evenly, so items of weight 0 come from there.

    Returns:
      Global indices and exact probabilities, split over the axis.
    Raises:
      ValueError: when n is not divisible by the number of devices.
    """
    num_shards = mesh.shape[axis]
    if n % num_shards:
        raise ValueError(f"cannot split {n} draws over {num_shards} devices")
    per_shard = _items_per_shard(shards)

    def one(key: Key[Array, ""], stacked: WeightPyramid, per_shard: Int[Array, ""]):
        own = jax.tree.map(lambda leaf: leaf[0], stacked)
        shard = jax.lax.axis_index(axis)
        index, probs = pyramid.draw(
            jax.random.fold_in(key, shard),
            own,
            n // num_shards,
            uniform_fraction=uniform_fraction,
        )
        return index + shard * per_shard, probs / num_shards

    specs = (PartitionSpec(), PartitionSpec(axis), PartitionSpec())
    out = (PartitionSpec(axis), PartitionSpec(axis))
    return _on_shards(one, mesh, specs, out)(key, shards, per_shard)


def draw_global(
    key: Key[Array, ""],
    shards: WeightPyramid,
    n: int,
    mesh: Mesh,
    axis: str,
    *,
    uniform_fraction: float = 0.0,
) -> tuple[Int[Array, " {n}"], Float[Array, " {n}"]]:
    """Draws n items with exactly the distribution of one pyramid over all items.

    Returns:
      Global indices and exact probabilities, the same on every device.
    """
    per_shard = _items_per_shard(shards)

    def one(key: Key[Array, ""], stacked: WeightPyramid, per_shard: Int[Array, ""]):
        own = jax.tree.map(lambda leaf: leaf[0], stacked)
        shard = jax.lax.axis_index(axis)
        roots = jax.lax.all_gather(pyramid.total(own), axis)
        num_items = jax.lax.psum(own.num_items, axis)
        words = jax.random.bits(key, (pyramid.num_words(own) + 4, n), jnp.uint32)
        coins = (words[-2:] >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)
        whole = jnp.sum(roots)
        share = jnp.where(whole > 0, uniform_fraction, 1.0)
        anywhere = uniform_index(words[-4], words[-3], num_items)
        is_uniform = coins[0] < share
        owner = jnp.where(is_uniform, anywhere // per_shard, invert_cdf(roots, coins[1]))
        local = jnp.where(
            is_uniform, anywhere - shard * per_shard, pyramid.descend(own, words[:-4])
        )
        is_own = owner == shard
        local = jnp.clip(local, 0, own.num_items - 1)
        weight = pyramid.read(own, local)
        probs = (1.0 - share) * weight / jnp.where(whole > 0, whole, 1.0) + share / num_items
        found = (
            jnp.where(is_own, local + shard * per_shard, 0),
            jnp.where(is_own, probs, 0.0),
        )
        return jax.lax.psum(found, axis)

    specs = (PartitionSpec(), PartitionSpec(axis), PartitionSpec())
    out = (PartitionSpec(), PartitionSpec())
    return _on_shards(one, mesh, specs, out)(key, shards, per_shard)


def write_sharded(
    shards: WeightPyramid,
    index: Int[Array, " n"],
    value: Float[Array, " n"],
    mesh: Mesh,
    axis: str,
    *,
    valid: Bool[Array, " n"] | None = None,
    duplicates: str = "mean",
    blend_fn: Callable[[Float[Array, " n"], Float[Array, " n"]], Float[Array, " n"]] | None = None,
) -> WeightPyramid:
    """Writes weights at global indices; every device writes the rows that fall on it.

    The rows may lie anywhere: they are gathered, so an item drawn on several devices is merged by
    the duplicate rule as if there were one device.
    """
    per_shard = _items_per_shard(shards)
    is_valid = jnp.ones(index.shape, bool) if valid is None else valid

    def one(stacked: WeightPyramid, index: Array, value: Array, valid: Array, per_shard: Array):
        own = jax.tree.map(lambda leaf: leaf[0], stacked)
        local = index - jax.lax.axis_index(axis) * per_shard
        is_own = valid & (local >= 0) & (local < own.num_items)
        written = pyramid_write.write(
            own, local, value, valid=is_own, duplicates=duplicates, blend_fn=blend_fn
        )
        return jax.tree.map(lambda leaf: leaf[None], written)

    everywhere = PartitionSpec()
    specs = (PartitionSpec(axis), everywhere, everywhere, everywhere, everywhere)
    return _on_shards(one, mesh, specs, PartitionSpec(axis))(
        shards, index, value, is_valid, per_shard
    )


def gather_weights(shards: WeightPyramid, num_items: int) -> Float[Array, " {num_items}"]:
    """Gives the weights of all items in order, in O(N)."""
    num_shards = shards.num_items.shape[0]
    per_shard = -(-num_items // num_shards)
    flat = pyramid.decode(shards.leaves).reshape(num_shards, -1)[:, :per_shard]
    return flat.reshape(-1)[:num_items]


def max_weight(shards: WeightPyramid) -> Float[Array, ""]:
    """Gives the largest weight on any device, at the cost of `pyramid.max_weight` on each."""
    return jnp.max(jax.vmap(pyramid.max_weight)(shards))


def _items_per_shard(shards: WeightPyramid) -> Int[Array, ""]:
    return shards.num_items[0]


def _on_shards(body: Callable, mesh: Mesh, in_specs: Any, out_specs: Any) -> Callable:
    return jax.shard_map(body, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
