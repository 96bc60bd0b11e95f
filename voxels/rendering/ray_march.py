"""The ray-major backend: each ray walks the grid from cell to cell (a DDA), front to back.

Right for soft and dense grids: work is (pixels x cells crossed), whatever the occupancy.
Rays are walked in square tiles of lanes under one `while_loop` each. The derivative is our own:
it keeps only the outputs (O(pixels) memory), walks again, and gets what lies behind a crossing
by subtracting what came before it from the saved total. With s_i the features of crossing i
dotted with their cotangents and R_i the same of all that lies behind it, background included,
  dL/dlogit_i = slope_i ((1 - a_i) T_i s_i - R_i),    dL/dfeatures_i = w_i g,
which has no division, so it is finite at any logit.
Source: Amanatides and Woo 1987 for the walk; planes are evaluated afresh rather than accumulated.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .crossings import (
    AlphaMode,
    Composite,
    alpha,
    alpha_slope,
    axis_features,
    entry_face,
    eye_cell,
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
      unroll: steps between two tests whether any lane is alive, forward; backward takes one
        at a time, since several scatters in a row make XLA copy the table.
    """

    mode: AlphaMode = "solid"
    near: float = 0.05
    stop: float = 1e-7
    is_eye_cell_skipped: bool = False
    has_geometry: bool = True
    tile: int = 64
    unroll: int = 4

    def __post_init__(self) -> None:
        if self.mode not in ("solid", "beer"):
            raise ValueError(f'ray marching is for "solid" and "beer" alpha, got "{self.mode}"')
        if self.near < 0 or not 0 <= self.stop < 0.5 or self.tile < 0 or self.unroll < 1:
            raise ValueError("needed near >= 0, 0 <= stop < 0.5, tile >= 0, unroll >= 1")


class _Lanes(NamedTuple):
    """Where the rays of a tile are; t per axis is that of the next plane."""

    cell: Array
    axis: Array
    t: tuple[Array, ...]
    plane: tuple[Array, ...]
    t_in: Array
    passing: Array


class _Fixed(NamedTuple):
    """What does not change along a ray."""

    inverse: tuple[Array, ...]
    sign: tuple[Array, ...]
    stride: tuple[Array, ...]
    t_out: Array


class _Visit(NamedTuple):
    """One crossing per lane."""

    cell: Array
    axis: Array
    t_in: Array
    chord: Array
    strength: Array
    hidden: Array
    before: Array  # T before the crossing
    weight: Array


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
    table = strength(config.mode, logits).reshape(-1)
    features = axis_features(probs, lit, eye).reshape(3 * table.size, -1)
    shown_from_inside = _eye_features(probs, lit, eye)
    num_features = lit.shape[-1]
    tiles = split_tiles(directions, config.tile)

    def one_tile(directions: Array) -> Composite:
        zero = jnp.zeros(directions.shape[:-1], directions.dtype)

        def visit(sums: tuple, crossing: _Visit, shown: list[Array]) -> tuple:
            colors, axes, depth, median = sums
            weight = crossing.weight
            colors = [total + weight * c for total, c in zip(colors, shown, strict=True)]
            if config.has_geometry:
                axes = [total + weight * (crossing.axis == k) for k, total in enumerate(axes)]
                depth = depth + weight * crossing.t_in
                after = crossing.before - weight
                is_half = (crossing.before > 0.5) & (after <= 0.5)
                median = jnp.where(is_half, crossing.t_in, median)
            return colors, axes, depth, median

        def look_up(crossing: _Visit) -> list[Array]:
            rows = features.at[3 * crossing.cell + crossing.axis].get(mode="promise_in_bounds")
            return [rows[:, i] for i in range(num_features)]

        sums = ([zero] * num_features, [zero] * 3, zero, jnp.full_like(zero, jnp.inf))
        lanes, fixed, first = _begin(config, logits.shape, table, eye, directions)
        inside = [
            shown_from_inside[:, i][entry_face(first.axis, directions)] for i in range(num_features)
        ]
        sums = visit(sums, first, inside)
        loop = _loop(config, table, lambda s, crossing: visit(s, crossing, look_up(crossing)))
        lanes, (colors, axes, depth, median) = loop(lanes, fixed, sums)
        return Composite(jnp.stack(colors, -1), lanes.passing, jnp.stack(axes, -1), depth, median)

    gathered = jax.lax.map(one_tile, tiles)
    rows, cols = directions.shape[:2]
    return jax.tree.map(lambda x: join_tiles(x, rows, cols), gathered)


