import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nerf.spherical_harmonics import num_coefficients, spherical_harmonics


def sphere_quadrature(num_heights=16, num_angles=32):
    """Directions and weights that integrate polynomials up to degree 31 exactly."""
    z, weight = np.polynomial.legendre.leggauss(num_heights)
    angle = 2 * np.pi * np.arange(num_angles) / num_angles
    z, angle = np.meshgrid(z, angle, indexing="ij")
    flat = np.sqrt(1 - z**2)
    directions = np.stack([flat * np.cos(angle), flat * np.sin(angle), z], -1).reshape(-1, 3)
    return directions, np.repeat(weight, num_angles) * 2 * np.pi / num_angles


def test_bands_are_orthonormal():
    directions, weight = sphere_quadrature()
    values = np.asarray(spherical_harmonics(jnp.asarray(directions, jnp.float32)), np.float64)
    np.testing.assert_allclose((values * weight[:, None]).T @ values, np.eye(16), atol=1e-5)


def test_power_of_a_band_does_not_depend_on_direction():
    directions = jax.random.normal(jax.random.key(0), (64, 3))
    directions = directions / jnp.linalg.norm(directions, axis=-1, keepdims=True)
    values = np.asarray(spherical_harmonics(directions))
    for band in range(4):
        power = np.sum(values[:, band**2 : (band + 1) ** 2] ** 2, axis=-1)
        np.testing.assert_allclose(power, (2 * band + 1) / (4 * np.pi), rtol=1e-5)


def test_lower_degrees_are_prefixes():
    directions = jnp.array([[0.6, 0.0, 0.8], [0.0, -1.0, 0.0]])
    full = spherical_harmonics(directions)
    for degree in (1, 2, 3):
        part = spherical_harmonics(directions, degree=degree)
        assert part.shape == (2, num_coefficients(degree))
        np.testing.assert_array_equal(part, full[:, : degree**2])


def test_unknown_degree_is_refused():
    with pytest.raises(ValueError, match="degree of 1 to 4, got 5"):
        spherical_harmonics(jnp.ones((1, 3)), degree=5)
