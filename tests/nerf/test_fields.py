import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nerf.fields import FieldConfig, RadianceField

from .conftest import TINY

POINTS = jax.random.uniform(jax.random.key(0), (64, 3))
DIRECTIONS = jnp.tile(jnp.array([[0.0, 0.6, 0.8]]), (64, 1))


@pytest.fixture(scope="module")
def params():
    return RadianceField(TINY.field).init(jax.random.key(1), POINTS, DIRECTIONS)


def test_density_is_positive_and_colour_in_range(params):
    sample = RadianceField(TINY.field).apply(params, POINTS, DIRECTIONS)
    assert np.all(np.asarray(sample.density) > 0)
    assert np.all((np.asarray(sample.color) > 0) & (np.asarray(sample.color) < 1))


def test_a_fresh_field_is_as_thin_as_its_bias_says(params):
    density = RadianceField(TINY.field).apply(params, POINTS, method="density")
    np.testing.assert_allclose(density, np.exp(TINY.field.density_bias), rtol=1e-2)


def test_density_does_not_depend_on_the_direction(params):
    field = RadianceField(TINY.field)
    one = field.apply(params, POINTS, DIRECTIONS)
    other = field.apply(params, POINTS, -DIRECTIONS)
    np.testing.assert_array_equal(one.density, other.density)
    assert not np.allclose(one.color, other.color, atol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1e-10, 1.0, 1e4])
def test_gradient_is_finite_for_extreme_features(params, scale):
    field = RadianceField(TINY.field)
    extreme = jax.tree.map(lambda leaf: 1e4 * scale * leaf, params)
    value, slope = jax.value_and_grad(
        lambda p: jnp.mean(field.apply(p, POINTS, DIRECTIONS).density)
    )(extreme)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(slope))


def test_bfloat16_networks_stay_near_float32(params):
    half = RadianceField(dataclasses.replace(TINY.field, precision="bfloat16"))
    full = RadianceField(TINY.field).apply(params, POINTS, DIRECTIONS)
    sample = half.apply(params, POINTS, DIRECTIONS)
    assert sample.color.dtype == jnp.float32
    np.testing.assert_allclose(sample.color, full.color, atol=0.02)


@pytest.mark.parametrize("wrong", [{"hidden_width": 0}, {"direction_degree": 5}])
def test_empty_networks_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FieldConfig(**wrong)
