"""The weight pyramid: leaf weights with the sums of blocks above them.

It is both a multi-scale map and a sum tree. The leaves lie in blocks of `fan`; above them lie the
block sums, the sums of blocks of those, and so on up to one root block. Drawing and writing cost
O(batch * log N); nothing is O(N) after `build`.

Why it stays exact in float32:

* Drawing descends from the root and decides at each node among `fan` children only. One 32-bit
  word serves two levels: 24 bits decide at the upper one, the remainder, refined by the 8 bits
  left, at the lower one. Probabilities are resolved to 2^-24 of the weight of a block at the upper
  level and to 2^-32 of the weight of its parent at the lower one, so no leaf becomes unreachable
  because the set is large. (A remainder kept over more levels would bring
  evenly spread draws into order, and float32 steps of the upper levels into the probabilities.)
* Writing (`pyramid_write`) recomputes the parents of what was written from their children and
  never adds differences, so sums cannot drift, whatever happens to the weights.

Form, by measurement. On XLA:CPU small batches pay for the number of kernels, about 7 us each, so a
block is read by one gather and a level is one turn of a loop (unrolled, XLA would fuse the levels
into one expression of exponential size) with one result, since each result is worked out by itself;
`cumsum` and `sum` are slow along short axes, so running sums are unrolled. A block of 16 is a line
of cache. On a GPU turns of a loop are what costs: there levels are one kernel each between
optimisation barriers, and a draw inside a larger program takes a ninth of the time.

Source: the sum tree of prioritised replay (Schaul et al. 2016) with wide blocks; the rules about
fresh random bits and recomputed parents answer measured faults of float32 sum trees.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Shaped, UInt32

from .base import check_fraction, check_key, check_mask, multiply_high, uniform_index
from .codecs import decode, encode, leaf_dtype
from .in_halves import in_rounds, worked_out
from .threefry import unrolled

MIN_WEIGHT = 1e-30
MAX_WEIGHT = 1e18

DrawMethod = Literal["multinomial", "stratified", "systematic"]


class WeightPyramid(NamedTuple):
    """Leaf weights and the sums above them.

    Attributes:
      leaves: the weights, in blocks, in a format of `codecs`; padding weighs 0.
      sums: the levels above, root block first, each padded to whole blocks.
      num_items: how many leaves are real.
      maxima: the largest leaf below each node, laid out like `sums`; None: not kept.
      writes: writes so far, which salt the rounding of coarse leaves; None: leaves are float32.
    """

    leaves: Shaped[Array, "blocks fan"]
    sums: Float[Array, " nodes"]
    num_items: Int[Array, ""]
    maxima: Float[Array, " nodes"] | None = None
    writes: UInt32[Array, ""] | None = None


def default_fan_out() -> int:
    """Gives the block size for the default backend: 16 on CPU (measured), 32 elsewhere."""
    return 16 if jax.default_backend() == "cpu" else 32


def clean_weights(weights: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Makes any floats usable as weights: NaN and negatives 0, the rest at most MAX_WEIGHT.

    Weights below MIN_WEIGHT become 0, so that no sum or quotient meets a subnormal number.
    """
    return jnp.where(weights >= MIN_WEIGHT, jnp.minimum(weights, MAX_WEIGHT), 0.0)


def build(
    weights: Float[Array, " items"],
    *,
    fan_out: int | None = None,
    leaf_format: str = "float32",
    has_maxima: bool = False,
) -> WeightPyramid:
    """Builds the pyramid over given leaf weights in O(N).

    Args:
      fan_out: leaves per block; None: `default_fan_out`.
      leaf_format: "float32", "bfloat16" or "uint8", see `codecs`.
      has_maxima: keep the largest weight of each block as well, exact after every write, so that
        `max_weight` is O(1). Takes as much memory as the sums; a write recomputes both.
    Raises:
      ValueError: for weights that are no list or none, a fan-out not from 2 to 256, an unknown
        format.
    Bad input: NaN and negative weights count as 0, see `clean_weights`.
    """
    fan = default_fan_out() if fan_out is None else fan_out
    if not 2 <= fan <= 256:
        raise ValueError(f"fan_out must be from 2 to 256, got {fan}")
    if weights.ndim != 1 or not weights.shape[0]:
        raise ValueError(f"needs a list of at least one weight, got the shape {weights.shape}")
    codes = encode(clean_weights(weights.astype(jnp.float32)), leaf_dtype(leaf_format))
    leaves = pad_to_blocks(codes, fan).reshape(-1, fan)
    num_levels = len(level_sizes(*leaves.shape))
    return WeightPyramid(
        leaves,
        levels_above(leaves, num_levels),
        jnp.asarray(weights.shape[0], jnp.int32),
        levels_above(leaves, num_levels, jnp.maximum) if has_maxima else None,
        None if leaves.dtype == jnp.float32 else jnp.zeros((), jnp.uint32),
    )


