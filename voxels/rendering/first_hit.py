"""The `hard` backend: the first solid cell of each ray, found by jumping over empty space.

The value is binary, the derivative straight-through: with a' = sigmoid'(logit), s the features a
cell shows dotted with their cotangents (for the sky: the cotangent of the transmittance),
  first cell      a' (s_first - s_second), what would be seen if it were gone: a second search;
  cells before    a' (s_cell - s_first), for cells that are not solid but above `threshold`;
  all others      0.
Cells below the threshold are jumped over in both directions, so a threshold of 0 makes a backward
pass visit every empty cell. Material probabilities of the first cell get their exact gradient.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .crossings import Composite, entry_face, product, snap, start
from .skip_field import skip_field
from .tiles import join_tiles, split_tiles


@dataclasses.dataclass(frozen=True, kw_only=True)
class HitConfig:
    """How to search.

    Attributes:
      shape: cells of the grid along x, y, z.
      near: distance in cells before which nothing is seen.
      threshold: occupancy above which an empty cell gets a gradient, in [0, 0.5].
      is_eye_cell_skipped: the cell that holds the eye hides nothing.
      tile: side of the square of pixels searched together; 0 takes the whole image at once.
      stride: jumps between two looks at whether every ray has arrived; it changes no result.
    """

    shape: tuple[int, int, int]
    near: float = 0.05
    threshold: float = 0.01
    is_eye_cell_skipped: bool = False
    tile: int = 32
    stride: int = 1

    def __post_init__(self) -> None:
        is_fine = self.near >= 0 and 0 <= self.threshold <= 0.5
        if not is_fine or self.tile < 0 or self.stride < 1:
            raise ValueError("needed near >= 0, 0 <= threshold <= 0.5, tile >= 0, stride >= 1")


class Hits(NamedTuple):
    """What each ray meets first.

    Attributes:
      is_hit: whether it meets anything.
      cell: flat index of the cell in C order; 0 where nothing is hit.
      axis: axis of the entry face.
      t_in: distance in cells.
    """

    is_hit: Bool[Array, "*rays"]
    cell: Int[Array, "*rays"]
    axis: Int[Array, "*rays"]
    t_in: Float[Array, "*rays"]


class _Lanes(NamedTuple):
    cell: tuple[Array, ...]
    axis: Array
    t_in: Array


class _Fixed(NamedTuple):
    directions: tuple[Array, ...]
    inverse: tuple[Array, ...]
    is_up: tuple[Array, ...]
    t_out: Array


def find_hits(
    config: HitConfig,
    is_solid: Bool[Array, "x y z"],
    eye: Float[Array, " 3"],
    directions: Float[Array, "rows cols 3"],
) -> Hits:
    """Finds the first solid cell along each ray. Not differentiable."""
    field = skip_field(is_solid).reshape(-1)

    def one_tile(directions: Array) -> Hits:
        lanes, fixed = _begin(config, eye, directions)
        return _hits(config, _search(config, field, lanes, fixed, eye), fixed)

    rows, cols = directions.shape[:2]
    hits = jax.lax.map(one_tile, split_tiles(directions, config.tile))
    return jax.tree.map(lambda x: join_tiles(x, rows, cols), hits)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def composite_hard(
    config: HitConfig,
    flat: Int[Array, " cells"] | None,
    logits: Float[Array, " cells"],
    probs: Float[Array, "cells materials"],
    lit: Float[Array, "materials 6 f"],
    eye: Float[Array, " 3"],
    directions: Float[Array, "rows cols 3"],
) -> Composite:
    """Shows the first cell with logit > 0 along each ray.

    Args:
      flat: index of each listed cell in the grid, C order, without repeats; entries outside the
        grid are padding, and cells not listed are empty. None lists the whole grid in order.
    """
    return _forward(config, flat, logits, probs, lit, eye, directions)[0]


def _forward(config, flat, logits, probs, lit, eye, directions):
    is_solid, slots = _spread(config, flat, logits > 0)
    hits = find_hits(config, is_solid, eye, directions)
    row = hits.cell if slots is None else slots[hits.cell]
    face = entry_face(hits.axis, directions)
    out = _shade(probs, lit, row, face, hits)
    return out, (flat, logits, probs, lit, eye, directions, hits, row, face)


def _shade(probs: Array, lit: Array, row: Array, face: Array, hits: Hits) -> Composite:
    weight = hits.is_hit.astype(probs.dtype)
    mixed = probs.at[row].get(mode="promise_in_bounds")
    shown = jnp.zeros((*row.shape, lit.shape[-1]), probs.dtype)
    for k in range(6):
        shown = jnp.where((face == k)[..., None], product(mixed, lit[:, k]), shown)
    return Composite(
        features=weight[..., None] * shown,
        transmittance=1.0 - weight,
        axis_weight=jnp.stack([weight * (hits.axis == k) for k in range(3)], axis=-1),
        depth=jnp.where(hits.is_hit, hits.t_in, 0.0),
        median=jnp.where(hits.is_hit, hits.t_in, jnp.inf),
    )


def _backward(config: HitConfig, residuals: Any, cotangent: Composite):
    flat, logits, probs, lit, eye, directions, hits, row, face = residuals
    _, pull = jax.vjp(lambda p, l: _shade(p, l, row, face, hits), probs, lit)
    d_probs, d_lit = pull(cotangent)
    is_solid, slots = _spread(config, flat, logits > 0)
    occupancy = jax.nn.sigmoid(logits)
    slope = occupancy * (1.0 - occupancy)
    field = skip_field(is_solid).reshape(-1)
    is_candidate = None
    if config.threshold < 0.5:
        is_candidate, _ = _spread(config, flat, occupancy > config.threshold)
        candidate_field = skip_field(is_candidate).reshape(-1)
        solid = is_solid.reshape(-1)

    def look_up(cell: Array, is_seen: Array) -> tuple[Array, Array]:
        """Row of each cell in the lists, 0 where there is none to look at, and its materials."""
        row = cell if slots is None else slots.at[cell].get(mode="promise_in_bounds")
        row = jnp.where(is_seen, row, 0)
        return row, probs.at[row].get(mode="promise_in_bounds")

    def one_tile(d_logits: Array, tile: tuple) -> tuple[Array, None]:
        directions, hits, g = tile
        first, fixed = _begin(config, eye, directions)
        # what one unit of each material is worth to the pixel, entered through each axis
        worth = [
            jnp.where(
                fixed.is_up[k][:, None],
                product(g.features, lit[:, 2 * k + 1].T),
                product(g.features, lit[:, 2 * k].T),
            )
            for k in range(3)
        ]

        def value_of(mixed: Array, axis: Array, t_in: Array) -> Array:
            """Features of the cells, dotted with the pixels' cotangents."""
            pick = axis[:, None]
            per_material = jnp.where(pick == 0, worth[0], jnp.where(pick == 1, worth[1], worth[2]))
            along = sum(jnp.where(axis == k, g.axis_weight[:, k], 0.0) for k in range(3))
            return jnp.sum(mixed * per_material, axis=-1) + along + g.depth * t_in

        def or_sky(hits: Hits) -> tuple[Array, Array]:
            row, mixed = look_up(hits.cell, hits.is_hit)
            t_in = jnp.where(hits.is_hit, hits.t_in, 0.0)
            return row, jnp.where(hits.is_hit, value_of(mixed, hits.axis, t_in), g.transmittance)

        row, seen = or_sky(hits)
        at_hit = _Lanes(_unravel(config.shape, hits.cell), hits.axis, hits.t_in)
        at_hit = jax.tree.map(lambda a, b: jnp.where(hits.is_hit, a, b), at_hit, first)
        beyond = _jump(at_hit, fixed, eye, jnp.zeros_like(hits.t_in))
        beyond = beyond._replace(t_in=jnp.where(hits.is_hit, beyond.t_in, jnp.inf))
        _, behind = or_sky(_hits(config, _search(config, field, beyond, fixed, eye), fixed))
        update = jnp.where(hits.is_hit, slope[row] * (seen - behind), 0.0)
        d_logits = d_logits.at[row].add(update, mode="promise_in_bounds")
        if is_candidate is None:
            return d_logits, None

        def visit(state: tuple[_Lanes, Array]) -> tuple[_Lanes, Array]:
            lanes, d_logits = state
            is_open = lanes.t_in < fixed.t_out
            cell = jnp.where(is_open, _ravel(config.shape, lanes.cell), 0)
            is_end = ~is_open | solid.at[cell].get(mode="promise_in_bounds")
            row, mixed = look_up(cell, ~is_end)
            t_in = jnp.where(is_end, 0.0, lanes.t_in)
            update = slope[row] * (value_of(mixed, lanes.axis, t_in) - seen)
            d_logits = d_logits.at[row].add(
                jnp.where(is_end, 0.0, update), mode="promise_in_bounds"
            )
            moved = _jump(lanes, fixed, eye, jnp.zeros_like(lanes.t_in))
            moved = moved._replace(t_in=jnp.where(is_end, jnp.inf, moved.t_in))
            return _search(config, candidate_field, moved, fixed, eye), d_logits

        first = _search(config, candidate_field, first, fixed, eye)
        _, d_logits = jax.lax.while_loop(
            lambda state: jnp.any(state[0].t_in < fixed.t_out), visit, (first, d_logits)
        )
        return d_logits, None

    tiles = (
        split_tiles(directions, config.tile),
        jax.tree.map(lambda x: split_tiles(x, config.tile), hits),
        jax.tree.map(lambda x: split_tiles(x, config.tile, is_border_zero=True), cotangent),
    )
    d_logits, _ = jax.lax.scan(one_tile, jnp.zeros_like(logits), tiles)
    return None, d_logits, d_probs, d_lit, jnp.zeros_like(eye), jnp.zeros_like(directions)


