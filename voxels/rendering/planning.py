"""Chooses on the host what renders, with how much room, and runs again what did not fit.

Ray marching costs pixels x cells per ray, splatting 256 pixels x (cell, tile) pairs; both are
counted for the views at hand and weighed by their measured cost on a CPU, where numba marches if it
is installed. Capacities are rounded up, so that a world that changes a little compiles nothing new.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from scenes.cameras import Cameras

from ..block_map import BlockMap, origin
from . import numba_march
from .images import GridRays, Image, RenderConfig, grid_rays, is_on_cpu, listed_cells, render
from .splat import SplatConfig, count_pairs

# nanoseconds, forward and backward on one CPU core: per cell a ray meets, per pixel of a pair
_MARCH_STEP, _SPLAT_PIXEL = {"march": 100.0, "numba": 25.0}, 25.0
_MAX_PAIRS = 1 << 24
_SMALL = 1 << 20
"""Cells of a grid that are listed with room for all."""


def march_backend(device: Literal["cpu", "gpu", "tpu"] | None = None) -> Literal["march", "numba"]:
    """Chooses what walks rays: numba on CPUs where it is installed.

    Args:
      device: None asks JAX which one it uses.
    """
    is_cpu = (device or jax.default_backend()) == "cpu"
    return "numba" if is_cpu and numba_march.is_available() else "march"


def plan(
    config: RenderConfig,
    occupancy_logits: Float[Array | np.ndarray, "x y z"],
    cameras: Cameras,
    views: Int[Array | np.ndarray, " views"] | list[int],
) -> RenderConfig:
    """Picks `march_backend` or `splat` for these views of this grid, with room to spare.

    `hard` alpha has one backend and is returned as it is. Lenses and a near distance of 0 can only
    be marched, and accelerators march: splatting goes from tile to tile.
    """
    if config.alpha == "hard" or len(views) == 0:
        return config
    march = march_backend(config.device)
    if config.has_distortion or config.near == 0 or not is_on_cpu(config):
        return dataclasses.replace(config, backend=march, max_cells=0, max_pairs=0)
    logits = jnp.asarray(occupancy_logits)
    listed = max(int(_num_listed(config, logits, cameras, view)) for view in views)
    pixels = config.rows * config.cols * config.samples**2
    march_cost = _MARCH_STEP[march] * pixels * sum(config.shape) / 4
    # a listed cell that is on screen needs at least one pair
    if listed * 256 * _SPLAT_PIXEL / 8 > march_cost:
        return dataclasses.replace(config, backend=march, max_cells=0, max_pairs=0)
    max_cells = round_up(listed)
    pairs = max(int(_count(config, max_cells, logits, cameras, view)) for view in views)
    if pairs > _MAX_PAIRS or pairs * 256 * _SPLAT_PIXEL > march_cost:
        return dataclasses.replace(config, backend=march, max_cells=0, max_pairs=0)
    return dataclasses.replace(
        config, backend="splat", max_cells=max_cells, max_pairs=round_up(pairs)
    )


def render_planned(
    config: RenderConfig,
    occupancy_logits: Float[Array, "x y z"],
    probs: Float[Array, "x y z materials"],
    lit: Float[Array, "materials 6 3"],
    sky: Float[Array | np.ndarray, " 3"],
    cameras: Cameras,
    view: int,
) -> tuple[Image, RenderConfig]:
    """Renders a view, and again with room for it when something did not fit.

    Returns:
      The complete image, and the config that made it.
    """
    image = _render(config, occupancy_logits, probs, lit, jnp.asarray(sky), cameras, view)
    while int(image.overflow):
        missing = int(image.overflow)
        config = dataclasses.replace(
            config,
            max_cells=min(round_up(config.max_cells + missing), math.prod(config.shape)),
            max_pairs=round_up(config.max_pairs + missing),
        )
        image = _render(config, occupancy_logits, probs, lit, jnp.asarray(sky), cameras, view)
    return image, config


def seen_cells(
    config: RenderConfig,
    block_map: BlockMap,
    cameras: Cameras,
    views: Sequence[int],
) -> Int[np.ndarray, " cells"]:
    """Lists the blocks of a map that rays of these views can meet first, for `render_cells`.

    These are the blocks beside air, also by an edge or a corner, and those around an eye, which may
    be inside the ground.

    Returns:
      C-order indices, and padding with ones outside the grid: up to the whole grid for small ones,
      else to what `round_up` gives, so that a map that changes a little compiles nothing new.
    Raises:
      ValueError: for grids of 2^31 cells or more.
    """
    if block_map.materials.size >= 2**31:
        raise ValueError(f"needed fewer than 2^31 cells, got {config.shape}")
    kept = block_map.is_solid & _beside(~block_map.is_solid)
    reach = math.ceil(config.near / config.scale) + 1
    corner = origin(config.shape, config.scale)
    for view in views:
        eye = np.asarray(cameras.camera_to_world)[view, :3, 3]
        cell = np.floor((eye - corner) / config.scale).astype(int)
        low = np.clip(cell - reach, 0, config.shape)
        high = np.clip(cell + reach + 1, 0, config.shape)
        around = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        kept[around] |= block_map.is_solid[around]
    flat = np.flatnonzero(kept).astype(np.int32)
    room = kept.size if kept.size <= _SMALL else round_up(len(flat))
    return np.pad(flat, (0, room - len(flat)), constant_values=kept.size)


def _beside(air: Bool[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    """Cells that touch air or the outside."""
    near = np.pad(air, 1, constant_values=True)
    for axis in range(3):
        near |= np.roll(near, 1, axis) | np.roll(near, -1, axis)
    return near[1:-1, 1:-1, 1:-1]


def round_up(count: int) -> int:
    """The next capacity of the form 2^k, 5/4, 6/4 or 7/4 of it, with an eighth to spare.

    Examples:
      >>> round_up(1000), round_up(1100)
      (1280, 1280)
    """
    wanted = max(64, count + count // 8)
    step = 1 << max(0, wanted.bit_length() - 3)
    return -(-wanted // step) * step


@functools.partial(jax.jit, static_argnums=0)
def _render(config, occupancy_logits, probs, lit, sky, cameras, view) -> Image:
    return render(config, occupancy_logits, probs, lit, sky, cameras, view)


@functools.partial(jax.jit, static_argnums=0)
def _num_listed(config: RenderConfig, logits, cameras, view) -> Array:
    eye = grid_rays(config, cameras, view).eye
    return listed_cells(config, logits, eye, 1).num_dropped + 1


@functools.partial(jax.jit, static_argnums=(0, 1))
def _count(config: RenderConfig, max_cells: int, logits, cameras, view) -> Array:
    rays: GridRays = grid_rays(config, cameras, view)
    listed = listed_cells(config, logits, rays.eye, max_cells)
    splat_config = SplatConfig(shape=config.shape, max_pairs=1, near=config.near / config.scale)
    return count_pairs(splat_config, listed.flat, rays.eye, rays.frame, rays.directions)