def build_mask(mask: Bool[Array, "..."], num_items: int) -> WeightPyramid:
    """Builds the pyramid of a mask, one byte per item: weight 1 where True, else 0.

    Raises:
      ValueError: for another number of values, or when none is True.
    """
    check_mask(mask, num_items)
    return build(mask.reshape(-1).astype(jnp.float32), leaf_format="uint8")


def num_allowed(mask: WeightPyramid | None, num_items: int) -> int | Float[Array, ""]:
    """Counts the items a mask allows; all of them when there is none."""
    return num_items if mask is None else total(mask)


def total(pyramid: WeightPyramid) -> Float[Array, ""]:
    """Gives the sum of all weights."""
    fan = pyramid.leaves.shape[1]
    if pyramid.sums.shape[0]:
        return jnp.sum(pyramid.sums[:fan])
    return jnp.sum(decode(pyramid.leaves))


def max_weight(pyramid: WeightPyramid) -> Float[Array, ""]:
    """Gives the largest weight of any item: O(1) where the pyramid keeps maxima, else O(N)."""
    if pyramid.maxima is not None and pyramid.maxima.shape[0]:
        return jnp.max(pyramid.maxima[: pyramid.leaves.shape[1]])
    return jnp.max(decode(pyramid.leaves))


def read(pyramid: WeightPyramid, index: Int[Array, " n"]) -> Float[Array, " n"]:
    """Gives the weights of some items; an index out of range is clipped."""
    return take(pyramid.leaves, clip_index(pyramid, index))


def leaf_weights(pyramid: WeightPyramid, num_items: int) -> Float[Array, " {num_items}"]:
    """Gives the weights of all items, in O(N)."""
    return decode(pyramid.leaves).reshape(-1)[:num_items]


def probability(pyramid: WeightPyramid, index: Int[Array, " n"]) -> Float[Array, " n"]:
    """Gives the probability that one draw returns each item; 1 / N each when all weigh 0."""
    root = total(pyramid)
    share = read(pyramid, index) / jnp.where(root > 0, root, 1.0)
    return jnp.where(root > 0, share, 1.0 / pyramid.num_items)


def probabilities(pyramid: WeightPyramid, num_items: int) -> Float[Array, " {num_items}"]:
    """Gives the probability of every item, in O(N): for tests and pictures."""
    root = total(pyramid)
    share = leaf_weights(pyramid, num_items) / jnp.where(root > 0, root, 1.0)
    return jnp.where(root > 0, share, 1.0 / num_items)


def draw(
    key: Key[Array, ""],
    pyramid: WeightPyramid,
    n: int,
    *,
    uniform_fraction: float | Float[Array, ""] = 0.0,
    prior: WeightPyramid | None = None,
    method: DrawMethod = "multinomial",
) -> tuple[Int[Array, " {n}"], Float[Array, " {n}"]]:
    """Draws n items with replacement in proportion to weight, mixed with a uniform share.

    Args:
      n: how many.
      uniform_fraction: λ; each draw comes from the prior with this probability.
      prior: what the share λ is drawn from: a pyramid of the same fan-out, for instance of a
        mask; None: uniform over all items.
      method: "multinomial" draws independently; "stratified" and "systematic" spread the n
        draws evenly over the two top levels and keep the expected counts; rows then come in the
        order of the blocks there, and walk memory forward. "stratified" never raises the variance
        of a mean; "systematic" can, where what is averaged repeats with the items.
    Returns:
      The items, and the exact probability (1 - λ) w / Σw + λ prior of each.
    Raises:
      ValueError: for an old-style key, a share known to lie outside [0, 1], a prior of another
        fan-out, an unknown method.
    Bad input: when all items weigh 0 the draw is from the prior, and the probability as well.
    """
    check_key(key)
    is_plain = isinstance(uniform_fraction, int | float) and uniform_fraction == 0
    if isinstance(uniform_fraction, int | float):
        check_fraction("uniform_fraction", uniform_fraction)
    if prior is not None and prior.leaves.shape[1] != pyramid.leaves.shape[1]:
        raise ValueError(
            f"prior and pyramid need the same fan-out, got {prior.leaves.shape[1]} and "
            f"{pyramid.leaves.shape[1]}"
        )
    rows = num_words(pyramid)
    words = jax.random.bits(unrolled(key), (rows if is_plain else rows + 1, n), jnp.uint32)
    share = jnp.where(total(pyramid) > 0, uniform_fraction, 1.0)
    is_other = share > 0 if is_plain else _split_word(words[-1])[0] < share
    words = words[:rows]
    if method != "multinomial":
        words = words.at[0].set(spread_words(words[0], method))
    if prior is None:
        second = words[1] if rows > 1 else jnp.zeros_like(words[0])
        other = uniform_index(words[0], second, pyramid.num_items)
    else:
        other = descend(prior, words)
    index = jnp.where(is_other, other, descend(pyramid, words))
    return read_first(lambda part: mixture_probability(pyramid, part, share, prior), index)


