"""Quaternion arithmetic against SciPy's rotations."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from motion import quaternions


def random_quaternions(seed, count=20):
    q = np.random.default_rng(seed).normal(size=(count, 4))
    return jnp.asarray(q / np.linalg.norm(q, axis=1, keepdims=True), jnp.float32)


def scipy(q):
    return Rotation.from_quat(np.asarray(q)[:, [1, 2, 3, 0]])


def same(q, rotation):
    return (scipy(q) * rotation.inv()).magnitude().max() < 1e-5


def test_products_and_inverses_are_those_of_rotations():
    a, b = random_quaternions(0), random_quaternions(1)
    assert same(quaternions.multiply(a, b), scipy(a) * scipy(b))
    assert same(quaternions.conjugate(a), scipy(a).inv())


def test_vectors_turn_as_with_matrices():
    q = random_quaternions(2)
    v = jnp.asarray(np.random.default_rng(3).normal(size=(20, 3)), jnp.float32)
    np.testing.assert_allclose(quaternions.rotate(q, v), scipy(q).apply(v), atol=1e-5)
    np.testing.assert_allclose(quaternions.rotate_back(q, quaternions.rotate(q, v)), v, atol=1e-5)


def test_angles_are_in_zero_to_pi_and_ignore_the_sign():
    a, b = random_quaternions(4), random_quaternions(5)
    expected = (scipy(a) * scipy(b).inv()).magnitude()
    np.testing.assert_allclose(quaternions.angle_between(a, b), expected, atol=1e-5)
    np.testing.assert_allclose(quaternions.angle_between(a, -b), expected, atol=1e-5)
    np.testing.assert_allclose(quaternions.angle_between(a, a), 0.0, atol=1e-6)


def test_yaw_keeps_the_heading_and_is_upright():
    q = random_quaternions(6)
    kept = quaternions.yaw(q)
    forward = scipy(q).as_matrix()[:, :2, 0]
    heading = forward / np.linalg.norm(forward, axis=1, keepdims=True)
    np.testing.assert_allclose(scipy(kept).as_matrix()[:, :2, 0], heading, atol=1e-5)
    np.testing.assert_allclose(quaternions.up_component(kept), 1.0, atol=1e-6)


def test_yaw_of_a_vertical_body_is_a_unit_quaternion():
    down = jnp.asarray([np.sqrt(0.5), 0.0, np.sqrt(0.5), 0.0], jnp.float32)
    np.testing.assert_allclose(jnp.linalg.norm(quaternions.yaw(down)), 1.0, atol=1e-6)


def test_columns_and_height_are_those_of_the_matrix():
    q = random_quaternions(7)
    matrix = scipy(q).as_matrix()
    np.testing.assert_allclose(
        quaternions.two_columns(q), matrix[:, :, :2].reshape(-1, 6), atol=1e-6
    )
    np.testing.assert_allclose(quaternions.up_component(q), matrix[:, 2, 2], atol=1e-6)


def test_roll_pitch_yaw_are_about_fixed_axes():
    angles = jnp.asarray(np.random.default_rng(8).uniform(-1, 1, (20, 3)), jnp.float32)
    made = jax.jit(quaternions.from_roll_pitch_yaw)(angles)
    assert same(made, Rotation.from_euler("xyz", angles))
