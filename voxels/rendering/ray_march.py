"""The ray-major backend: each ray walks the grid from cell to cell (a DDA), front to back.

Right for soft and dense grids: work is (pixels x cells crossed), whatever the occupancy.
Rays are walked in square tiles of lanes under one `while_loop` each. The derivative is our own:
it keeps only the outputs (O(pixels) memory), walks again, and gets what lies behind a crossing
by subtracting what came before it from the saved total. With s_i the features of crossing i
dotted with their cotangents and R_i the same of all that lies behind it, background included,
  dL/dlogit_i = slope_i ((1 - a_i) T_i s_i - R_i),    dL/dfeatures_i = w_i g,
which has no division, so it is finite at any logit.

Form, by measurement on XLA:CPU: each array a loop carries is a kernel of its own that repeats all
it depends on, so lanes carry no more than the next planes, the entry and the row of the table to
read, and steps are not unrolled; alpha and features are one table, read by one gather. On a GPU
it is the other way round: every look at whether all rays have ended waits for the host, so the
whole image is one tile and several crossings are made between two looks.
Source: Amanatides and Woo 1987 for the walk; planes are evaluated afresh rather than accumulated.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .crossings import (
    AlphaMode,
    Composite,
    alpha,
    alpha_slope,
    axis_features,
    entry_face,
    eye_cell,
    product,
    start,
    strength,
)
from .tiles import join_tiles, split_tiles


@dataclasses.dataclass(frozen=True, kw_only=True)
class MarchConfig:
    """How to walk.

    Attributes:
      mode: `solid` or `beer`.
      near: distance in cells before which nothing is seen.
      stop: a ray ends when it lets through less than this.
      is_eye_cell_skipped: the cell that holds the eye hides nothing.
      has_geometry: also gather axis weights, depth and median; they are zero otherwise.
      tile: side of the square of pixels walked together; 0 walks the whole image at once.
      stride: crossings between two looks at whether every ray has ended; it changes results by
        less than `stop`.
    """

    mode: AlphaMode = "solid"
    near: float = 0.05
    stop: float = 1e-7
    is_eye_cell_skipped: bool = False
    has_geometry: bool = True
    tile: int = 64
    stride: int = 1

    def __post_init__(self) -> None:
        if self.mode not in ("solid", "beer"):
            raise ValueError(f'ray marching is for "solid" and "beer" alpha, got "{self.mode}"')
        if self.near < 0 or not 0 <= self.stop < 0.5 or self.tile < 0 or self.stride < 1:
            raise ValueError("needed near >= 0, 0 <= stop < 0.5, tile >= 0, stride >= 1")


class Lanes(NamedTuple):
    """Where the rays of a tile are."""

    plane: tuple[Array, ...]  # the next one of each axis
    t_in: Array
    row: Array  # of the table: 3 * cell + entry axis; 0 outside the grid
    passing: Array


class Fixed(NamedTuple):
    """What does not change along a ray."""

    eye: Array
    inverse: tuple[Array, ...]
    sign: tuple[Array, ...]
    lower: tuple[Array, ...]  # of a cell: its index less that of the next plane
    t_out: Array


class Visit(NamedTuple):
    """One crossing per lane."""

    row: Array
    t_in: Array
    chord: Array
    strength: Array
    before: Array  # T before the crossing
    weight: Array

    def is_along(self, axis: int) -> Array:
        """Whether the cell was entered through an axis."""
        return self.row % 3 == axis


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def composite_march(
    config: MarchConfig,
    logits: Float[Array, "x y z"],
    probs: Float[Array, "x y z materials"],
    lit: Float[Array, "materials 6 f"],
    eye: Float[Array, " 3"],
    directions: Float[Array, "rows cols 3"],
) -> Composite:
    """Walks every ray and composites what it crosses.

    Differentiable in logits, probs and lit; eye and directions get zero gradients, because what
    is visible jumps with the pose. Bad input: non-finite logits spread to the rays that meet them.
    """
    return _forward(config, logits, probs, lit, eye, directions)


def _forward(config, logits, probs, lit, eye, directions) -> Composite:
    features = axis_features(probs, lit, eye)
    table = _table(config, logits, features)
    shown_from_inside = eye_features(probs, lit, eye)
    num_features = lit.shape[-1]
    tiles = split_tiles(directions, config.tile)

    def one_tile(directions: Array) -> Composite:
        zero = jnp.zeros(directions.shape[:-1], directions.dtype)

        def visit(sums: tuple, crossing: Visit, shown: list[Array]) -> tuple:
            colors, axes, depth, median = sums
            weight = crossing.weight
            colors = [total + weight * c for total, c in zip(colors, shown, strict=True)]
            if config.has_geometry:
                axes = [total + weight * crossing.is_along(k) for k, total in enumerate(axes)]
                depth = depth + weight * crossing.t_in
                after = crossing.before - weight
                is_half = (crossing.before > 0.5) & (after <= 0.5)
                median = jnp.where(is_half, crossing.t_in, median)
            return colors, axes, depth, median

        sums = ([zero] * num_features, [zero] * 3, zero, jnp.full_like(zero, jnp.inf))
        lanes, fixed, first, face = begin(config, logits, eye, directions)
        inside = [shown_from_inside[:, i][face] for i in range(num_features)]
        sums = visit(sums, first, inside)

        def visit_all(sums: tuple, crossings: list[tuple[Visit, list[Array]]]) -> tuple:
            return functools.reduce(lambda sums, new: visit(sums, *new), crossings, sums)

        lanes, (colors, axes, depth, median) = _walk(
            config, logits.shape, table, lanes, fixed, sums, visit_all
        )
        return Composite(jnp.stack(colors, -1), lanes.passing, jnp.stack(axes, -1), depth, median)

    gathered = jax.lax.map(one_tile, tiles)
    rows, cols = directions.shape[:2]
    return jax.tree.map(lambda x: join_tiles(x, rows, cols), gathered)


def _forward_saving(config, logits, probs, lit, eye, directions):
    out = _forward(config, logits, probs, lit, eye, directions)
    return out, (logits, probs, lit, eye, directions, out)


def _backward(config: MarchConfig, residuals: Any, cotangent: Composite):
    logits, probs, lit, eye, directions, out = residuals
    features, pull_features = jax.vjp(lambda p, l: axis_features(p, l, eye), probs, lit)
    table = _table(config, logits, features)
    shown_from_inside, pull_inside = jax.vjp(lambda p, l: eye_features(p, l, eye), probs, lit)
    num_features = lit.shape[-1]
    total = behind_all(config, out, cotangent)
    tiles = jax.tree.map(
        lambda x: split_tiles(x, config.tile, is_border_zero=x is not directions),
        (directions, cotangent.features, cotangent.axis_weight, cotangent.depth, total),
    )

    def one_tile(carry: tuple, tile: tuple) -> tuple[tuple, None]:
        directions, g_features, g_axis, g_depth, behind = tile
        g_color = [g_features[:, i] for i in range(num_features)]

        def pull(behind: Array, crossing: Visit, shown: list[Array]) -> tuple[Array, Array, Array]:
            value = sum(c * g for c, g in zip(shown, g_color, strict=True))
            if config.has_geometry:
                along = [jnp.where(crossing.is_along(k), g_axis[:, k], 0.0) for k in range(3)]
                value = value + sum(along) + g_depth * crossing.t_in
            behind = behind - crossing.weight * value
            slope = alpha_slope(config.mode, crossing.strength, crossing.chord)
            after = crossing.before - crossing.weight
            d_logit = jnp.where(crossing.chord > 0, slope * (after * value - behind), 0.0)
            d_shown = jnp.stack([crossing.weight * g for g in g_color], -1)
            return behind, d_logit, d_shown

        def visit_all(carry: tuple, crossings: list[tuple[Visit, list[Array]]]) -> tuple:
            behind, table_grad = carry
            rows, updates = [], []
            for crossing, shown in crossings:
                behind, d_logit, d_shown = pull(behind, crossing, shown)
                rows.append(crossing.row)
                updates.append(jnp.concatenate([d_logit[:, None], d_shown], -1))
            is_met = [(c.chord > 0) & (c.before > config.stop) for c, _ in crossings]
            return behind, _add(table_grad, rows, updates, is_met)

        table_grad, inside_grad, eye_logit_grad = carry
        lanes, fixed, first, face = begin(config, logits, eye, directions)
        inside = [shown_from_inside[:, i][face] for i in range(num_features)]
        behind, d_logit, d_shown = pull(behind, first, inside)
        inside_grad += product(jax.nn.one_hot(face, 6, dtype=d_shown.dtype).T, d_shown)
        eye_logit_grad += jnp.sum(d_logit)
        _, (_, table_grad) = _walk(
            config, logits.shape, table, lanes, fixed, (behind, table_grad), visit_all
        )
        return (table_grad, inside_grad, eye_logit_grad), None

    zeros = (
        jnp.zeros_like(table),
        jnp.zeros((6, num_features), features.dtype),
        jnp.zeros((), features.dtype),
    )
    (table_grad, inside_grad, eye_logit_grad), _ = jax.lax.scan(one_tile, zeros, tiles)
    d_logits = table_grad[:, 0].reshape(*logits.shape, 3).sum(-1)
    here = jnp.clip(eye_cell(eye), 0, jnp.array(logits.shape) - 1)
    d_logits = d_logits.at[tuple(here)].add(eye_logit_grad)
    d_probs, d_lit = pull_features(table_grad[:, 1:].reshape(features.shape))
    d_probs_inside, d_lit_inside = pull_inside(inside_grad)
    return (
        d_logits,
        d_probs + d_probs_inside,
        d_lit + d_lit_inside,
        jnp.zeros_like(eye),
        jnp.zeros_like(directions),
    )


composite_march.defvjp(_forward_saving, _backward)


def behind_all(
    config: MarchConfig, out: Composite, cotangent: Composite
) -> Float[Array, "rows cols"]:
    """R of the module before the first crossing: all that a ray gathered, with its cotangents."""
    total = jnp.sum(out.features * cotangent.features, -1)
    total += out.transmittance * cotangent.transmittance
    if config.has_geometry:
        total += jnp.sum(out.axis_weight * cotangent.axis_weight, -1)
        total += out.depth * cotangent.depth
    return total


def eye_features(
    probs: Float[Array, "x y z materials"],
    lit: Float[Array, "materials 6 f"],
    eye: Float[Array, " 3"],
) -> Float[Array, "6 f"]:
    """Features of the eye's own cell by face; of the nearest cell where the eye is outside."""
    here = jnp.clip(eye_cell(eye), 0, jnp.array(probs.shape[:3]) - 1)
    return jnp.einsum("m,mkf->kf", probs[tuple(here)], lit, precision="highest")