def _forward_saving(config, logits, probs, lit, eye, directions):
    out = _forward(config, logits, probs, lit, eye, directions)
    return out, (logits, probs, lit, eye, directions, out)


def _backward(config: MarchConfig, residuals: Any, cotangent: Composite):
    logits, probs, lit, eye, directions, out = residuals
    table = strength(config.mode, logits).reshape(-1)
    features, pull_features = jax.vjp(
        lambda p, l: axis_features(p, l, eye).reshape(3 * table.size, -1), probs, lit
    )
    shown_from_inside, pull_inside = jax.vjp(lambda p, l: _eye_features(p, l, eye), probs, lit)
    num_features = lit.shape[-1]
    total = jnp.sum(out.features * cotangent.features, -1)
    total += out.transmittance * cotangent.transmittance
    if config.has_geometry:
        total += jnp.sum(out.axis_weight * cotangent.axis_weight, -1)
        total += out.depth * cotangent.depth
    tiles = jax.tree.map(
        lambda x: split_tiles(x, config.tile, is_border_zero=x is not directions),
        (directions, cotangent.features, cotangent.axis_weight, cotangent.depth, total),
    )

    def one_tile(carry: tuple, tile: tuple) -> tuple[tuple, None]:
        directions, g_features, g_axis, g_depth, behind = tile
        g_color = [g_features[:, i] for i in range(num_features)]

        def pull(behind: Array, crossing: _Visit, shown: list[Array]) -> tuple[Array, Array, Array]:
            value = sum(c * g for c, g in zip(shown, g_color, strict=True))
            if config.has_geometry:
                along = [jnp.where(crossing.axis == k, g_axis[:, k], 0.0) for k in range(3)]
                value = value + sum(along) + g_depth * crossing.t_in
            behind = behind - crossing.weight * value
            slope = alpha_slope(config.mode, crossing.strength, crossing.chord)
            after = crossing.before - crossing.weight
            d_logit = jnp.where(crossing.chord > 0, slope * (after * value - behind), 0.0)
            d_shown = jnp.stack([crossing.weight * g for g in g_color], -1)
            return behind, d_logit, d_shown

        def visit(carry: tuple, crossing: _Visit) -> tuple:
            behind, table_grad = carry
            rows = features.at[3 * crossing.cell + crossing.axis].get(mode="promise_in_bounds")
            shown = [rows[:, i] for i in range(num_features)]
            behind, d_logit, d_shown = pull(behind, crossing, shown)
            update = jnp.concatenate([d_shown, d_logit[:, None]], -1)
            table_grad = table_grad.at[3 * crossing.cell + crossing.axis].add(
                update, mode="promise_in_bounds"
            )
            return behind, table_grad

        table_grad, inside_grad, eye_logit_grad = carry
        lanes, fixed, first = _begin(config, logits.shape, table, eye, directions)
        face = entry_face(first.axis, directions)
        inside = [shown_from_inside[:, i][face] for i in range(num_features)]
        behind, d_logit, d_shown = pull(behind, first, inside)
        inside_grad += jax.nn.one_hot(face, 6, dtype=d_shown.dtype).T @ d_shown
        eye_logit_grad += jnp.sum(d_logit)
        loop = _loop(dataclasses.replace(config, unroll=1), table, visit)
        _, (_, table_grad) = loop(lanes, fixed, (behind, table_grad))
        return (table_grad, inside_grad, eye_logit_grad), None

    zeros = (
        jnp.zeros((3 * table.size, num_features + 1), features.dtype),
        jnp.zeros((6, num_features), features.dtype),
        jnp.zeros((), features.dtype),
    )
    (table_grad, inside_grad, eye_logit_grad), _ = jax.lax.scan(one_tile, zeros, tiles)
    d_logits = table_grad[:, -1].reshape(table.size, 3).sum(-1).reshape(logits.shape)
    here = jnp.clip(eye_cell(eye), 0, jnp.array(logits.shape) - 1)
    d_logits = d_logits.at[tuple(here)].add(eye_logit_grad)
    d_probs, d_lit = pull_features(table_grad[:, :-1])
    d_probs_inside, d_lit_inside = pull_inside(inside_grad)
    return (
        d_logits,
        d_probs + d_probs_inside,
        d_lit + d_lit_inside,
        jnp.zeros_like(eye),
        jnp.zeros_like(directions),
    )


composite_march.defvjp(_forward_saving, _backward)