composite_hard.defvjp(_forward, _backward)


def _spread(
    config: HitConfig, flat: Array | None, mask: Array
) -> tuple[Bool[Array, "x y z"], Int[Array, " grid"] | None]:
    """A mask of listed cells as a grid, and the row of each cell where only some are listed."""
    if flat is None:
        return mask.reshape(config.shape), None
    size = math.prod(config.shape)
    index = jnp.where((flat >= 0) & (flat < size), flat, size)
    grid = jnp.zeros(size, bool).at[index].set(mask, mode="drop")
    rows = jnp.arange(flat.shape[0], dtype=jnp.int32)
    slots = jnp.zeros(size, jnp.int32).at[index].set(rows, mode="drop")
    return grid.reshape(config.shape), slots


def _begin(config: HitConfig, eye: Array, directions: Array) -> tuple[_Lanes, _Fixed]:
    first = start(config.shape, config.near, eye, directions)

    def axes(values: Array) -> tuple[Array, ...]:
        return tuple(values[:, k] for k in range(3))

    fixed = _Fixed(axes(directions), axes(first.inverse), axes(first.inverse > 0), first.t_out)
    lanes = _Lanes(axes(first.cell.astype(directions.dtype)), first.axis, first.t_in)
    if config.is_eye_cell_skipped:
        moved = _jump(lanes, fixed, eye, jnp.zeros_like(first.t_in))
        lanes = jax.tree.map(lambda a, b: jnp.where(first.is_eye_cell, a, b), moved, lanes)
    return lanes, fixed


