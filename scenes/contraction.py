"""Warps of space into the unit cube, so that one grid serves every kind of scene.

Notation: x a point of the scene, d its depth along the average viewing direction, t a distance
along a ray, s its normalised coordinate in [0, 1].

  bounded         the scene's box, scaled.
  unbounded       contraction: the box [-1, 1]^3 unchanged, all the rest into a shell of width 1
                  around it, by its maximum norm so that the result fills a cube. Barron et al.
                  2022 (mip-NeRF 360), eq. 10, which has the Euclidean norm; that one is here too.
  forward_facing  the frustum of all views, projectively: x/d, y/d and 1/d are the coordinates.
                  It is the map of Mildenhall et al. 2020's normalised device coordinates, but
                  applied to points where theirs is applied to rays: cameras need not be equal or
                  distortion-free, and t stays a distance, so depth keeps its unit.
"""

from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .posed_images import SceneKind

Norm = Literal["euclidean", "maximum"]


def contract(
    points: Float[Array, "*batch 3"], *, norm: Norm = "maximum"
) -> Float[Array, "*batch 3"]:
    """Maps all of space into the ball of radius 2 of a norm; the ball of radius 1 stays in place.

    Finite with finite derivatives for any finite float32 point.
    Source: Barron et al. 2022, eq. 10.
    """
    size = _norm(points, norm)
    is_outside = size > 1.0
    safe = jnp.where(is_outside, size, 1.0)
    return jnp.where(is_outside, (2.0 - 1.0 / safe) * (points / safe), points)


def uncontract(
    points: Float[Array, "*batch 3"], *, norm: Norm = "maximum"
) -> Float[Array, "*batch 3"]:
    """Inverts `contract`.

    Bad input: points on or beyond the ball of radius 2, which stand for infinity, come back at a
    distance of about 1e6.
    """
    size = _norm(points, norm)
    is_outside = size > 1.0
    safe = jnp.where(is_outside, size, 1.0)
    distance = 1.0 / jnp.maximum(2.0 - safe, 1e-6)
    return jnp.where(is_outside, points / safe * distance, points)


def to_unit_cube(
    points: Float[Array, "*batch 3"],
    kind: SceneKind,
    aabb: Float[Array | np.ndarray, "2 3"],
) -> Float[Array, "*batch 3"]:
    """Maps scene coordinates into [0, 1]^3, where a grid lives.

    Args:
      kind, aabb: of the scene's `PosedImages`. The box is the scene (bounded), the part that is
        not contracted (unbounded), or the box around the frustum of all views, whose tip is the
        origin and which looks along -z (forward_facing).
    Returns:
      Coordinates; outside [0, 1] where a bounded or forward-facing scene has nothing. An
      unbounded scene has no outside.
    """
    low, high = _corners(aabb, points)
    if kind == "bounded":
        return (points - low) / (high - low)
    if kind == "unbounded":
        center, half = 0.5 * (low + high), 0.5 * (high - low)
        return 0.5 + 0.25 * contract((points - center) / half)
    near, far = -high[..., 2:], -low[..., 2:]
    low, high = low[..., :2] / far, high[..., :2] / far
    depth = jnp.maximum(-points[..., 2:], 0.5 * near)
    side = (points[..., :2] / depth - low) / (high - low)
    along = (1.0 / near - 1.0 / depth) / (1.0 / near - 1.0 / far)
    return jnp.concatenate([side, along], axis=-1)


def from_unit_cube(
    points: Float[Array, "*batch 3"],
    kind: SceneKind,
    aabb: Float[Array | np.ndarray, "2 3"],
) -> Float[Array, "*batch 3"]:
    """Inverts `to_unit_cube` inside the cube."""
    low, high = _corners(aabb, points)
    if kind == "bounded":
        return low + points * (high - low)
    if kind == "unbounded":
        center, half = 0.5 * (low + high), 0.5 * (high - low)
        return center + half * uncontract(4.0 * points - 2.0)
    near, far = -high[..., 2:], -low[..., 2:]
    low, high = low[..., :2] / far, high[..., :2] / far
    depth = 1.0 / (1.0 / near - points[..., 2:] * (1.0 / near - 1.0 / far))
    slope = low + points[..., :2] * (high - low)
    return jnp.concatenate([slope * depth, -depth], axis=-1)


def distance_at(
    s: Float[Array, "*batch"],
    kind: SceneKind,
    near: float | Float[Array, "*#batch"],
    far: float | Float[Array, "*#batch"],
) -> Float[Array, "*batch"]:
    """Turns normalised coordinates along rays into distances between near and far.

    Even steps of s are even steps of distance in a bounded scene and even steps of 1 / distance
    in the others, where what is far away needs fewer samples.
    """
    if kind == "bounded":
        return near + s * (far - near)
    return 1.0 / ((1.0 - s) / near + s / far)


def normalised_distance(
    t: Float[Array, "*batch"],
    kind: SceneKind,
    near: float | Float[Array, "*#batch"],
    far: float | Float[Array, "*#batch"],
) -> Float[Array, "*batch"]:
    """Inverts `distance_at`."""
    if kind == "bounded":
        return (t - near) / (far - near)
    return (1.0 / near - 1.0 / t) / (1.0 / near - 1.0 / far)


def largest_component(points: Float[Array, "*batch 3"]) -> Float[Array, "*batch"]:
    """The largest of |x|, |y|, |z|, with a slope that is always finite.

    That of `jnp.max` divides by how many components equal the maximum, of which XLA may find none
    once it has worked the points out a second time, otherwise rounded, in another kernel.
    """
    x, y, z = (jnp.abs(points[..., k]) for k in range(3))
    larger = jnp.where(x >= y, x, y)
    return jnp.where(larger >= z, larger, z)


def _norm(points: Array, norm: Norm) -> Array:
    """Length of points, [..., 1]; of huge points too, and with a derivative at zero."""
    largest = largest_component(points)[..., None]
    if norm == "maximum":
        return largest
    scale = jnp.where(largest > 1.0, largest, 1.0)
    squared = jnp.sum(jnp.square(points / scale), axis=-1, keepdims=True)
    is_zero = squared == 0.0
    return scale * jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, squared)))


def _corners(aabb: Array | np.ndarray, points: Array) -> tuple[Array, Array]:
    low, high = (jnp.broadcast_to(corner, points.shape) for corner in jnp.asarray(aabb))
    return low, high
