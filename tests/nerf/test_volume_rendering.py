import functools

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

from nerf import volume_rendering as vr

from . import oracles

SAMPLES = 12
packed = jax.jit(functools.partial(vr.weights_packed, longest=SAMPLES))
EXTREMES = (0.0, 1e-10, 1.0, 1e10, 1e30)


def pack_rows(rows):
    """Lays rays end to end, with the ray number of each sample."""
    return jnp.asarray(rows).reshape(-1), jnp.repeat(jnp.arange(len(rows)), len(rows[0]))


def weights_of(rows):
    """Weights of rays that all have as many samples, a row for each."""
    return packed(*pack_rows(rows)).reshape(np.shape(rows))


@given(st.lists(st.floats(0, 20, width=32), min_size=2 * SAMPLES, max_size=2 * SAMPLES))
def test_weights_equal_the_oracle(values):
    rows = np.array(values, np.float32).reshape(2, SAMPLES)
    expected = np.stack([oracles.render_weights(row) for row in rows])
    np.testing.assert_allclose(weights_of(rows), expected, atol=2e-6)


def test_weights_and_what_passes_sum_to_one():
    tau = jax.random.exponential(jax.random.key(0), (100, SAMPLES))
    total = jnp.sum(weights_of(tau), -1) + jnp.exp(-jnp.sum(tau, -1))
    np.testing.assert_allclose(total, 1.0, atol=2e-6)


def test_uniform_fog_is_beer_lambert():
    density, length = 0.7, 3.0
    tau = jnp.full((1, SAMPLES), density * length / SAMPLES)
    edges = np.linspace(0, length, SAMPLES + 1)
    np.testing.assert_allclose(weights_of(tau)[0], -np.diff(np.exp(-density * edges)), atol=1e-6)


def test_splitting_an_interval_at_constant_density_changes_nothing():
    tau = jnp.array([[0.3, 1.2, 0.1, 0.8, 0.4, 2.0]])
    halves = jnp.repeat(tau / 2, 2, axis=-1)
    merged = weights_of(halves).reshape(1, 6, 2).sum(-1)
    np.testing.assert_allclose(merged, weights_of(tau), atol=1e-6)


def test_thin_fog_keeps_its_digits():
    tau = jnp.full((1, SAMPLES), 1e-9)
    np.testing.assert_allclose(weights_of(tau), 1e-9, rtol=1e-6)


def test_derivative_equals_finite_differences():
    with jax.enable_x64(True):
        tau = jnp.asarray(np.random.default_rng(0).exponential(size=(2, 6)))
        mix = jnp.asarray(np.random.default_rng(1).normal(size=(2, 6)))
        ray = jnp.repeat(jnp.arange(2), 6)

        def loss(tau):
            weights = vr.weights_packed(tau.reshape(-1), ray, longest=6)
            return jnp.sum(weights * mix.reshape(-1))

        check_grads(jax.jit(loss), (tau,), order=1, modes=["rev"], eps=1e-5, rtol=1e-6, atol=1e-8)


def test_value_and_derivative_are_finite_for_extremes():
    rows = np.array(np.meshgrid(EXTREMES, EXTREMES, EXTREMES)).reshape(3, -1).T.astype(np.float32)
    flat, ray = pack_rows(rows)
    weights, pull = jax.vjp(lambda tau: vr.weights_packed(tau, ray, longest=3), flat)
    assert np.all(np.isfinite(weights))
    assert np.all(np.isfinite(pull(jnp.ones_like(flat))[0]))


def test_bad_optical_depths_count_as_nothing():
    tau = jnp.array([[1.0, jnp.nan, -3.0, 1.0]])
    clean = jnp.array([[1.0, 0.0, 0.0, 1.0]])
    np.testing.assert_array_equal(weights_of(tau), weights_of(clean))
    slope = jax.grad(lambda t: jnp.sum(weights_of(t)))(tau)
    np.testing.assert_array_equal(np.asarray(slope)[0, 1:3], 0.0)
    np.testing.assert_array_equal(weights_of(jnp.array([[jnp.inf, 1.0]])), [[1.0, 0.0]])


def test_compositing_sums_each_ray():
    key = jax.random.key(3)
    tau = jax.random.exponential(key, (3, SAMPLES))
    color = jax.random.uniform(jax.random.fold_in(key, 1), (3, SAMPLES, 3))
    distance = jnp.sort(jax.random.uniform(jax.random.fold_in(key, 2), (3, SAMPLES)), axis=-1)
    weights = weights_of(tau)
    flat, ray = pack_rows(weights)
    rays = vr.composite_packed(flat, color.reshape(-1, 3), distance.reshape(-1), ray, num_rays=3)
    expected = np.einsum("rs,rsc->rc", np.float64(weights), np.float64(color))
    np.testing.assert_allclose(rays.color, expected, atol=1e-6)
    mean = np.sum(np.float64(weights) * distance, -1) / np.sum(np.float64(weights), -1)
    np.testing.assert_allclose(rays.depth, mean, atol=1e-6)
    np.testing.assert_allclose(rays.opacity, np.sum(np.float64(weights), -1), atol=1e-6)


def test_an_empty_ray_shows_its_background_and_no_depth():
    flat, ray = pack_rows(jnp.zeros((1, 4)))
    nothing = vr.composite_packed(flat, jnp.ones((4, 3)), jnp.ones(4), ray, num_rays=1)
    background = jnp.array([[0.2, 0.4, 0.6]])
    np.testing.assert_array_equal(vr.over_background(nothing, background), background)
    assert float(nothing.depth[0]) == 0.0