def _table(config: MarchConfig, logits: Array, features: Array) -> Array:
    """What a crossing reads, [3 cells, 1 + f]: the strength of the cell, and its features as seen
    through the entry axis."""
    strengths = jnp.broadcast_to(
        strength(config.mode, logits)[..., None, None], (*logits.shape, 3, 1)
    )
    return jnp.concatenate([strengths, features], axis=-1).reshape(3 * logits.size, -1)


def begin(
    config: MarchConfig,
    logits: Float[Array, "x y z"],
    eye: Float[Array, " 3"],
    directions: Float[Array, "rays 3"],
) -> tuple[Lanes, Fixed, Visit, Int[Array, " rays"]]:
    """Puts lanes at the first cell after the eye's own, whose crossing and face are returned.

    Only the eye's own cell is crossed here, so its strength is all that is read.
    """
    x, y, z = shape = logits.shape
    first = start((x, y, z), config.near, eye, directions)
    is_up = first.inverse > 0
    dtype = directions.dtype
    fixed = Fixed(
        eye,
        tuple(first.inverse[:, k] for k in range(3)),
        tuple(jnp.where(is_up[:, k], 1.0, -1.0).astype(dtype) for k in range(3)),
        tuple(jnp.where(is_up[:, k], -1.0, 0.0).astype(dtype) for k in range(3)),
        first.t_out,
    )
    plane = tuple(first.cell[:, k].astype(dtype) + is_up[:, k] for k in range(3))
    is_open = first.t_in < first.t_out
    row = jnp.where(is_open, _row(shape, fixed, plane, first.axis), 0)
    lanes = Lanes(plane, first.t_in, row, jnp.ones_like(first.t_in))
    is_inside = first.is_eye_cell & is_open
    hides = is_inside & (not config.is_eye_cell_skipped)
    here = jnp.clip(eye_cell(eye), 0, jnp.array(shape) - 1)
    own = jnp.broadcast_to(strength(config.mode, logits[tuple(here)]), row.shape)
    moved, crossing = _step(config, shape, own, lanes, fixed, hides)
    lanes = jax.tree.map(lambda a, b: jnp.where(is_inside, a, b), moved, lanes)
    return lanes, fixed, crossing, entry_face(first.axis, directions)


