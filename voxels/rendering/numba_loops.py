"""The loops of the march, compiled by numba for all cores of a CPU; `numba_march` calls them.

Per ray they do what `ray_march` does per lane, in the same order and in the precision of their
arrays. What belongs to a ray lies ray by ray, `[rays, ..]`.
"""

# pyright: reportIndexIssue=false
# (the names are arrays to numba only)

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import prange

_RUN = 256
"""Rays that a core takes one after another; neighbours meet the same cells."""
_BLOCK = 4096
"""Cells whose sums a core makes one after another."""


def _on_all_cores(function: Callable[..., None]) -> Callable[..., None]:
    """Compiles at the first call; keeps the machine code on disk where there is room for it."""
    function = inspect.unwrap(function)  # numba cannot read what checks types at run time
    try:
        compiled = numba.njit(parallel=True, cache=True)(function)
    except RuntimeError:  # neither the package nor the user's cache folder can be written
        return numba.njit(parallel=True)(function)

    @functools.wraps(function)
    def call(*arguments: Any) -> None:
        try:
            compiled(*arguments)
        except OSError:  # the code could not be kept, but it is there now
            compiled(*arguments)

    return call


def _in_a_loop(function: Callable[..., Any]) -> Any:
    """Compiles what the loops call."""
    return numba.njit(inspect.unwrap(function))


@_in_a_loop
def _move(strides: Any, t: Any, eye: Any, inverse: Any, plane: Any, cell: int, one: Any) -> Any:
    """Crosses into the next cell; equal planes are taken z first, as in `ray_march`.

    Args:
      t, inverse, plane: along x, y, z: where the next planes are met, 1 / d, the planes.
      one: in the precision of the planes, which an integer would widen.
    """
    (tx, ty, tz), (px, py, pz) = t, plane
    if tz <= tx and tz <= ty:
        is_up = inverse[2] > 0
        pz += one if is_up else -one
        tz = (pz - eye[2]) * inverse[2]
        return cell + (strides[2] if is_up else -strides[2]), 2, (px, py, pz), (tx, ty, tz)
    if ty <= tx:
        is_up = inverse[1] > 0
        py += one if is_up else -one
        ty = (py - eye[1]) * inverse[1]
        return cell + (strides[1] if is_up else -strides[1]), 1, (px, py, pz), (tx, ty, tz)
    is_up = inverse[0] > 0
    px += one if is_up else -one
    tx = (px - eye[0]) * inverse[0]
    return cell + (strides[0] if is_up else -strides[0]), 0, (px, py, pz), (tx, ty, tz)


@_in_a_loop
def _meet(plane: Any, eye: Any, inverse: Any) -> Any:
    """Where the next planes are met, along x, y, z."""
    return (
        (plane[0] - eye[0]) * inverse[0],
        (plane[1] - eye[1]) * inverse[1],
        (plane[2] - eye[2]) * inverse[2],
    )


