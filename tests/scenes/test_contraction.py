import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenes import contraction as con

KINDS = ("bounded", "unbounded", "forward_facing")
BOXES = {
    "bounded": np.float32([[-1, -2, 0.5], [3, 2, 1.5]]),
    "unbounded": np.float32([[-1, -1, -1], [1, 1, 1]]),
    "forward_facing": np.float32([[-8, -6, -10], [7, 6.5, -0.8]]),
}
contract = {
    norm: jax.jit(lambda p, n=norm: con.contract(p, norm=n)) for norm in ("euclidean", "maximum")
}
uncontract = {
    norm: jax.jit(lambda p, n=norm: con.uncontract(p, norm=n)) for norm in ("euclidean", "maximum")
}


def length(points, norm):
    points = np.float64(points)
    return np.abs(points).max(-1) if norm == "maximum" else np.linalg.norm(points, axis=-1)


@pytest.mark.parametrize("norm", contract)
@given(seed=st.integers(0, 2**31 - 1), exponent=st.floats(-3, 6))
def test_contraction_equals_its_formula_and_inverts(norm, seed, exponent):
    points = np.random.default_rng(seed).normal(size=(20, 3)) * 10**exponent
    points = points.astype(np.float32)
    size = length(points, norm)[:, None]
    expected = np.where(size <= 1, points, (2 - 1 / size) * points / size)
    got = contract[norm](points)
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert np.all(length(got, norm) <= 2.0)
    near = size[:, 0] < 300  # beyond, float32 cannot tell 2 - 1/r apart
    again = np.asarray(uncontract[norm](got))
    np.testing.assert_allclose(again[near], points[near], rtol=2e-4, atol=1e-5 * size.max())


@pytest.mark.parametrize("norm", contract)
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-10, 1.0, 1e10, 1e30])
def test_contraction_is_finite_with_its_derivative(norm, size):
    point = jnp.array([[1.0, -0.5, 0.25], [0.0, 0.0, 1.0]]) * size
    value, pull = jax.vjp(contract[norm], point)
    (slope,) = pull(jnp.ones_like(value))
    assert bool(jnp.all(jnp.isfinite(value)) & jnp.all(jnp.isfinite(slope)))


def test_uncontract_of_the_shell_is_far_and_finite():
    shell = jnp.array([[2.0, 0.0, 0.0], [2.5, -1.0, 0.0]])
    far = uncontract["maximum"](shell)
    assert bool(jnp.all(jnp.isfinite(far)))
    assert float(jnp.abs(far).max()) >= 1e5


def points_of(kind, num, seed):
    rng = np.random.default_rng(seed)
    if kind == "unbounded":
        return rng.normal(0, 3, (num, 3)).astype(np.float32)
    cube = rng.uniform(0.01, 0.99, (num, 3)).astype(np.float32)
    return np.asarray(con.from_unit_cube(jnp.asarray(cube), kind, BOXES[kind]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_unit_cube_holds_the_scene_and_leads_back(kind):
    points = jnp.asarray(points_of(kind, 100, 0))
    cube = con.to_unit_cube(points, kind, BOXES[kind])
    assert float(cube.min()) > 0
    assert float(cube.max()) < 1
    again = con.from_unit_cube(cube, kind, BOXES[kind])
    np.testing.assert_allclose(again, points, rtol=1e-4, atol=1e-4)


def test_bounded_and_forward_points_outside_are_outside_the_cube():
    outside = jnp.array([[3.5, 0.0, 1.0], [0.0, -2.5, 1.0], [0.0, 0.0, 0.4]])
    cube = con.to_unit_cube(outside, "bounded", BOXES["bounded"])
    assert bool(jnp.all(jnp.any((cube < 0) | (cube > 1), axis=1)))
    outside = jnp.array([[0.0, 0.0, -0.7], [0.0, 0.0, -11.0], [2.0, 0.0, -2.0], [0.0, 0.0, 5.0]])
    cube = con.to_unit_cube(outside, "forward_facing", BOXES["forward_facing"])
    assert bool(jnp.all(jnp.any((cube < 0) | (cube > 1), axis=1)))
    assert bool(jnp.all(jnp.isfinite(cube)))


def test_forward_facing_is_the_ndc_map_of_points():
    """NDC of a camera with half width a and near plane n: x / (-z a), 1 + 2 n / z"""
    near, half = 0.5, 0.7
    far = 1e7
    box = np.array([[-half * far, -half * far, -far], [half * far, half * far, -near]], np.float32)
    points = np.random.default_rng(1).uniform([-2, -2, -9], [2, 2, -0.6], (50, 3))
    z = points[:, 2]
    ndc = np.stack([points[:, 0] / -z / half, points[:, 1] / -z / half, 1 + 2 * near / z], 1)
    got = con.to_unit_cube(jnp.asarray(points, jnp.float32), "forward_facing", box)
    np.testing.assert_allclose(2 * got - 1, ndc, atol=1e-5)


def test_forward_facing_keeps_lines_straight():
    start, end = np.array([1.0, -0.5, -1.2]), np.array([-2.0, 3.0, -9.0])
    line = start + np.linspace(0, 1, 20)[:, None] * (end - start)
    box = BOXES["forward_facing"]
    cube = np.float64(con.to_unit_cube(jnp.asarray(line, jnp.float32), "forward_facing", box))
    along = (cube - cube[0]) @ (cube[-1] - cube[0]) / np.sum((cube[-1] - cube[0]) ** 2)
    np.testing.assert_allclose(cube, cube[0] + along[:, None] * (cube[-1] - cube[0]), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_distances_lie_between_near_and_far_in_order(kind):
    s = jnp.linspace(0, 1, 33)
    t = con.distance_at(s, kind, 0.5, 40.0)
    np.testing.assert_allclose(t[jnp.array([0, -1])], [0.5, 40.0], rtol=1e-6)
    assert bool(jnp.all(jnp.diff(t) > 0))
    np.testing.assert_allclose(con.normalised_distance(t, kind, 0.5, 40.0), s, atol=1e-5)
    steps = jnp.diff(t) if kind == "bounded" else jnp.diff(1 / t)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-3)
