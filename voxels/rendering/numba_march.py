"""The ray-major backend with its loops compiled by numba (extra `numba`), for CPUs.

The same walk and the same derivative as `ray_march`, which sees to the cell that holds the eye and
says what they mean; all other crossings are numba's. XLA makes every step of all rays a pass over
memory, here a ray stays in registers. Results differ by rounding, and by `stop`: a ray ends at once
where lanes walk on together. The derivative is added up in one table for each share of the rays and
the tables are summed in order, so it does not depend on the number of cores or on which was faster.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from . import ray_march, xla_calls
from .crossings import Composite, alpha_slope, axis_features, eye_cell, product, strength
from .ray_march import Fixed, Lanes, MarchConfig

_GATHER, _SCATTER = "hardlight_voxels_gather", "hardlight_voxels_scatter"
_MOST_SHARES = 4
_SHARED_BYTES = 1 << 28
"""What all tables of the derivative may take together; above, there are two."""


@functools.cache
def is_available() -> bool:
    """Whether numba is installed and fits the other packages."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


def register() -> None:
    """Makes the loops known to XLA.

    Raises:
      ValueError: without numba.
    """
    if not is_available():
        raise ValueError(
            'the voxel backend "numba" needs the package numba: pip install "hardlight[numba]"'
        )
    from . import numba_loops  # noqa: F401  (here and not at the first call, in a thread of XLA)

    xla_calls.register(_GATHER, _gather)
    xla_calls.register(_SCATTER, _scatter)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def composite_numba(
    config: MarchConfig,
    logits: Float[Array, "x y z"],
    probs: Float[Array, "x y z materials"],
    lit: Float[Array, "materials 6 f"],
    eye: Float[Array, " 3"],
    directions: Float[Array, "rows cols 3"],
) -> Composite:
    """Does what `ray_march.composite_march` does; `tile` and `stride` mean nothing here.

    Raises:
      ValueError: without numba, for other numbers than float32 and float64, or for more cells than
        an int32 can tell apart.
    """
    return _forward(config, logits, probs, lit, eye, directions)


def _forward(config, logits, probs, lit, eye, directions) -> Composite:
    register()
    if logits.dtype not in (jnp.float32, jnp.float64) or logits.dtype != directions.dtype:
        raise ValueError(f"needed float32 or float64, got {logits.dtype} and {directions.dtype}")
    if 3 * math.prod(logits.shape) >= 2**31:
        raise ValueError(f"a grid of {logits.shape} has more cells than fit")
    rows, cols, num_features = *directions.shape[:2], lit.shape[-1]
    num_rays = rows * cols
    lanes, fixed, first, face = ray_march.begin(config, logits, eye, directions.reshape(-1, 3))
    shapes = (num_rays, num_features), (num_rays,), (num_rays if config.has_geometry else 1, 5)
    call = jax.ffi.ffi_call(
        _GATHER,
        [jax.ShapeDtypeStruct(shape, directions.dtype) for shape in shapes],
        vmap_method="sequential",
    )
    colors, passing, geometry = call(
        *_world(config, logits, axis_features(probs, lit, eye), eye), *_places(lanes, fixed)
    )
    inside = ray_march.eye_features(probs, lit, eye)[face]
    colors += first.weight[:, None] * inside
    axes, depth, median = jnp.zeros((num_rays, 3)), jnp.zeros(num_rays), jnp.full(num_rays, jnp.inf)
    if config.has_geometry:
        axes = geometry[:, :3] + first.weight[:, None] * jax.nn.one_hot(first.row % 3, 3)
        depth = geometry[:, 3] + first.weight * first.t_in
        is_half = (first.before > 0.5) & (first.before - first.weight <= 0.5)
        median = jnp.where(is_half, first.t_in, geometry[:, 4])
    out = Composite(colors, passing, axes, depth, median)
    return jax.tree.map(lambda x: x.astype(colors.dtype).reshape(rows, cols, *x.shape[1:]), out)


def _forward_saving(config, logits, probs, lit, eye, directions):
    out = _forward(config, logits, probs, lit, eye, directions)
    return out, (logits, probs, lit, eye, directions, out)


