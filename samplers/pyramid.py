"""The weight pyramid: leaf weights with the sums of blocks above them.

It is both a multi-scale map and a sum tree. The leaves lie in blocks of `fan`; above them lie the
block sums, the sums of blocks of those, and so on up to one root block. Drawing and writing cost
O(batch * log N); nothing is O(N) after `build`.

Why it stays exact in float32:
* Drawing descends from the root and decides at each node among `fan` children only. One 32-bit
  word serves two levels: 24 bits decide at the upper one, the remainder, refined by the 8 bits
  left, at the lower one. Probabilities are resolved to 2^-24 of the weight of each block, so no
  leaf becomes unreachable because the set is large.
* Writing recomputes the parents of what was written from their children and never adds
  differences, so sums cannot drift, whatever happens to the weights.

Form, by measurement on XLA:CPU: gathers of single elements that fuse with the running sum over
a block are 2 to 3 times as fast as gathers of whole blocks; `cumsum` is slow along short axes, so
block sums are unrolled; the descent is a loop, since XLA fuses unrolled levels into one expression
of exponential size; levels no longer than the batch are recomputed whole.

Source: the sum tree of prioritised replay (Schaul et al. 2016) with wide blocks; the rules about
fresh random bits and recomputed parents answer measured faults of float32 sum trees.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from .base import uniform_index

MIN_WEIGHT = 1e-30
MAX_WEIGHT = 1e18

DuplicateRule = Literal["mean", "max", "sum", "last"]


class WeightPyramid(NamedTuple):
    """Leaf weights and the sums above them.

    Attributes:
      leaves: the weights, in blocks; padding weighs 0.
      sums: the levels above, root block first, each padded to whole blocks.
      num_items: how many leaves are real.
    """

    leaves: Float[Array, "blocks fan"]
    sums: Float[Array, " nodes"]
    num_items: Int[Array, ""]


def default_fan_out() -> int:
    """Gives the block size for the default backend: 16 on CPU (measured), 32 elsewhere."""
    return 16 if jax.default_backend() == "cpu" else 32


def clean_weights(weights: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Makes any floats usable as weights: NaN and negatives 0, the rest at most MAX_WEIGHT.

    Weights below MIN_WEIGHT become 0, so that no sum or quotient meets a subnormal number.
    """
    return jnp.where(weights >= MIN_WEIGHT, jnp.minimum(weights, MAX_WEIGHT), 0.0)


def build(weights: Float[Array, " items"], *, fan_out: int | None = None) -> WeightPyramid:
    """Builds the pyramid over given leaf weights in O(N).

    Raises:
      ValueError: when there are no weights or the fan-out is below 2.
    Bad input: NaN and negative weights count as 0, see `clean_weights`.
    """
    fan = default_fan_out() if fan_out is None else fan_out
    if fan < 2:
        raise ValueError(f"fan_out must be at least 2, got {fan}")
    if weights.shape[0] < 1:
        raise ValueError("a pyramid needs at least one weight, got none")
    leaves = _pad_to_blocks(clean_weights(weights.astype(jnp.float32)), fan).reshape(-1, fan)
    sums = _levels_above(leaves, len(_level_sizes(leaves.shape[0], fan)))
    return WeightPyramid(leaves, sums, jnp.asarray(weights.shape[0], jnp.int32))


def total(pyramid: WeightPyramid) -> Float[Array, ""]:
    """Gives the sum of all weights."""
    fan = pyramid.leaves.shape[1]
    return jnp.sum(pyramid.sums[:fan]) if pyramid.sums.shape[0] else jnp.sum(pyramid.leaves)


def read(pyramid: WeightPyramid, index: Int[Array, " n"]) -> Float[Array, " n"]:
    """Gives the weights of some items; an index out of range is clipped."""
    return _take(pyramid.leaves, _clip_index(pyramid, index))


def probability(pyramid: WeightPyramid, index: Int[Array, " n"]) -> Float[Array, " n"]:
    """Gives the probability that one draw returns each item; 1 / N each when all weigh 0."""
    root = total(pyramid)
    share = read(pyramid, index) / jnp.where(root > 0, root, 1.0)
    return jnp.where(root > 0, share, 1.0 / pyramid.num_items)


def probabilities(pyramid: WeightPyramid, num_items: int) -> Float[Array, " {num_items}"]:
    """Gives the probability of every item, in O(N): for tests and pictures."""
    root = total(pyramid)
    share = pyramid.leaves.reshape(-1)[:num_items] / jnp.where(root > 0, root, 1.0)
    return jnp.where(root > 0, share, 1.0 / num_items)