def _eye_features(probs: Array, lit: Array, eye: Array) -> Array:
    """Features of the eye's own cell by face; of the nearest cell where the eye is outside."""
    here = jnp.clip(eye_cell(eye), 0, jnp.array(probs.shape[:3]) - 1)
    return jnp.einsum("m,mkf->kf", probs[tuple(here)], lit)


def _begin(config: MarchConfig, shape, table: Array, eye: Array, directions: Array):
    """Puts lanes at the first cell after the eye's own, whose crossing is returned."""
    first = start(shape, config.near, eye, directions)
    is_up = first.inverse > 0
    inverse = tuple(first.inverse[:, k] for k in range(3))
    sign = tuple(jnp.where(is_up[:, k], 1.0, -1.0).astype(directions.dtype) for k in range(3))
    stride = tuple(
        jnp.where(is_up[:, k], s, -s).astype(jnp.int32)
        for k, s in enumerate((shape[1] * shape[2], shape[2], 1))
    )
    fixed = _Fixed(inverse, sign, stride, first.t_out)
    plane = tuple(first.cell[:, k].astype(directions.dtype) + is_up[:, k] for k in range(3))
    t = tuple((plane[k] - eye[k]) * inverse[k] for k in range(3))
    cell = (first.cell[:, 0] * shape[1] + first.cell[:, 1]) * shape[2] + first.cell[:, 2]
    lanes = _Lanes(cell, first.axis, t, plane, first.t_in, jnp.ones_like(first.t_in))
    is_inside = first.is_eye_cell & (first.t_in < first.t_out)
    hides = is_inside & (not config.is_eye_cell_skipped)
    lanes, crossing = _visit(config, lanes, hides, table[cell])
    moved = _advance(lanes, fixed, eye)
    lanes = jax.tree.map(lambda a, b: jnp.where(is_inside, a, b), moved, lanes)
    return lanes, (fixed, eye), crossing


def _visit(config: MarchConfig, lanes: _Lanes, is_open: Array, strengths: Array):
    leave = jnp.minimum(jnp.minimum(lanes.t[0], lanes.t[1]), lanes.t[2])
    chord = jnp.where(is_open, jnp.maximum(leave - lanes.t_in, 0.0), 0.0)
    hidden = jnp.where(chord > 0, alpha(config.mode, strengths, chord), 0.0)
    weight = lanes.passing * hidden
    crossing = _Visit(
        lanes.cell, lanes.axis, lanes.t_in, chord, strengths, hidden, lanes.passing, weight
    )
    return lanes._replace(passing=lanes.passing - weight), crossing


def _advance(lanes: _Lanes, fixed: _Fixed, eye: Array) -> _Lanes:
    """Steps into the next cell; equal planes are taken z first, so that x names the entry."""
    tx, ty, tz = lanes.t
    is_z = (tz <= tx) & (tz <= ty)
    is_y = ~is_z & (ty <= tx)
    moves = (~is_z & ~is_y, is_y, is_z)
    axis = jnp.where(is_z, 2, jnp.where(is_y, 1, 0)).astype(jnp.int32)
    plane = tuple(
        jnp.where(moves[k], lanes.plane[k] + fixed.sign[k], lanes.plane[k]) for k in range(3)
    )
    t = tuple((plane[k] - eye[k]) * fixed.inverse[k] for k in range(3))
    stride = jnp.where(is_z, fixed.stride[2], jnp.where(is_y, fixed.stride[1], fixed.stride[0]))
    return _Lanes(
        lanes.cell + stride, axis, t, plane, jnp.minimum(jnp.minimum(tx, ty), tz), lanes.passing
    )


def _loop(config: MarchConfig, table: Array, visit):
    """Repeats look, visit, advance until no lane is inside the grid and still sees something."""

    def run(lanes: _Lanes, fixed_and_eye: tuple[_Fixed, Array], carry):
        fixed, eye = fixed_and_eye

        def step(state):
            lanes, carry = state
            is_open = lanes.t_in < fixed.t_out
            lanes = lanes._replace(cell=jnp.where(is_open, lanes.cell, 0))
            strengths = table.at[lanes.cell].get(mode="promise_in_bounds")
            lanes, crossing = _visit(config, lanes, is_open, strengths)
            carry = visit(carry, crossing)
            return _advance(lanes, fixed, eye), carry

        def body(state):
            for _ in range(config.unroll):
                state = step(state)
            return state

        def is_any_alive(state):
            lanes, _ = state
            return jnp.any((lanes.t_in < fixed.t_out) & (lanes.passing > config.stop))

        return jax.lax.while_loop(is_any_alive, body, (lanes, carry))

    return run
