import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nerf import hash_encoding
from nerf.hash_encoding import HashEncodingConfig, hash_encode, levels

from . import oracles

CONFIG = HashEncodingConfig(
    num_levels=4, num_features=2, log2_table_size=8, base_resolution=3, finest_resolution=40
)
encode = jax.jit(functools.partial(hash_encode, CONFIG))


@pytest.fixture(scope="module")
def tables():
    return hash_encoding.init_tables(CONFIG, jax.random.key(1), scale=1.0)


def naive_encode(tables, points):
    """The natural form: stack 8 corners, sum; differentiated by JAX itself."""
    features = []
    for level, table in zip(levels(CONFIG), tables, strict=True):
        scaled = points * level.resolution
        cell = jnp.minimum(jnp.floor(scaled), level.resolution - 1)
        fraction = scaled - cell
        total = 0.0
        for corner in range(8):
            bits = np.array([corner >> axis & 1 for axis in range(3)])
            near = jnp.where(bits[None, :] == 1, fraction, 1.0 - fraction)
            entry = hash_encoding.corner_index(level, cell.astype(jnp.int32), corner)
            total = total + jnp.prod(near, axis=-1, keepdims=True) * table[entry]
        features.append(total)
    return jnp.concatenate(features, axis=-1)


def test_levels_grow_from_base_to_finest_and_share_a_table_when_large():
    grids = levels(CONFIG)
    assert [grid.resolution for grid in grids] == [3, 7, 16, 40]
    assert [grid.is_dense for grid in grids] == [True, False, False, False]
    assert [grid.num_entries for grid in grids] == [64, 256, 256, 256]


def test_encoding_equals_corner_loops(tables):
    points = jax.random.uniform(jax.random.key(2), (50, 3))
    expected = [oracles.hash_encode(levels(CONFIG), tables, point) for point in np.asarray(points)]
    # float32 rounds x * 40 to 2.4e-6 of a cell, and the slope along an axis is at most 2
    np.testing.assert_allclose(encode(tables, points), expected, atol=5e-6)


def test_lattice_points_read_their_own_entry(tables):
    level, corner = levels(CONFIG)[0], np.array([1, 2, 3])
    point = jnp.asarray(corner / level.resolution, jnp.float32)[None]
    expected = tables[0][1 + 4 * (2 + 4 * 3)]
    np.testing.assert_allclose(encode(tables, point)[0, :2], expected, atol=1e-6)


def test_table_gradient_equals_autodiff_of_the_natural_form(tables):
    points = jax.random.uniform(jax.random.key(3), (200, 3))
    mix = jax.random.normal(jax.random.key(4), (200, CONFIG.num_outputs))
    ours = jax.jit(jax.grad(lambda t: jnp.sum(encode(t, points) * mix)))(tables)
    naive = jax.jit(jax.grad(lambda t: jnp.sum(naive_encode(t, points) * mix)))(tables)
    for a, b in zip(ours, naive, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_point_gradient_equals_autodiff_inside_cells(tables):
    points = jax.random.uniform(jax.random.key(5), (50, 3), minval=0.01, maxval=0.99)
    mix = jax.random.normal(jax.random.key(6), (50, CONFIG.num_outputs))
    ours = jax.jit(jax.grad(lambda p: jnp.sum(encode(tables, p) * mix)))(points)
    naive = jax.jit(jax.grad(lambda p: jnp.sum(naive_encode(tables, p) * mix)))(points)
    np.testing.assert_allclose(ours, naive, rtol=1e-4, atol=1e-3)


def test_outside_and_non_finite_points_have_a_defined_outcome(tables):
    points = jnp.array([[1.5, 0.5, 0.5], [-2.0, 0.5, 0.5], [jnp.nan, 0.0, 0.0], [jnp.inf] * 3])
    inside = jnp.array([[1.0, 0.5, 0.5], [0.0, 0.5, 0.5], [0.0, 0.0, 0.0], [1.0] * 3])
    np.testing.assert_array_equal(encode(tables, points), encode(tables, inside))
    slope = jax.grad(lambda p: jnp.sum(encode(tables, p)))(points)
    assert np.all(np.isfinite(slope))
    np.testing.assert_array_equal(np.asarray(slope)[:3, 0], 0.0)


def test_hash_multiplies_modulo_two_to_the_32(tables):
    level = levels(CONFIG)[3]
    cell = jnp.array([[31, 37, 39]], jnp.int32)
    expected = (32 ^ (38 * 2654435761) % 2**32 ^ (40 * 805459861) % 2**32) % 256
    assert int(hash_encoding.corner_index(level, cell, 7)[0]) == expected


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_levels": 0}, "num_levels"),
        ({"log2_table_size": 40}, "log2_table_size must be 4 to 28, got 40"),
        ({"base_resolution": 64, "finest_resolution": 16}, "base <= finest"),
    ],
)
def test_impossible_sizes_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        HashEncodingConfig(**wrong)