def draw(
    key: Key[Array, ""],
    pyramid: WeightPyramid,
    n: int,
    *,
    uniform_fraction: float | Float[Array, ""] = 0.0,
) -> tuple[Int[Array, " {n}"], Float[Array, " {n}"]]:
    """Draws n items independently, with replacement, in proportion to weight.

    Args:
      n: how many.
      uniform_fraction: λ; each draw is uniform over all items with this probability.
    Returns:
      The items, and the exact probability (1 - λ) w / Σw + λ / N of each.
    Bad input: when all items weigh 0 the draw is uniform over them.
    """
    words = jax.random.bits(key, (num_words(pyramid) + 1, n), jnp.uint32)
    branch, _ = _split_word(words[-1])
    is_uniform = (total(pyramid) <= 0) | (branch < uniform_fraction)
    second = words[1] if words.shape[0] > 2 else jnp.zeros_like(words[0])
    uniform = uniform_index(words[0], second, pyramid.num_items)
    index = jnp.where(is_uniform, uniform, descend(pyramid, words[:-1]))
    return _with_probability(pyramid, index, uniform_fraction)


def _with_probability(
    pyramid: WeightPyramid, index: Int[Array, " n"], uniform_fraction: float | Float[Array, ""]
) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
    """Pairs drawn items with their exact probabilities."""

    def look_up(part: Int[Array, " half"]) -> Float[Array, " half"]:
        share = (1.0 - uniform_fraction) * probability(pyramid, part)
        return share + uniform_fraction / pyramid.num_items

    return _read_first(look_up, index)


def num_words(pyramid: WeightPyramid) -> int:
    """Gives how many 32-bit random words one descent uses: one for every two levels."""
    return (len(_level_sizes(*pyramid.leaves.shape)) + 2) // 2


