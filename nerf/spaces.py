"""How a ray is marched through each kind of scene, and what a unit of density is worth there.

Notation: t is distance along a unit ray, x the marching coordinate: a march takes even steps of x.

    bounded          x = t inside the scene's box
    unbounded,       x = t up to the knee c, x = 2 c - c^2 / t beyond: steps are even near the
    forward_facing   cameras and grow with the square of the distance behind, where
                     `contraction.to_unit_cube` shrinks space at the same rate; x < 2 c for every t

The knee is the width of the uncontracted box (unbounded: cameras lie within half of it) or the
nearest surface (forward_facing: steps are even in 1 / t). Density is stored per unit of shrunk
length, so a fresh field is an even haze over the cube instead of an opaque wall in front of all
that is far; `shrinking` turns it into density per scene unit. It depends on the place alone, not on
the ray, so all views agree.

Source: Barron et al. 2022 for the contraction; Mildenhall et al. 2020 for even steps of 1 / t.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from scenes.contraction import largest_component, to_unit_cube
from scenes.posed_images import SceneKind


class SceneBounds(NamedTuple):
    """Where there is something to see; arrays, so a new scene does not compile again."""

    aabb: Float[Array, "2 3"]
    near: Float[Array, ""]
    far: Float[Array, ""]


def to_unit(
    space: SceneKind, bounds: SceneBounds, points: Float[Array, "*batch 3"]
) -> Float[Array, "*batch 3"]:
    """Maps the scene into the unit cube, where grids live."""
    return to_unit_cube(points, space, bounds.aabb)


def knee(space: SceneKind, bounds: SceneBounds) -> Float[Array, ""]:
    """Distance from which steps grow; never used in bounded scenes."""
    if space == "unbounded":
        return jnp.max(bounds.aabb[1] - bounds.aabb[0])
    return jnp.maximum(bounds.near, 1e-3)


def coordinate(
    space: SceneKind, bounds: SceneBounds, t: Float[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """Turns distances into marching coordinates. Finite, with a finite slope, for t >= 0."""
    if space == "bounded":
        return t
    c = knee(space, bounds)
    return jnp.where(t <= c, t, 2.0 * c - c * c / jnp.maximum(t, c))


def distance(
    space: SceneKind, bounds: SceneBounds, x: Float[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """Turns marching coordinates into distances, at most the scene's `far`."""
    if space == "bounded":
        return x
    c = knee(space, bounds)
    beyond = c * c / jnp.maximum(2.0 * c - jnp.maximum(x, c), 1e-9)
    return jnp.where(x <= c, x, jnp.minimum(beyond, bounds.far))


def longest_march(space: SceneKind, bounds: SceneBounds) -> Float[Array, ""]:
    """Length of the longest march, in x."""
    if space == "bounded":
        return jnp.linalg.norm(bounds.aabb[1] - bounds.aabb[0])
    near, far = (coordinate(space, bounds, end) for end in (bounds.near, bounds.far))
    return far - near


def shrinking(
    space: SceneKind, bounds: SceneBounds, points: Float[Array, "n 3"]
) -> Float[Array, " n"]:
    """Shrunk length of a unit of length at each point: 1 where space is not contracted."""
    if space == "bounded":
        return jnp.ones(points.shape[:1])
    low, high = bounds.aabb[:1], bounds.aabb[1:]
    if space == "unbounded":
        size = largest_component((points - 0.5 * (low + high)) / (0.5 * (high - low)))
        return 1.0 / jnp.square(jnp.maximum(size, 1.0))
    nearest = -bounds.aabb[1, 2]
    return jnp.square(nearest / jnp.maximum(-points[:, 2], 0.5 * nearest))