def mixture_probability(
    pyramid: WeightPyramid,
    index: Int[Array, " n"],
    uniform_fraction: float | Float[Array, ""],
    prior: WeightPyramid | None = None,
) -> Float[Array, " n"]:
    """Gives the probability (1 - λ) w / Σw + λ prior of some items, as `draw` uses it."""
    share = jnp.where(total(pyramid) > 0, uniform_fraction, 1.0)
    flat = 1.0 / pyramid.num_items if prior is None else probability(prior, index)
    return (1.0 - share) * probability(pyramid, index) + share * flat


def spread_words(words: UInt32[Array, " n"], method: str) -> UInt32[Array, " n"]:
    """Turns n independent 32-bit words into stratified or systematic ones.

    Stratified: word j is uniform in the j-th of n equal intervals. Systematic: all words share
    the place in their interval, so every run of items that ends with blocks of the two top levels
    is hit floor(n p) or ceil(n p) times.
    """
    n = words.shape[0]
    if method == "multinomial":
        return words
    if method == "systematic":
        words = jnp.full_like(words, 0) + words[0]
    elif method != "stratified":
        raise ValueError(f"method must be multinomial, stratified or systematic, got {method!r}")
    if n == 1:
        return words
    slot = jnp.arange(n, dtype=jnp.uint32)
    width, remainder = divmod(2**32, n)
    start = slot * jnp.uint32(width)
    extra = jnp.floor(slot.astype(jnp.float32) * jnp.float32(remainder / n)).astype(jnp.uint32)
    return start + extra + multiply_high(words, jnp.uint32(width))


def read_first(
    read_fn: Callable[[Int[Array, " half"]], Float[Array, " half"]], index: Int[Array, " n"]
) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
    """Reads at some items and hands the items back with what was read there.

    A write at the items handed back waits for this read, so it can work in place. XLA fuses a plain
    read into what uses it, possibly after the write, and then copies all leaves to make that right;
    `worked_out` stops it.
    """

    def one_round(part: Int[Array, " half"]) -> tuple[Int[Array, " half"], Float[Array, " half"]]:
        value = read_fn(part)
        return part + (0.0 * value).astype(jnp.int32), value

    return worked_out(one_round, index)


def num_words(pyramid: WeightPyramid) -> int:
    """Gives how many 32-bit random words one descent uses: one for every two levels."""
    return (len(level_sizes(*pyramid.leaves.shape)) + 2) // 2


def descend(pyramid: WeightPyramid, words: UInt32[Array, "words n"]) -> Int[Array, " n"]:
    """Finds the leaves that given random words select: the deterministic core of `draw`.

    An item of weight 0 is never selected while another weighs more.
    """
    return in_rounds(lambda *parts: _descend(pyramid, jnp.stack(parts)), *words)