@_on_all_cores
def gather(
    is_beer: bool,
    has_geometry: bool,
    stop: float,
    strides: Any,
    strengths: Any,
    features: Any,
    eye: Any,
    plane: Any,
    inverse: Any,
    t_in: Any,
    t_out: Any,
    row: Any,
    passing: Any,
    colors: Any,
    left: Any,
    geometry: Any,
) -> None:
    """Walks every ray until it leaves the grid or sees nothing more.

    Args:
      strides: from a cell to the next along x, y, z.
      strengths, features: of cells, [cells], and by entry axis, [cells, 3, f].
      plane, inverse: [rays, 3]; t_in, t_out, row, passing: [rays]; where the rays are.
      colors, left, geometry: written: features [rays, f]; what the rays let through [rays]; if
        asked for, weight by axis, depth and median [rays, 5].
    """
    num_rays, num_features = colors.shape
    is_rgb = num_features == 3  # sums in registers
    num_cells = len(strengths)
    one = strengths.dtype.type(1)
    nowhere = eye[0] + eye[1] + eye[2]
    for run in prange((num_rays + _RUN - 1) // _RUN):
        total = np.empty(num_features, strengths.dtype)
        for ray in range(run * _RUN, min(num_rays, (run + 1) * _RUN)):
            total[:] = 0
            red = green = blue = total[0]
            if has_geometry:
                geometry[ray] = 0
                geometry[ray, 4] = np.inf
            t, end, through = t_in[ray], t_out[ray], passing[ray]
            cell, axis = row[ray] // 3, row[ray] % 3
            ahead = (plane[ray, 0], plane[ray, 1], plane[ray, 2])
            rise = (inverse[ray, 0], inverse[ray, 1], inverse[ray, 2])
            if not math.isfinite(nowhere + rise[0] + rise[1] + rise[2]):
                end = t  # nothing is seen from there
            met = _meet(ahead, eye, rise)
            while t < end and through > stop and 0 <= cell < num_cells:
                leave = min(min(met[0], met[1]), met[2])
                if leave > t:
                    hidden = strengths[cell]
                    if is_beer:
                        hidden = -math.expm1(-(leave - t) * hidden)
                    weight = through * hidden
                    after = through - weight
                    if is_rgb:
                        red += weight * features[cell, axis, 0]
                        green += weight * features[cell, axis, 1]
                        blue += weight * features[cell, axis, 2]
                    else:
                        for k in range(num_features):
                            total[k] += weight * features[cell, axis, k]
                    if has_geometry:
                        geometry[ray, axis] += weight
                        geometry[ray, 3] += weight * t
                        if through > 0.5 and after <= 0.5:
                            geometry[ray, 4] = t
                    through = after
                cell, axis, ahead, met = _move(strides, met, eye, rise, ahead, cell, one)
                t = leave
            left[ray] = through
            if is_rgb:
                colors[ray, 0], colors[ray, 1], colors[ray, 2] = red, green, blue
            else:
                colors[ray] = total


@_on_all_cores
def scatter(
    is_beer: bool,
    has_geometry: bool,
    stop: float,
    strides: Any,
    strengths: Any,
    features: Any,
    eye: Any,
    plane: Any,
    inverse: Any,
    t_in: Any,
    t_out: Any,
    row: Any,
    passing: Any,
    behind: Any,
    g_colors: Any,
    g_geometry: Any,
    more_logits: Any,
    more_features: Any,
    d_logits: Any,
    d_features: Any,
) -> None:
    """Walks again; the derivatives by logits and features.

    Args:
      behind: R in `ray_march`, [rays].
      g_colors, g_geometry: cotangents, [rays, f] and, of weight by axis and depth, [rays, 4].
      more_logits, more_features: room for what each share of the rays adds up but the first, as
        d_logits and d_features, [shares - 1, ..].
      d_logits, d_features: written, [cells] and [cells, 3, f].
    """
    num_rays, num_features = g_colors.shape
    num_shares, num_cells = 1 + len(more_logits), len(d_logits)
    one = strengths.dtype.type(1)
    nowhere = eye[0] + eye[1] + eye[2]
    for share in prange(num_shares):
        to_logits = d_logits if share == 0 else more_logits[share - 1]
        to_features = d_features if share == 0 else more_features[share - 1]
        to_logits[:] = 0
        to_features[:] = 0
        for run in range(share, (num_rays + _RUN - 1) // _RUN, num_shares):
            for ray in range(run * _RUN, min(num_rays, (run + 1) * _RUN)):
                t, end, through, rest = t_in[ray], t_out[ray], passing[ray], behind[ray]
                cell, axis = row[ray] // 3, row[ray] % 3
                ahead = (plane[ray, 0], plane[ray, 1], plane[ray, 2])
                rise = (inverse[ray, 0], inverse[ray, 1], inverse[ray, 2])
                if not math.isfinite(nowhere + rise[0] + rise[1] + rise[2]):
                    end = t  # nothing is seen from there
                met = _meet(ahead, eye, rise)
                while t < end and through > stop and 0 <= cell < num_cells:
                    leave = min(min(met[0], met[1]), met[2])
                    if leave > t:
                        slope = hidden = strengths[cell]
                        if is_beer:
                            slope = (leave - t) * -math.expm1(-hidden)
                            hidden = -math.expm1(-(leave - t) * hidden)
                        weight = through * hidden
                        after = through - weight
                        value = after * 0
                        for k in range(num_features):
                            value += features[cell, axis, k] * g_colors[ray, k]
                            to_features[cell, axis, k] += weight * g_colors[ray, k]
                        if has_geometry:
                            value += g_geometry[ray, axis] + g_geometry[ray, 3] * t
                        rest -= weight * value
                        to_logits[cell] += slope * (after * value - rest)
                        through = after
                    cell, axis, ahead, met = _move(strides, met, eye, rise, ahead, cell, one)
                    t = leave
    for block in prange((num_cells + _BLOCK - 1) // _BLOCK):
        first, last = block * _BLOCK, min(num_cells, (block + 1) * _BLOCK)
        for share in range(num_shares - 1):
            for cell in range(first, last):
                d_logits[cell] += more_logits[share, cell]
                for axis in range(3):
                    for k in range(num_features):
                        d_features[cell, axis, k] += more_features[share, cell, axis, k]