def _backward(config: MarchConfig, residuals: Any, cotangent: Composite):
    logits, probs, lit, eye, directions, out = residuals
    features, pull_features = jax.vjp(lambda p, l: axis_features(p, l, eye), probs, lit)
    inside, pull_inside = jax.vjp(lambda p, l: ray_march.eye_features(p, l, eye), probs, lit)
    lanes, fixed, first, face = ray_march.begin(config, logits, eye, directions.reshape(-1, 3))
    g_colors = cotangent.features.reshape(-1, lit.shape[-1])
    g_geometry = jnp.concatenate(
        [cotangent.axis_weight.reshape(-1, 3), cotangent.depth.reshape(-1, 1)], axis=-1
    )
    value = jnp.sum(inside[face] * g_colors, axis=-1)
    if config.has_geometry:
        along = jax.nn.one_hot(first.row % 3, 3, dtype=value.dtype)
        value += jnp.sum(along * g_geometry[:, :3], -1) + g_geometry[:, 3] * first.t_in
    behind = ray_march.behind_all(config, out, cotangent).reshape(-1) - first.weight * value
    slope = alpha_slope(config.mode, first.strength, first.chord)
    pulled = slope * ((first.before - first.weight) * value - behind)
    d_eye_logit = jnp.sum(jnp.where(first.chord > 0, pulled, 0.0))
    d_inside = product(
        jax.nn.one_hot(face, 6, dtype=value.dtype).T, first.weight[:, None] * g_colors
    )
    call = jax.ffi.ffi_call(
        _SCATTER,
        [
            jax.ShapeDtypeStruct((logits.size,), logits.dtype),
            jax.ShapeDtypeStruct(features.shape, features.dtype),
        ],
        vmap_method="sequential",
    )
    d_logits, d_features = call(
        *_world(config, logits, features, eye),
        *_places(lanes, fixed),
        behind,
        g_colors,
        g_geometry if config.has_geometry else g_geometry[:1],
    )
    here = jnp.clip(eye_cell(eye), 0, jnp.array(logits.shape) - 1)
    d_logits = d_logits.reshape(logits.shape).at[tuple(here)].add(d_eye_logit)
    from_table, from_inside = pull_features(d_features), pull_inside(d_inside)
    d_probs, d_lit = jax.tree.map(jnp.add, from_table, from_inside)
    return d_logits, d_probs, d_lit, jnp.zeros_like(eye), jnp.zeros_like(directions)


composite_numba.defvjp(_forward_saving, _backward)


def _world(config: MarchConfig, logits: Array, features: Array, eye: Array) -> tuple[Any, ...]:
    """What the loops read of the grid; settings go along as numbers."""
    _, ny, nz = logits.shape
    switches = np.array([config.mode == "beer", config.has_geometry, ny * nz, nz, 1], np.int32)
    stop = np.array([config.stop], logits.dtype)
    return switches, stop, strength(config.mode, logits).reshape(-1), features, eye


def _places(lanes: Lanes, fixed: Fixed) -> tuple[Array, ...]:
    plane, inverse = jnp.stack(lanes.plane, -1), jnp.stack(fixed.inverse, -1)
    return plane, inverse, lanes.t_in, fixed.t_out, lanes.row, lanes.passing


def _gather(switches, stop, strengths, features, *rest) -> None:
    from . import numba_loops

    features = features.reshape(strengths.size, 3, -1)
    is_beer, has_geometry = switches[:2] != 0
    numba_loops.gather(is_beer, has_geometry, stop[0], switches[2:], strengths, features, *rest)


def _scatter(switches, stop, strengths, features, *rest) -> None:
    from . import numba_loops

    features = features.reshape(strengths.size, 3, -1)
    *inputs, d_logits, d_features = rest
    size = (strengths.nbytes + features.nbytes) * _MOST_SHARES
    others = (_MOST_SHARES if size <= _SHARED_BYTES else 2) - 1
    is_beer, has_geometry = switches[:2] != 0
    numba_loops.scatter(
        is_beer,
        has_geometry,
        stop[0],
        switches[2:],
        strengths,
        features,
        *inputs,
        np.empty((others, *strengths.shape), strengths.dtype),
        np.empty((others, *features.shape), features.dtype),
        d_logits,
        d_features.reshape(features.shape),
    )
