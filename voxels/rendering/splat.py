"""The cell-major backend: listed cells are drawn onto tiles of the image in exact order.

Right for sparse worlds: work is 256 pixels per (cell, tile) pair, without any gather per pixel,
and a cell's gradient is a sum over a tile's pixels, so the backward pass scatters once per pair.
The exact ray and box test per pixel decides what a cell covers; the lists of `binning` only have
to be large enough. When their capacity is too small the result is wrong and `num_pairs` says so:
the caller runs again with room for it (`planning.render_planned` does).
Formulas are those of `ray_march`; layout is [cells of a block, pixels of a tile].
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .binning import Bins, Frame, bin_cells, tile_span, visibility_key
from .crossings import (
    AlphaMode,
    Composite,
    alpha,
    alpha_slope,
    entry_face,
    eye_cell,
    inverse_direction,
    listed_features,
    product,
    strength,
)
from .tiles import join_tiles, split_tiles, tile_counts


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplatConfig:
    """How to splat.

    Attributes:
      shape: cells of the grid along x, y, z.
      max_pairs: capacity of the lists, in (cell, tile) pairs.
      mode: `solid` or `beer`.
      near: distance in cells before which nothing is seen.
      stop: a tile ends when all its rays let through less than this.
      is_eye_cell_skipped: the cell that holds the eye hides nothing.
      tile: side of a tile in pixels.
      block: cells of a list handled together.
    """

    shape: tuple[int, int, int]
    max_pairs: int
    mode: AlphaMode = "solid"
    near: float = 0.05
    stop: float = 1e-7
    is_eye_cell_skipped: bool = False
    tile: int = 16
    block: int = 32

    def __post_init__(self) -> None:
        if self.mode not in ("solid", "beer"):
            raise ValueError(f'splatting is for "solid" and "beer" alpha, got "{self.mode}"')
        if min(self.max_pairs, self.tile, self.block) < 1:
            raise ValueError("max_pairs, tile and block must be positive")
        if self.near <= 0 or not 0 <= self.stop < 0.5:
            raise ValueError("needed near > 0 and 0 <= stop < 0.5")


class Splat(NamedTuple):
    """A composite and how many (cell, tile) pairs it needed; wrong where that exceeds the room."""

    composite: Composite
    num_pairs: Int[Array, ""]


class _Block(NamedTuple):
    """Crossings of a block of cells with the pixels of a tile: cells x pixels."""

    axis: Array
    t_in: Array
    chord: Array
    hidden: Array
    weight: Array
    after: Array  # T after the crossing


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def composite_splat(
    config: SplatConfig,
    flat: Int[Array, " cells"],
    logits: Float[Array, " cells"],
    probs: Float[Array, "cells materials"],
    lit: Float[Array, "materials 6 f"],
    eye: Float[Array, " 3"],
    frame: Frame,
    directions: Float[Array, "rows cols 3"],
) -> Splat:
    """Splats listed cells; cells not listed are empty.

    Args:
      flat: index of each cell in the grid, C order, without repeats; entries outside the grid
        are padding.
      frame: the pinhole that `directions` come from, to bound what a cell can cover.
    """
    return _forward(config, flat, logits, probs, lit, eye, frame, directions)


def count_pairs(
    config: SplatConfig,
    flat: Int[Array, " cells"],
    eye: Float[Array, " 3"],
    frame: Frame,
    directions: Float[Array, "rows cols 3"],
) -> Int[Array, ""]:
    """How many (cell, tile) pairs a view needs."""
    _, is_listed, span, _ = _spans(config, flat, eye, frame, directions)
    return jnp.sum(jnp.where(is_listed, span.count, 0)).astype(jnp.int32)


def _spans(config: SplatConfig, flat: Array, eye: Array, frame: Frame, directions: Array):
    cells = _coordinates(config, flat)
    is_listed = (flat >= 0) & (flat < math.prod(config.shape))
    is_listed &= ~jnp.all(cells == eye_cell(eye)[None], axis=-1)
    rows, cols = directions.shape[:2]
    cosine = jnp.min(product(-directions, frame.rotation[:, 2]))
    near_depth = jnp.maximum(config.near * cosine * 0.99, 1e-6)
    span = tile_span(cells, is_listed, eye, frame, near_depth, rows, cols, config.tile)
    return cells, is_listed, span, tile_counts(rows, cols, config.tile)


def _prepare(config: SplatConfig, flat: Array, eye: Array, frame: Frame, directions: Array):
    cells, is_listed, span, counts = _spans(config, flat, eye, frame, directions)
    far = sum(config.shape) + jnp.sum(jnp.abs(eye_cell(eye)))
    key = jnp.where(is_listed, visibility_key(cells, eye), far)
    bins = bin_cells(key, span, config.max_pairs, *counts)
    padded = jnp.pad(bins.cell, (0, config.block))
    return cells, bins._replace(cell=padded)


def _forward(config, flat, logits, probs, lit, eye, frame, directions) -> Splat:
    cells, bins = _prepare(config, flat, eye, frame, directions)
    strengths = strength(config.mode, logits)
    features = listed_features(probs, cells, lit, eye)
    inside = _inside(config, flat, strengths, probs, lit, eye, directions)
    tiles = jax.tree.map(lambda x: split_tiles(x, config.tile), (directions, inside))

    def one_tile(tile: tuple) -> Composite:
        (directions, inside), index = tile
        inverse = inverse_direction(directions).T

        def visit(sums: Composite, block: _Block, row: Array, _: Array) -> Composite:
            masks = [jnp.where(block.axis == k, block.weight, 0.0) for k in range(3)]
            shown = sum(product(mask.T, features[row, k]) for k, mask in enumerate(masks))
            is_half = (block.after <= 0.5) & (block.after + block.weight > 0.5)
            median = jnp.min(jnp.where(is_half, block.t_in, jnp.inf), axis=0)
            return Composite(
                features=sums.features + shown,
                transmittance=block.after[-1],
                axis_weight=sums.axis_weight + jnp.stack([m.sum(0) for m in masks], axis=-1),
                depth=sums.depth + jnp.sum(block.weight * block.t_in, axis=0),
                median=jnp.minimum(sums.median, median),
            )

        return _blocks(config, cells, strengths, bins, eye, inverse, index, inside, visit)

    num_tiles = tiles[0].shape[0]
    gathered = jax.lax.map(one_tile, (tiles, jnp.arange(num_tiles)))
    rows, cols = directions.shape[:2]
    out = jax.tree.map(lambda x: join_tiles(x, rows, cols), gathered)
    return Splat(out, bins.num_pairs)


def _forward_saving(config, flat, logits, probs, lit, eye, frame, directions):
    out = _forward(config, flat, logits, probs, lit, eye, frame, directions)
    return out, (flat, logits, probs, lit, eye, frame, directions, out.composite)


def _backward(config: SplatConfig, residuals: Any, cotangent: Splat):
    flat, logits, probs, lit, eye, frame, directions, out = residuals
    g = cotangent.composite
    cells, bins = _prepare(config, flat, eye, frame, directions)
    strengths = strength(config.mode, logits)
    features, pull = jax.vjp(lambda p, l: listed_features(p, cells, l, eye), probs, lit)

    def inside_value(logits: Array, probs: Array, lit: Array) -> Composite:
        strengths = strength(config.mode, logits)
        return _inside(config, flat, strengths, probs, lit, eye, directions)

    inside, pull_inside = jax.vjp(inside_value, logits, probs, lit)
    total = jnp.sum(out.features * g.features, -1) + out.transmittance * g.transmittance
    total += jnp.sum(out.axis_weight * g.axis_weight, -1) + out.depth * g.depth
    first = jnp.sum(inside.features * g.features, -1) + inside.depth * g.depth
    first += jnp.sum(inside.axis_weight * g.axis_weight, -1)
    # the eye's own cell lets T_0 through: its share of the gradient is that of everything behind
    behind_eye = total - first
    safe = jnp.where(inside.transmittance > 0, inside.transmittance, 1.0)
    d_inside = g._replace(transmittance=behind_eye / safe, median=jnp.zeros_like(g.median))
    tiles = (
        split_tiles(directions, config.tile),
        jax.tree.map(lambda x: split_tiles(x, config.tile), inside),
        jax.tree.map(lambda x: split_tiles(x, config.tile, is_border_zero=True), (g, behind_eye)),
    )
    num_features = lit.shape[-1]

    def one_tile(carry: Array, tile: tuple) -> tuple[Array, None]:
        directions, inside, (g, behind), index = tile
        inverse = inverse_direction(directions).T

        def visit(state: tuple, block: _Block, row: Array, at: Array) -> tuple:
            behind, buffer = state
            value = g.depth[None] * block.t_in
            d_shown = []
            for k in range(3):
                worth = product(features[row, k], g.features.T) + g.axis_weight[None, :, k]
                is_axis = block.axis == k
                value = value + jnp.where(is_axis, worth, 0.0)
                d_shown.append(product(jnp.where(is_axis, block.weight, 0.0), g.features))
            remaining = behind[None] - jnp.cumsum(block.weight * value, axis=0)
            slope = alpha_slope(config.mode, strengths[row][:, None], block.chord)
            d_logit = jnp.where(block.chord > 0, slope * (block.after * value - remaining), 0.0)
            update = jnp.concatenate([*d_shown, jnp.sum(d_logit, axis=1)[:, None]], axis=-1)
            buffer = jax.lax.dynamic_update_slice_in_dim(buffer, update, at, axis=0)
            return remaining[-1], buffer

        state = (behind, carry)
        _, carry = _blocks(
            config, cells, strengths, bins, eye, inverse, index, inside, visit, state
        )
        return carry, None

    num_tiles = tiles[0].shape[0]
    width = 3 * num_features + 1
    buffer = jnp.zeros((config.max_pairs + config.block, width), features.dtype)
    buffer, _ = jax.lax.scan(one_tile, buffer, (*tiles, jnp.arange(num_tiles)))
    is_used = jnp.arange(buffer.shape[0]) < bins.start[-1]
    buffer = jnp.where(is_used[:, None], buffer, 0.0)
    table = jnp.zeros((logits.shape[0], width), features.dtype).at[bins.cell].add(buffer)
    d_probs, d_lit = pull(table[:, :-1].reshape(-1, 3, num_features))
    d_logits, d_probs_eye, d_lit_eye = pull_inside(d_inside)
    return (
        None,
        d_logits + table[:, -1],
        d_probs + d_probs_eye,
        d_lit + d_lit_eye,
        jnp.zeros_like(eye),
        jax.tree.map(jnp.zeros_like, frame),
        jnp.zeros_like(directions),
    )


composite_splat.defvjp(_forward_saving, _backward)


def _coordinates(config: SplatConfig, flat: Array) -> Int[Array, "cells 3"]:
    rest, z = jnp.divmod(flat, config.shape[2])
    x, y = jnp.divmod(rest, config.shape[1])
    return jnp.stack([x, y, z], axis=-1).astype(jnp.int32)


def _inside(
    config: SplatConfig,
    flat: Array,
    strengths: Array,
    probs: Array,
    lit: Array,
    eye: Array,
    directions: Array,
) -> Composite:
    """Composites the eye's own cell alone, by plain differentiable operations."""
    here = eye_cell(eye)
    size = jnp.array(config.shape)
    index = (here[0] * config.shape[1] + here[1]) * config.shape[2] + here[2]
    match = (flat == index) & jnp.all((here >= 0) & (here < size))
    is_open = jnp.any(match) & (not config.is_eye_cell_skipped)
    row = jnp.argmax(match)
    inverse = inverse_direction(directions)
    is_up = inverse > 0
    box, lifted_eye = here.reshape(1, 1, 3), eye.reshape(1, 1, 3)
    nears, fars = (box + ~is_up - lifted_eye) * inverse, (box + is_up - lifted_eye) * inverse
    axis = jnp.argmax(nears, axis=-1)
    t_in = jnp.maximum(jnp.max(nears, axis=-1), config.near)
    chord = jnp.where(is_open, jnp.maximum(jnp.min(fars, axis=-1) - t_in, 0.0), 0.0)
    is_crossed = chord > 0
    own = jnp.broadcast_to(strengths[row], chord.shape)
    hidden = jnp.where(is_crossed, alpha(config.mode, own, chord), 0.0)
    by_face = jnp.einsum("m,mkf->kf", probs[row], lit, precision="highest")
    shown = by_face[entry_face(axis, directions)]
    is_half = is_crossed & (hidden >= 0.5)
    return Composite(
        features=hidden[..., None] * shown,
        transmittance=1.0 - hidden,
        axis_weight=jnp.stack([hidden * (axis == k) for k in range(3)], axis=-1),
        depth=hidden * t_in,
        median=jnp.where(is_half, t_in, jnp.inf),
    )