def _step(config: MarchConfig, shape, strengths: Array, lanes: Lanes, fixed: Fixed, is_open):
    """Crosses the cell and enters the next; equal planes are taken z first, so that x names the
    entry."""
    tx, ty, tz = ((plane - fixed.eye[k]) * fixed.inverse[k] for k, plane in enumerate(lanes.plane))
    leave = jnp.minimum(jnp.minimum(tx, ty), tz)
    chord = jnp.where(is_open, jnp.maximum(leave - lanes.t_in, 0.0), 0.0)
    hidden = jnp.where(chord > 0, alpha(config.mode, strengths, chord), 0.0)
    weight = lanes.passing * hidden
    crossing = Visit(lanes.row, lanes.t_in, chord, strengths, lanes.passing, weight)
    is_z = (tz <= tx) & (tz <= ty)
    is_y = ~is_z & (ty <= tx)
    moves = (~is_z & ~is_y, is_y, is_z)
    axis = jnp.where(is_z, 2, jnp.where(is_y, 1, 0)).astype(jnp.int32)
    plane = tuple(
        jnp.where(moves[k], lanes.plane[k] + fixed.sign[k], lanes.plane[k]) for k in range(3)
    )
    row = jnp.where(leave < fixed.t_out, _row(shape, fixed, plane, axis), 0)
    return Lanes(plane, leave, row, lanes.passing - weight), crossing


