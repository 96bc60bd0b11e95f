"""Whole images from a trained field: any size, bounded memory, one compilation.

An image is rendered in chunks of a fixed number of rays; the last chunk repeats its final pixel.
Chunk size and sample budget bound the memory, and because the image's size is an argument, not a
shape, every size runs the same program.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from scenes.cameras import Cameras
from scenes.rays import Rays, camera_rays

from . import fields, marching, rendering, volume_rendering
from .occupancy import OccupancyState
from .spaces import SceneBounds
from .train_step import NerfConfig
from .volume_rendering import RenderedRays


class RenderedImage(NamedTuple):
    """One view, on the host."""

    color: Float[np.ndarray, "rows cols 3"]
    """Over the background, in [0, 1]."""
    opacity: Float[np.ndarray, "rows cols"]
    depth: Float[np.ndarray, "rows cols"]
    """Mean distance along the ray of what is seen; 0 where nothing is."""


class FieldSnapshot(NamedTuple):
    """The part of a train state that pictures are made from."""

    params: Any
    grid: OccupancyState
    step_scale: Float[Array, ""]
    """Width of the marching steps the field was last trained with, over the shortest."""


RenderImage = Callable[
    [FieldSnapshot, SceneBounds, Cameras, int, int, int, Float[np.ndarray, "3"]], RenderedImage
]


def snapshot(state) -> FieldSnapshot:
    """Takes what rendering needs out of a `TrainState`."""
    return FieldSnapshot(params=state.params, grid=state.grid, step_scale=state.step_scale)


def render_rays(
    config: NerfConfig, snapshot: FieldSnapshot, bounds: SceneBounds, rays: Rays
) -> RenderedRays:
    """Renders rays with finer samples than training had.

    Where training places samples, a picture has twice as many of them per ray. Otherwise it takes
    the shortest step in a bounded scene; where most of a ray is never empty that would be many
    times finer than anything the field was trained with, so there it is half of training's.
    """
    march = config.marching
    field = functools.partial(fields.evaluate, config.field)
    shared = (config.occupancy, snapshot.params, snapshot.grid, bounds, rays)
    if march.num_coarse:
        return rendering.render_placed(
            field,
            functools.partial(fields.density, config.field),
            march,
            *shared,
            num_samples=max(1, 2 * march.budget // config.rays_per_step),
        )
    step = marching.shortest_step(march, bounds)
    if march.space != "bounded":
        step = step * jnp.maximum(0.5 * snapshot.step_scale, 1.0)
    return rendering.render_rays(field, march, *shared, step=step)


def make_image_renderer(config: NerfConfig, *, rays_per_chunk: int = 16384) -> RenderImage:
    """Builds `render(snapshot, bounds, cameras, view, rows, cols, background)`.

    The function compiles once, for every image size and scene. `cameras` may hold one or many
    views.
    """

    @jax.jit
    def render_chunk(
        snapshot: FieldSnapshot,
        bounds: SceneBounds,
        camera: Cameras,
        first: Int[Array, ""],
        last: Int[Array, ""],
        cols: Int[Array, ""],
        background: Float[Array, "3"],
    ):
        pixel = jnp.minimum(first + jnp.arange(rays_per_chunk, dtype=jnp.int32), last)
        xy = jnp.stack([pixel % cols, pixel // cols], axis=-1).astype(jnp.float32) + 0.5
        rays = camera_rays(camera, jnp.zeros_like(pixel), xy)
        rendered = render_rays(config, snapshot, bounds, rays)
        color = volume_rendering.over_background(rendered, background[None, :])
        return jnp.clip(color, 0.0, 1.0), rendered.opacity, rendered.depth

    def render(snapshot, bounds, cameras, view, rows, cols, background):
        if rows < 1 or cols < 1:
            raise ValueError(f"an image needs at least one row and column, got {rows} x {cols}")
        camera = jax.tree.map(lambda leaf: jnp.asarray(leaf)[view][None], cameras)
        count = rows * cols
        chunks = [
            jax.device_get(
                render_chunk(
                    snapshot,
                    bounds,
                    camera,
                    jnp.asarray(first, jnp.int32),
                    jnp.asarray(count - 1, jnp.int32),
                    jnp.asarray(cols, jnp.int32),
                    jnp.asarray(background, jnp.float32),
                )
            )
            for first in range(0, count, rays_per_chunk)
        ]
        color, opacity, depth = (
            np.concatenate(parts)[:count] for parts in zip(*chunks, strict=True)
        )
        return RenderedImage(
            color=color.reshape(rows, cols, 3),
            opacity=opacity.reshape(rows, cols),
            depth=depth.reshape(rows, cols),
        )

    return render


def render_views(
    render: RenderImage,
    snapshot: FieldSnapshot,
    bounds: SceneBounds,
    cameras: Cameras,
    rows: int,
    cols: int,
    background: Float[np.ndarray, "3"],
) -> Iterator[RenderedImage]:
    """Renders the cameras one after the other."""
    for view in range(cameras.camera_to_world.shape[0]):
        yield render(snapshot, bounds, cameras, view, rows, cols, background)