def _blocks(
    config: SplatConfig,
    cells: Array,
    strengths: Array,
    bins: Bins,
    eye: Array,
    inverse: Array,
    index: Array,
    inside: Composite,
    visit: Any,
    carry: Any = None,
):
    """Walks the list of one tile block by block, until it ends or no pixel sees anything."""
    end = bins.start[index + 1]
    is_up = inverse > 0
    carry = inside if carry is None else carry

    def body(state):
        at, passing, carry = state
        row = jax.lax.dynamic_slice(bins.cell, (at,), (config.block,))
        is_listed = at + jnp.arange(config.block) < end
        block = _cross(config, cells[row], strengths[row], is_listed, eye, inverse, is_up, passing)
        return at + config.block, block.after[-1], visit(carry, block, row, at)

    def goes_on(state):
        at, passing, _ = state
        return (at < end) & jnp.any(passing > config.stop)

    state = (bins.start[index], inside.transmittance, carry)
    return jax.lax.while_loop(goes_on, body, state)[2]


def _cross(config, cells, strengths, is_listed, eye, inverse, is_up, passing) -> _Block:
    nears, fars = [], []
    for k in range(3):
        cell = cells[:, k].astype(eye.dtype)[:, None]
        nears.append((cell + ~is_up[k][None] - eye[k]) * inverse[k][None])
        fars.append((cell + is_up[k][None] - eye[k]) * inverse[k][None])
    is_x = (nears[0] >= nears[1]) & (nears[0] >= nears[2])
    axis = jnp.where(is_x, 0, jnp.where(nears[1] >= nears[2], 1, 2)).astype(jnp.int32)
    t_in = jnp.maximum(jnp.maximum(jnp.maximum(nears[0], nears[1]), nears[2]), config.near)
    t_out = jnp.minimum(jnp.minimum(fars[0], fars[1]), fars[2])
    chord = jnp.where(is_listed[:, None], jnp.maximum(t_out - t_in, 0.0), 0.0)
    hidden = jnp.where(chord > 0, alpha(config.mode, strengths[:, None], chord), 0.0)
    after = passing[None] * jnp.cumprod(1.0 - hidden, axis=0)
    before = jnp.concatenate([passing[None], after[:-1]], axis=0)
    return _Block(axis, t_in, chord, hidden, before * hidden, after)
