"""Writing to a weight pyramid: batches with duplicates, and sweeps over neighbouring leaves.

Both recompute the sums, and the maxima where they are kept, above what they wrote and cost
O(batch * log N). Donate the old pyramid and nothing is copied.

Form, by measurement on XLA:CPU: duplicates are found without sorting, by letting each item's leaf
hold for a moment the number of one of the rows that write it (a sort of the batch costs as much as
the rest together); levels no longer than the batch are recomputed whole. Coarse leaf formats cannot
hold a row number, nor can float32 beyond 2^24 rows; there a table of hashes does. Few leaves per
row are a table themselves; where there are no more leaves than rows and nothing to blend, they are
written whole.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped, UInt32

from .codecs import decode, encode
from .pyramid import (
    WeightPyramid,
    clean_weights,
    clip_index,
    combine_blocks,
    level_offsets,
    level_sizes,
    levels_above,
    read_first,
    take,
    take_block,
)

DuplicateRule = Literal["mean", "max", "sum", "last"]

_SMALL = 4
"""Leaves per row up to which rows are merged in a table of all leaves."""
_MOST_ROW_NUMBERS = 2**24
"""Rows that float32 leaves can tell apart."""


def write(
    pyramid: WeightPyramid,
    index: Int[Array, " n"],
    value: Float[Array, " n"],
    *,
    valid: Bool[Array, " n"] | None = None,
    duplicates: DuplicateRule | str = "mean",
    blend_fn: Callable[[Float[Array, " n"], Float[Array, " n"]], Float[Array, " n"]] | None = None,
) -> WeightPyramid:
    """Writes weights at some items and recomputes the sums above them.

    Args:
      index: items to write; may repeat.
      value: one weight per row, or whatever `blend_fn` takes.
      valid: False marks rows to leave out.
      duplicates: how the rows of one item become one value before it is written.
      blend_fn: (old weight, merged value) -> new weight, e.g. a moving average.
    Returns:
      The pyramid with the new weights. Donate the old one: then nothing is copied.
    Raises:
      ValueError: for an unknown duplicate rule, when traced.
    Bad input: rows with a non-finite or negative value or an index out of range are ignored.
    """
    index, value = jnp.asarray(index), jnp.asarray(value, jnp.float32)
    is_used = jnp.isfinite(value) & (value >= 0) & (index >= 0) & (index < pyramid.num_items)
    is_used = is_used if valid is None else is_used & valid
    index = clip_index(pyramid, index)
    leaves, num_slots = pyramid.leaves.reshape(-1), index.shape[0]
    is_whole = leaves.shape[0] <= num_slots and blend_fn is None
    if leaves.shape[0] <= _SMALL * num_slots:
        owner, num_slots = index, leaves.shape[0]
        old = decode(leaves) if is_whole else take(leaves, index)
    elif leaves.dtype == jnp.float32 and num_slots <= _MOST_ROW_NUMBERS:
        index, old = read_first(lambda part: take(leaves, part), index)
        rows = jnp.arange(index.shape[0], dtype=jnp.float32)
        leaves = leaves.at[index].set(rows, mode="promise_in_bounds", wrap_negative_indices=False)
        owner = take(leaves, index).astype(jnp.int32)
    else:
        index, old = read_first(lambda part: take(leaves, part), index)
        owner = _owners_by_hashing(index)
    merged, has_value = _merge(owner, num_slots, value, is_used, duplicates)
    if is_whole:
        index = jnp.arange(num_slots, dtype=jnp.int32)
    else:
        merged, has_value = take(merged, owner), take(has_value, owner) > 0
    new = merged if blend_fn is None else blend_fn(old, merged)
    is_new = has_value & jnp.isfinite(new)
    new = jnp.where(is_new, clean_weights(new), old)
    new = jnp.where(
        is_new, encode(new, leaves.dtype, index, pyramid.writes), encode(old, leaves.dtype)
    )
    if is_whole:
        leaves = new
    else:
        leaves = leaves.at[index].set(new, mode="promise_in_bounds", wrap_negative_indices=False)
    leaves = leaves.reshape(pyramid.leaves.shape)
    maxima = pyramid.maxima
    return pyramid._replace(
        leaves=leaves,
        sums=_refresh(leaves, pyramid.sums, index, jnp.add),
        maxima=None if maxima is None else _refresh(leaves, maxima, index, jnp.maximum),
        writes=_one_more(pyramid.writes),
    )


def sweep(
    pyramid: WeightPyramid,
    position: Int[Array, ""],
    num_blocks: int,
    change_fn: Callable[[Float[Array, "..."], Int[Array, "..."]], Float[Array, "..."]],
) -> tuple[WeightPyramid, Int[Array, ""]]:
    """Changes the weights of some neighbouring blocks, a different part at every call.

    Forgetting and staleness at O(batch) per step: after blocks / num_blocks calls every leaf has
    been changed exactly once. Weight 0 stays 0, so masked items stay masked.

    Args:
      position: first block of the part, as returned by the last call; start at 0.
      num_blocks: blocks per call.
      change_fn: (old weights, items) -> new weights.
    Returns:
      The pyramid and the position of the next part.
    """
    leaves, fan = pyramid.leaves, pyramid.leaves.shape[1]
    count = min(num_blocks, leaves.shape[0])
    start = jnp.minimum(position, leaves.shape[0] - count)
    part = jax.lax.dynamic_slice(leaves, (start, jnp.zeros_like(start)), (count, fan))
    old = decode(part)
    is_due = (start + jnp.arange(count) >= position)[:, None] & (old > 0)
    place = (start + jnp.arange(count))[:, None] * fan + jnp.arange(fan)[None]
    new = clean_weights(jnp.where(is_due, change_fn(old, place), old))
    new = jnp.where(is_due, encode(new, leaves.dtype, place, pyramid.writes), part)
    leaves = jax.lax.dynamic_update_slice(leaves, new, (start, jnp.zeros_like(start)))
    maxima = pyramid.maxima
    position = jnp.where(position + count >= leaves.shape[0], 0, position + count)
    swept = pyramid._replace(
        leaves=leaves,
        sums=_refresh_range(leaves, pyramid.sums, start, count, jnp.add),
        maxima=None
        if maxima is None
        else _refresh_range(leaves, maxima, start, count, jnp.maximum),
        writes=_one_more(pyramid.writes),
    )
    return swept, position


def _one_more(writes: UInt32[Array, ""] | None) -> UInt32[Array, ""] | None:
    return None if writes is None else writes + jnp.uint32(1)


def _refresh_range(
    leaves: Shaped[Array, "blocks fan"],
    nodes: Float[Array, " nodes"],
    start: Int[Array, ""],
    count: int,
    combine_fn: Callable[..., Array],
) -> Float[Array, " nodes"]:
    """Recomputes the sums or maxima above `count` neighbouring blocks."""
    fan = leaves.shape[1]
    sizes, offsets = level_sizes(*leaves.shape), level_offsets(*leaves.shape)
    children, child_offset = leaves.reshape(-1), 0
    for level in range(len(sizes) - 1, -1, -1):
        start = jnp.minimum(start, sizes[level] - count)
        below = jax.lax.dynamic_slice(children, (child_offset + start * fan,), (count * fan,))
        fresh = combine_blocks(below.reshape(count, fan), combine_fn)
        nodes = jax.lax.dynamic_update_slice(nodes, fresh, (offsets[level] + start,))
        children, child_offset = nodes, offsets[level]
        start = start // fan
        count = min(-(-count // fan) + 1, sizes[level - 1]) if level else count
    return nodes


def _merge(
    owner: Int[Array, " n"],
    num_slots: int,
    value: Float[Array, " n"],
    is_used: Bool[Array, " n"],
    duplicates: str,
) -> tuple[Float[Array, " {num_slots}"], Bool[Array, " {num_slots}"]]:
    """Combines the rows of each owner; also says which owners have any row in use."""
    zeros = jnp.zeros(num_slots, value.dtype)
    if duplicates == "last":
        rank = jnp.where(is_used, jnp.arange(value.shape[0]), -1)
        last = jnp.full(num_slots, -1).at[owner].max(rank)
        return value[jnp.maximum(last, 0)], last >= 0
    count = zeros.at[owner].add(is_used.astype(value.dtype))
    value = jnp.where(is_used, value, 0.0)
    if duplicates == "max":
        return zeros.at[owner].max(value), count > 0
    total = zeros.at[owner].add(value)
    if duplicates == "sum":
        return total, count > 0
    if duplicates == "mean":
        return total / jnp.maximum(count, 1.0), count > 0
    raise ValueError(f"duplicates must be mean, max, sum or last, got {duplicates!r}")


def _owners_by_hashing(index: Int[Array, " n"]) -> Int[Array, " n"]:
    """Gives each row the number of one row with the same item, the same for all rows of an item.

    All rows write their number at their item's hash; who finds a row of its own item there is done,
    the others try another hash. Every round ends for one item at least, about half of them.
    """
    n = index.shape[0]
    bits = (2 * n - 1).bit_length()
    rows, item = jnp.arange(n, dtype=jnp.int32), index.astype(jnp.uint32)

    def is_open(state: tuple[Array, ...]) -> Bool[Array, ""]:
        return jnp.any(state[0] < 0)

    def one_round(state: tuple[Array, ...]) -> tuple[Array, ...]:
        owner, table, factor = state
        slot = jnp.where(owner < 0, (item * factor) >> (32 - bits), 2**bits)
        table = table.at[slot].set(rows, mode="drop")
        found = table.at[slot].get(mode="clip")
        is_done = (owner < 0) & (index[found] == index)
        return jnp.where(is_done, found, owner), table, factor * jnp.uint32(0x85EBCA6B)

    first = (jnp.full(n, -1, jnp.int32), jnp.zeros(2**bits, jnp.int32), jnp.uint32(0x9E3779B1))
    return jax.lax.while_loop(is_open, one_round, first)[0]


def _refresh(
    leaves: Shaped[Array, "blocks fan"],
    nodes: Float[Array, " nodes"],
    index: Int[Array, " n"],
    combine_fn: Callable[..., Array],
) -> Float[Array, " nodes"]:
    """Recomputes the sums or maxima above written leaves, level by level, from their children."""
    fan = leaves.shape[1]
    sizes = level_sizes(*leaves.shape)
    offsets = level_offsets(*leaves.shape)
    children, child_offset, node = leaves.reshape(-1), 0, index
    level = len(sizes) - 1
    while level >= 0 and sizes[level] > index.shape[0]:
        node = node // fan
        fresh = combine_blocks(take_block(children, child_offset // fan + node, fan), combine_fn)
        nodes = nodes.at[offsets[level] + node].set(
            fresh, mode="promise_in_bounds", wrap_negative_indices=False
        )
        children, child_offset = nodes, offsets[level]
        level -= 1
    if level < 0:
        return nodes
    below = children[child_offset : child_offset + sizes[level] * fan]
    above = levels_above(below.reshape(-1, fan)[: sizes[level]], level + 1, combine_fn)
    return jax.lax.dynamic_update_slice(nodes, above, (0,))
