"""Quaternions inside jit: w x y z, unit length, last axis; batched by broadcasting."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def multiply(a: Float[Array, "*n 4"], b: Float[Array, "*n 4"]) -> Float[Array, "*n 4"]:
    """Composes rotations: first `b`, then `a`."""
    aw, ax, ay, az = jnp.moveaxis(a, -1, 0)
    bw, bx, by, bz = jnp.moveaxis(b, -1, 0)
    return jnp.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )


def conjugate(q: Float[Array, "*n 4"]) -> Float[Array, "*n 4"]:
    """Gives the inverse rotation."""
    return jnp.concatenate([q[..., :1], -q[..., 1:]], axis=-1)


def rotate(q: Float[Array, "*n 4"], v: Float[Array, "*n 3"]) -> Float[Array, "*n 3"]:
    """Turns vectors from the body's axes into the world's."""
    w, u = q[..., :1], q[..., 1:]
    t = 2.0 * jnp.cross(u, v)
    return v + w * t + jnp.cross(u, t)


def rotate_back(q: Float[Array, "*n 4"], v: Float[Array, "*n 3"]) -> Float[Array, "*n 3"]:
    """Turns vectors from the world's axes into the body's."""
    return rotate(conjugate(q), v)


def angle_between(a: Float[Array, "*n 4"], b: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    """Gives the angle of the rotation from one to the other, in [0, pi].

    Not differentiable at 0 and pi.
    """
    q = multiply(a, conjugate(b))
    return 2.0 * jnp.arctan2(jnp.linalg.norm(q[..., 1:], axis=-1), jnp.abs(q[..., 0]))


def yaw(q: Float[Array, "*n 4"]) -> Float[Array, "*n 4"]:
    """Keeps the heading only: the rotation about z by atan2(R10, R00).

    Bad input: a body whose x axis is vertical has no heading; the result is then the identity or
    arbitrary, always of unit length.
    """
    w, x, y, z = jnp.moveaxis(q, -1, 0)
    half = 0.5 * jnp.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))
    zero = jnp.zeros_like(half)
    return jnp.stack([jnp.cos(half), zero, zero, jnp.sin(half)], axis=-1)


def two_columns(q: Float[Array, "*n 4"]) -> Float[Array, "*n 6"]:
    """Gives the first two columns of the rotation matrix, row after row."""
    w, x, y, z = jnp.moveaxis(q, -1, 0)
    return jnp.stack(
        [
            1.0 - 2.0 * (y * y + z * z),
            2.0 * (x * y - w * z),
            2.0 * (x * y + w * z),
            1.0 - 2.0 * (x * x + z * z),
            2.0 * (x * z - w * y),
            2.0 * (y * z + w * x),
        ],
        axis=-1,
    )


def up_component(q: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    """Gives the world's z axis seen from the body, its z component: 1 upright, -1 upside down."""
    return 1.0 - 2.0 * (q[..., 1] ** 2 + q[..., 2] ** 2)


def from_roll_pitch_yaw(angles: Float[Array, "*n 3"]) -> Float[Array, "*n 4"]:
    """Gives the rotation by roll about x, then pitch about y, then yaw about z, fixed axes."""
    half = 0.5 * angles
    c, s = jnp.cos(half), jnp.sin(half)
    cr, cp, cy = c[..., 0], c[..., 1], c[..., 2]
    sr, sp, sy = s[..., 0], s[..., 1], s[..., 2]
    return jnp.stack(
        [
            cr * cp * cy + sr * sp * sy,
            sr * cp * cy - cr * sp * sy,
            cr * sp * cy + sr * cp * sy,
            cr * cp * sy - sr * sp * cy,
        ],
        axis=-1,
    )