def _row(shape, fixed: Fixed, plane: tuple[Array, ...], axis: Array) -> Array:
    x, y, z = ((p + lower).astype(jnp.int32) for p, lower in zip(plane, fixed.lower, strict=True))
    return 3 * ((x * shape[1] + y) * shape[2] + z) + axis


def _add(table: Array, rows: list[Array], updates: list[Array], is_met: list[Array]) -> Array:
    """Adds to rows of a table, in one scatter.

    Several crossings at once are the form for GPUs, where adding nothing to the same row from
    every lane that has ended would take far longer than leaving it out.
    """
    if len(rows) == 1:
        return table.at[rows[0]].add(
            updates[0], mode="promise_in_bounds", wrap_negative_indices=False
        )
    kept = [jnp.where(met, row, len(table)) for row, met in zip(rows, is_met, strict=True)]
    return table.at[jnp.concatenate(kept)].add(
        jnp.concatenate(updates), mode="drop", wrap_negative_indices=False
    )


def _walk(config: MarchConfig, shape, table: Array, lanes: Lanes, fixed: Fixed, carry, visit):
    """Crosses cells until no lane is inside the grid and still sees something.

    Args:
      visit: carry, crossings with what each shows -> carry.
    """

    def body(state):
        lanes, carry = state
        crossings = []
        for _ in range(config.stride):
            read = table.at[lanes.row].get(mode="promise_in_bounds", wrap_negative_indices=False)
            is_open = lanes.t_in < fixed.t_out
            lanes, crossing = _step(config, shape, read[:, 0], lanes, fixed, is_open)
            crossings.append((crossing, [read[:, i] for i in range(1, table.shape[1])]))
        return lanes, visit(carry, crossings)

    def is_any_alive(state):
        lanes, _ = state
        return jnp.any((lanes.t_in < fixed.t_out) & (lanes.passing > config.stop))

    return jax.lax.while_loop(is_any_alive, body, (lanes, carry))
