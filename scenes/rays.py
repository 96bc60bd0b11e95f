"""Rays: an origin and a unit direction per pixel, and where they cross a box."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .cameras import Cameras, pixel_directions, select

_MIN_COMPONENT = 1e-10


class Rays(NamedTuple):
    """Half lines; directions have unit length, so t along a ray is a distance."""

    origins: Float[Array, "*rays 3"]
    directions: Float[Array, "*rays 3"]


class Interval(NamedTuple):
    """Where rays are inside something: distances near <= far; equal where they miss it."""

    near: Float[Array, "*rays"]
    far: Float[Array, "*rays"]


def camera_rays(
    cameras: Cameras,
    view: Int[Array | np.ndarray, "*rays"] | int,
    xy: Float[Array | np.ndarray, "*rays 2"],
) -> Rays:
    """Makes the rays through continuous pixel coordinates `xy` of cameras `view`.

    Lens distortion is undone. Differentiable in `xy` and in the cameras.
    Bad input: where the lens model cannot be inverted the ray is the nearest one it can give
    (see `cameras.undistort`); a view out of range is clamped.
    """
    local = pixel_directions(cameras, view, xy)
    local = local / jnp.sqrt(jnp.sum(local * local, axis=-1, keepdims=True))
    pose = select(cameras, view).camera_to_world
    directions = jnp.sum(pose[..., :3, :3] * local[..., None, :], axis=-1)
    origins = jnp.broadcast_to(pose[..., :3, 3], directions.shape)
    return Rays(origins, directions)


def pixel_grid(rows: int, cols: int) -> Float[np.ndarray, "rows cols 2"]:
    """Continuous coordinates of every pixel's centre of an image, x right, y down."""
    x, y = np.meshgrid(np.arange(cols) + 0.5, np.arange(rows) + 0.5)
    return np.stack([x, y], axis=-1).astype(np.float32)


def view_rays(cameras: Cameras, view: Int[Array, ""] | int, rows: int, cols: int) -> Rays:
    """Makes the rays of all pixels of one view, shaped [rows, cols, 3]."""
    xy = jnp.asarray(pixel_grid(rows, cols))
    return camera_rays(cameras, jnp.broadcast_to(jnp.asarray(view), xy.shape[:2]), xy)


def intersect_box(
    rays: Rays,
    aabb: Float[Array | np.ndarray, "2 3"],
    near: int | float | Float[Array, ""] = 0.0,
    far: int | float | Float[Array, ""] = 1e10,
) -> Interval:
    """Clips rays to an axis-aligned box (lower and upper corner) and to [near, far].

    Finite in value and derivative for rays parallel to a face too. Rays that miss the box get
    near == far.
    """
    lower, upper = (jnp.broadcast_to(corner, rays.origins.shape) for corner in jnp.asarray(aabb))
    is_flat = jnp.abs(rays.directions) < _MIN_COMPONENT
    tiny = jnp.where(rays.directions < 0, -_MIN_COMPONENT, _MIN_COMPONENT)
    inverse = 1.0 / jnp.where(is_flat, tiny, rays.directions)
    first = (lower - rays.origins) * inverse
    second = (upper - rays.origins) * inverse
    enter = jnp.maximum(jnp.max(jnp.minimum(first, second), axis=-1), near)
    leave = jnp.minimum(jnp.min(jnp.maximum(first, second), axis=-1), far)
    enter = jnp.clip(enter, near, far)
    return Interval(enter, jnp.maximum(enter, leave))
