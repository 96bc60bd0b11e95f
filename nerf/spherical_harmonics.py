"""Real spherical harmonics of a direction, the usual encoding of the viewing direction.

Notation: (x, y, z) is a unit vector; Y_lm are orthonormal on the sphere (the integral of Y_lm^2
over the unit sphere is 1), ordered l = 0, 1, 2, ... and m = -l ... l inside a degree, without the
Condon-Shortley sign.
Source: Sloan 2013, "Efficient Spherical Harmonic Evaluation" (the constants); any table of real
spherical harmonics.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

MAX_DEGREE = 4


def num_coefficients(degree: int) -> int:
    """Counts the coefficients of all bands below `degree`: degree squared."""
    return degree * degree


def spherical_harmonics(
    directions: Float[Array, "*batch 3"], *, degree: int = MAX_DEGREE
) -> Float[Array, "*batch coefficients"]:
    """Evaluates the first `degree` bands of the real spherical harmonics.

    Args:
      directions: unit vectors; a vector of another length r scales band l by r^l.
      degree: number of bands, 1 to 4 (1, 4, 9 or 16 coefficients).
    Raises:
      ValueError: when traced with a degree outside 1..4.
    """
    if not 1 <= degree <= MAX_DEGREE:
        raise ValueError(f"spherical harmonics need a degree of 1 to {MAX_DEGREE}, got {degree}")
    x, y, z = directions[..., 0], directions[..., 1], directions[..., 2]
    bands = [jnp.full_like(x, 0.28209479177387814)]
    if degree > 1:
        c = 0.4886025119029199
        bands += [c * y, c * z, c * x]
    if degree > 2:
        c = 1.0925484305920792
        bands += [
            c * x * y,
            c * y * z,
            0.31539156525252005 * (2 * z * z - x * x - y * y),
            c * x * z,
            0.5462742152960396 * (x * x - y * y),
        ]
    if degree > 3:
        c = 0.4570457994644658
        bands += [
            0.5900435899266435 * y * (3 * x * x - y * y),
            2.890611442640554 * x * y * z,
            c * y * (4 * z * z - x * x - y * y),
            0.3731763325901154 * z * (2 * z * z - 3 * x * x - 3 * y * y),
            c * x * (4 * z * z - x * x - y * y),
            1.445305721320277 * z * (x * x - y * y),
            0.5900435899266435 * x * (x * x - 3 * y * y),
        ]
    return jnp.stack(bands, axis=-1)