def _descend(pyramid: WeightPyramid, words: UInt32[Array, "words n"]) -> Int[Array, " n"]:
    fan = pyramid.leaves.shape[1]
    offsets = level_offsets(pyramid.leaves.shape[0], fan)
    depth = len(offsets) - 1
    starts = jnp.asarray(offsets, jnp.int32)
    upper, rest = _split_word(words[0])
    if depth == 0:
        root = jnp.broadcast_to(decode(pyramid.leaves), (words.shape[1], fan))
        return jnp.minimum(choose_child(root, upper, rest)[0], pyramid.num_items - 1)
    root = jnp.broadcast_to(pyramid.sums[:fan], (words.shape[1], fan))
    node = (words[0] & 0).astype(jnp.int32)  # varies over devices where the words do
    carry = node, _pack(*choose_child(root, upper, rest))

    def choose_in_level(
        level: Int[Array, ""] | int, carry: tuple[Int[Array, " n"], UInt32[Array, " n"]]
    ) -> tuple[Int[Array, " n"], UInt32[Array, " n"]]:
        node, fraction = _step_down(carry[0], carry[1], fan)
        upper, rest = _split_word(words[level // 2])
        is_fresh = level % 2 == 0
        fraction = jnp.where(is_fresh, upper, fraction)
        rest = jnp.where(is_fresh, rest, 0.0)
        block = take_block(pyramid.sums, starts[level] // fan + node, fan)
        return node, _pack(*choose_child(block, fraction, rest))

    if jax.default_backend() == "cpu":
        carry = jax.lax.fori_loop(1, depth, choose_in_level, carry)
    else:
        for level in range(1, depth):
            carry = jax.lax.optimization_barrier(choose_in_level(level, carry))
    node, fraction = _step_down(carry[0], carry[1], fan)
    if depth % 2 == 0:
        fraction, _ = _split_word(words[depth // 2])
    block = take_block(pyramid.leaves, node, fan)
    child, _ = choose_child(block, fraction, jnp.zeros_like(fraction))
    return jnp.minimum(node * fan + child, pyramid.num_items - 1)


def choose_child(
    block: Float[Array, "n fan"], fraction: Float[Array, " n"], rest: Float[Array, " n"]
) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
    """Picks the child of each block where `fraction` of the block's weight falls.

    Returns:
      The child's place in its block, and the fraction left inside it, refined by `rest`.
    """
    cumulative = [block[:, 0]]
    for child in range(1, block.shape[1]):
        cumulative.append(cumulative[-1] + block[:, child])
    target = fraction * cumulative[-1]
    chosen = jnp.zeros(target.shape, jnp.int32)
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


def _pack(child: Int[Array, " n"], fraction: Float[Array, " n"]) -> UInt32[Array, " n"]:
    """Puts a choice and the 24 bits left of the fraction into one word.

    One result is one kernel: two would each work out the choice for themselves.
    """
    return (child.astype(jnp.uint32) << 24) | (fraction * jnp.float32(2.0**24)).astype(jnp.uint32)


def _step_down(
    node: Int[Array, " n"], packed: UInt32[Array, " n"], fan: int
) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
    """Gives the child chosen of each node, numbered in its level, and the fraction left in it."""
    child = (packed >> 24).astype(jnp.int32)
    return node * fan + child, (packed & 0xFFFFFF).astype(jnp.float32) * jnp.float32(2.0**-24)


def _split_word(word: UInt32[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Splits 32 random bits into a fraction in steps of 2^-24 and a rest below 2^-24."""
    upper = (word >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)
    return upper, (word & 0xFF).astype(jnp.float32) * jnp.float32(2.0**-32)


def level_sizes(blocks: int, fan: int) -> list[int]:
    """Gives the number of nodes on each level above the leaves, root block first."""
    sizes = []
    while blocks > 1:
        sizes.append(blocks)
        blocks = -(-blocks // fan)
    return sizes[::-1]


def level_offsets(blocks: int, fan: int) -> list[int]:
    """Gives where each level starts in `sums`, and after them the length of `sums`."""
    offsets = [0]
    for size in level_sizes(blocks, fan):
        offsets.append(offsets[-1] + -(-size // fan) * fan)
    return offsets


def levels_above(
    blocks: Shaped[Array, "blocks fan"], num_levels: int, combine_fn: Callable[..., Array] = jnp.add
) -> Float[Array, " nodes"]:
    """Computes levels above some blocks, root block first: sums, or maxima with `jnp.maximum`."""
    fan = blocks.shape[1]
    levels: list[Float[Array, " nodes"]] = [jnp.zeros(0, jnp.float32)]
    for _ in range(num_levels):
        levels.append(pad_to_blocks(combine_blocks(blocks, combine_fn), fan))
        blocks = levels[-1].reshape(-1, fan)
    return jnp.concatenate(levels[::-1])


def combine_blocks(
    blocks: Shaped[Array, "blocks fan"], combine_fn: Callable[..., Array]
) -> Float[Array, " blocks"]:
    """Combines the nodes of each block two by two, in one kernel; `jnp.sum` takes several."""
    parts = [decode(blocks[:, child]) for child in range(blocks.shape[1])]
    while len(parts) > 1:
        odd = parts[-1:] if len(parts) % 2 else []
        parts = [combine_fn(a, b) for a, b in zip(parts[::2], parts[1::2], strict=False)] + odd
    return parts[0]


def pad_to_blocks(nodes: Shaped[Array, " nodes"], fan: int) -> Shaped[Array, " padded"]:
    """Pads nodes with zeros to whole blocks."""
    return jnp.pad(nodes, (0, -nodes.shape[0] % fan))


def take(nodes: Shaped[Array, "..."], index: Int[Array, "*n"]) -> Float[Array, "*n"]:
    """Reads nodes by flat index, which must be in range, and decodes them."""
    return decode(
        nodes.reshape(-1).at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)
    )


def take_block(
    nodes: Shaped[Array, "..."], block: Int[Array, " n"], fan: int
) -> Float[Array, "n {fan}"]:
    """Reads whole blocks by number, which must be in range, and decodes them."""
    return decode(
        nodes.reshape(-1, fan).at[block].get(mode="promise_in_bounds", wrap_negative_indices=False)
    )


def clip_index(pyramid: WeightPyramid, index: Int[Array, " n"]) -> Int[Array, " n"]:
    """Clips an index to the items there are."""
    return jnp.clip(index, 0, pyramid.num_items - 1)