def _jump(lanes: _Lanes, fixed: _Fixed, eye: Array, radius: Array) -> _Lanes:
    """Leaves the box of cells within `radius` of the lane's cell."""
    leave = []
    for k in range(3):
        ahead = jnp.where(fixed.is_up[k], radius + 1.0, -radius)
        leave.append((lanes.cell[k] + ahead - eye[k]) * fixed.inverse[k])
    t = jnp.minimum(jnp.minimum(leave[0], leave[1]), leave[2])
    cells, nears = [], []
    for k in range(3):
        guess = jnp.floor(eye[k] + t * fixed.directions[k])
        cell = snap(guess, fixed.is_up[k], fixed.inverse[k], eye[k], t)
        cells.append(cell)
        nears.append((cell + ~fixed.is_up[k] - eye[k]) * fixed.inverse[k])
    is_x = (nears[0] >= nears[1]) & (nears[0] >= nears[2])
    axis = jnp.where(is_x, 0, jnp.where(nears[1] >= nears[2], 1, 2)).astype(jnp.int32)
    return _Lanes(tuple(cells), axis, t)


def _search(config: HitConfig, field: Array, lanes: _Lanes, fixed: _Fixed, eye: Array) -> _Lanes:
    """Moves lanes to their first cell with field 0; lanes without one end at or beyond t_out."""

    def look(lanes: _Lanes) -> tuple[Array, Array]:
        is_open = lanes.t_in < fixed.t_out
        cell = jnp.where(is_open, _ravel(config.shape, lanes.cell), 0)
        reach = field.at[cell].get(mode="promise_in_bounds")
        return reach, is_open & (reach > 0)

    def jump(lanes: _Lanes, reach: Array, is_searching: Array) -> tuple[_Lanes, Array, Array]:
        moved = _jump(lanes, fixed, eye, reach - 1.0)
        lanes = jax.tree.map(lambda a, b: jnp.where(is_searching, a, b), moved, lanes)
        return lanes, *look(lanes)

    def body(state: tuple[_Lanes, Array, Array]) -> tuple[_Lanes, Array, Array]:
        for _ in range(config.stride):
            state = jump(*state)
        return state

    state = jax.lax.while_loop(lambda s: jnp.any(s[2]), body, (lanes, *look(lanes)))
    return state[0]


def _hits(config: HitConfig, lanes: _Lanes, fixed: _Fixed) -> Hits:
    is_hit = lanes.t_in < fixed.t_out
    cell = jnp.where(is_hit, _ravel(config.shape, lanes.cell), 0)
    return Hits(is_hit, cell, lanes.axis, lanes.t_in)


def _ravel(shape: tuple[int, int, int], cell: tuple[Array, ...]) -> Int[Array, "*rays"]:
    x, y, z = (c.astype(jnp.int32) for c in cell)
    return (x * shape[1] + y) * shape[2] + z


def _unravel(shape: tuple[int, int, int], flat: Array) -> tuple[Array, ...]:
    rest, z = jnp.divmod(flat, shape[2])
    x, y = jnp.divmod(rest, shape[1])
    return x.astype(jnp.float32), y.astype(jnp.float32), z.astype(jnp.float32)