def descend(pyramid: WeightPyramid, words: UInt32[Array, "words n"]) -> Int[Array, " n"]:
    """Finds the leaves that given random words select: the deterministic core of `draw`.

    An item of weight 0 is never selected while another weighs more.
    """
    fan = pyramid.leaves.shape[1]
    offsets = _level_offsets(pyramid.leaves.shape[0], fan)
    depth = len(offsets) - 1
    starts = jnp.asarray(offsets, jnp.int32)

    def choose_in_level(
        level: Int[Array, ""], carry: tuple[Int[Array, " n"], Float[Array, " n"]]
    ) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
        node, fraction = carry
        upper, rest = _split_word(words[level // 2])
        is_fresh = level % 2 == 0
        fraction = jnp.where(is_fresh, upper, fraction)
        rest = jnp.where(is_fresh, rest, 0.0)
        child, fraction = _choose_child(
            pyramid.sums, starts[level] + node * fan, fraction, rest, fan
        )
        return node * fan + child, fraction

    node = jnp.zeros(words.shape[1], jnp.int32)
    fraction = jnp.zeros(words.shape[1], jnp.float32)
    if depth:
        node, fraction = jax.lax.fori_loop(0, depth, choose_in_level, (node, fraction))
    if depth % 2 == 0:
        fraction, _ = _split_word(words[depth // 2])
    base = node * fan
    child, _ = _choose_child(pyramid.leaves, base, fraction, jnp.zeros_like(fraction), fan)
    return jnp.minimum(base + child, pyramid.num_items - 1)


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
    is_used = jnp.isfinite(value) & (value >= 0) & (index >= 0) & (index < pyramid.num_items)
    is_used = is_used if valid is None else is_used & valid
    index = _clip_index(pyramid, index)
    leaves = pyramid.leaves.reshape(-1)
    index, old = _read_first(lambda part: _take(leaves, part), index)
    # Each item's leaf names, for a moment, one of the rows that write it: its owner.
    rows = jnp.arange(index.shape[0], dtype=jnp.float32)
    if duplicates == "last":
        leaves = leaves.at[index].set(-1.0, mode="promise_in_bounds")
        leaves = leaves.at[index].max(jnp.where(is_used, rows, -1.0), mode="promise_in_bounds")
    else:
        leaves = leaves.at[index].set(rows, mode="promise_in_bounds")
    owner = _take(leaves, index).astype(jnp.int32)
    merged, has_value = _merge(owner, value, is_used, duplicates)
    new = merged if blend_fn is None else blend_fn(old, merged)
    new = jnp.where(has_value & jnp.isfinite(new), clean_weights(new), old)
    leaves = leaves.at[index].set(new, mode="promise_in_bounds")
    leaves = leaves.reshape(pyramid.leaves.shape)
    return pyramid._replace(leaves=leaves, sums=_refresh(leaves, pyramid.sums, index))


def _read_first(
    read_fn: Callable[[Int[Array, " half"]], Float[Array, " half"]], index: Int[Array, " n"]
) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
    """Reads at some items and hands the items back with what was read there.

    A write at the items handed back waits for this read, so it can work in place. XLA fuses a plain
    read into what uses it, possibly after the write, and then copies all leaves to make that right
    (an optimisation barrier does not stop it on CPU; a loop of two rounds does).
    """

    def one_round(part: Int[Array, " half"]) -> tuple[Int[Array, " half"], Float[Array, " half"]]:
        value = read_fn(part)
        return part + (0.0 * value).astype(jnp.int32), value

    n = index.shape[0]
    halves = jnp.pad(index, (0, n % 2)).reshape(2, -1)
    index, value = jax.lax.map(one_round, halves)
    return index.reshape(-1)[:n], value.reshape(-1)[:n]


def _merge(
    owner: Int[Array, " n"],
    value: Float[Array, " n"],
    is_used: Bool[Array, " n"],
    duplicates: str,
) -> tuple[Float[Array, " n"], Bool[Array, " n"]]:
    """Combines the rows of one owner; also says which owners have any row in use."""
    if duplicates == "last":
        return _take(value, jnp.maximum(owner, 0)), owner >= 0
    zeros = jnp.zeros_like(value)
    count = _take(zeros.at[owner].add(is_used.astype(value.dtype)), owner)
    value = jnp.where(is_used, value, 0.0)
    if duplicates == "max":
        return _take(zeros.at[owner].max(value), owner), count > 0
    merged = _take(zeros.at[owner].add(value), owner)
    if duplicates == "sum":
        return merged, count > 0
    if duplicates == "mean":
        return merged / jnp.maximum(count, 1.0), count > 0
    raise ValueError(f"duplicates must be mean, max, sum or last, got {duplicates!r}")


def _refresh(
    leaves: Float[Array, "blocks fan"], sums: Float[Array, " nodes"], index: Int[Array, " n"]
) -> Float[Array, " nodes"]:
    """Recomputes the sums above written leaves, level by level, from their children."""
    fan = leaves.shape[1]
    sizes = _level_sizes(*leaves.shape)
    offsets = _level_offsets(*leaves.shape)
    children, child_offset, node = leaves.reshape(-1), 0, index
    level = len(sizes) - 1
    while level >= 0 and sizes[level] > index.shape[0]:
        node = node // fan
        fresh = _take(children, child_offset + node * fan)
        for child in range(1, fan):
            fresh = fresh + _take(children, child_offset + node * fan + child)
        sums = sums.at[offsets[level] + node].set(fresh, mode="promise_in_bounds")
        children, child_offset = sums, offsets[level]
        level -= 1
    if level < 0:
        return sums
    below = children[child_offset : child_offset + _padded(sizes[level] * fan, fan)]
    above = _levels_above(below.reshape(-1, fan)[: sizes[level]], level + 1)
    return jax.lax.dynamic_update_slice(sums, above, (0,))


def _choose_child(
    nodes: Float[Array, "..."],
    base: Int[Array, " n"],
    fraction: Float[Array, " n"],
    rest: Float[Array, " n"],
    fan: int,
) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
    """Picks the child of each block where `fraction` of the block's weight falls.

    Returns:
      The child's place in its block, and the fraction left inside it, refined by `rest`.
    """
    cumulative = [_take(nodes, base)]
    for child in range(1, fan):
        cumulative.append(cumulative[-1] + _take(nodes, base + child))
    target = fraction * cumulative[-1]
    chosen = jnp.zeros_like(base)
    below = jnp.zeros_like(target)
    above = cumulative[-1]
    for edge in cumulative[:-1]:
        is_passed = edge <= target
        chosen = chosen + is_passed
        below = jnp.where(is_passed, edge, below)
    for edge in reversed(cumulative[:-1]):
        above = jnp.where(edge > target, edge, above)
    left = (target - below + rest * cumulative[-1]) / jnp.maximum(above - below, MIN_WEIGHT)
    return chosen, jnp.clip(left, 0.0, 1.0 - 2.0**-24)


def _split_word(word: UInt32[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Splits 32 random bits into a fraction in steps of 2^-24 and a rest below 2^-24."""
    upper = (word >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)
    return upper, (word & 0xFF).astype(jnp.float32) * jnp.float32(2.0**-32)


def _level_sizes(blocks: int, fan: int) -> list[int]:
    """Gives the number of nodes on each level above the leaves, root block first."""
    sizes = []
    while blocks > 1:
        sizes.append(blocks)
        blocks = -(-blocks // fan)
    return sizes[::-1]


def _level_offsets(blocks: int, fan: int) -> list[int]:
    """Gives where each level starts in `sums`, and after them the length of `sums`."""
    offsets = [0]
    for size in _level_sizes(blocks, fan):
        offsets.append(offsets[-1] + _padded(size, fan))
    return offsets


def _levels_above(blocks: Float[Array, "blocks fan"], num_levels: int) -> Float[Array, " nodes"]:
    """Computes the given number of levels above some blocks, root block first."""
    fan = blocks.shape[1]
    levels: list[Float[Array, " nodes"]] = [jnp.zeros(0, jnp.float32)]
    for _ in range(num_levels):
        levels.append(_pad_to_blocks(jnp.sum(blocks, axis=1, dtype=jnp.float32), fan))
        blocks = levels[-1].reshape(-1, fan)
    return jnp.concatenate(levels[::-1])


def _padded(size: int, fan: int) -> int:
    return -(-size // fan) * fan


def _pad_to_blocks(nodes: Float[Array, " nodes"], fan: int) -> Float[Array, " padded"]:
    return jnp.pad(nodes, (0, -nodes.shape[0] % fan))


def _take(nodes: Float[Array, "..."], index: Int[Array, " n"]) -> Float[Array, " n"]:
    return nodes.reshape(-1).at[index].get(mode="promise_in_bounds")


def _clip_index(pyramid: WeightPyramid, index: Int[Array, " n"]) -> Int[Array, " n"]:
    return jnp.clip(index, 0, pyramid.num_items - 1)
