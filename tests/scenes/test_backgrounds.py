import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scenes.backgrounds import (
    BACKGROUNDS,
    background_colors,
    compose,
    composite,
    plain_color,
    premultiply,
)


def test_composite_equals_the_formula():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (30, 4)).astype(np.uint8)
    background = rng.uniform(size=(30, 3)).astype(np.float32)
    alpha = pixels[:, 3:] / 255.0
    expected = pixels[:, :3] / 255.0 * alpha + (1 - alpha) * background
    got = composite(jnp.asarray(pixels), jnp.asarray(background))
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_opaque_pixels_hide_the_background():
    pixels = np.array([[0, 127, 255]], np.uint8)
    for extra in (pixels, np.concatenate([pixels, [[255]]], axis=1).astype(np.uint8)):
        got = composite(jnp.asarray(extra), jnp.array([0.3, 0.6, 0.9]))
        np.testing.assert_allclose(got, pixels / 255.0, atol=1e-6)


def test_transparent_pixels_show_it_whatever_their_colour():
    got = composite(jnp.array([[200, 100, 50, 0]], jnp.uint8), jnp.array([0.3, 0.6, 0.9]))
    np.testing.assert_allclose(got, [[0.3, 0.6, 0.9]], atol=1e-7)


def test_composition_is_linear_in_premultiplied_colour():
    rng = np.random.default_rng(1)
    a, b = (premultiply(jnp.asarray(rng.integers(0, 256, (5, 4)), jnp.uint8)) for _ in range(2))
    color = jnp.array([0.2, 0.5, 0.7])
    mixed = compose(0.25 * a + 0.75 * b, color)
    np.testing.assert_allclose(
        mixed, 0.25 * compose(a, color) + 0.75 * compose(b, color), atol=1e-6
    )


def test_policies():
    key = jax.random.key(0)
    np.testing.assert_array_equal(background_colors("white", key, 2), np.ones((2, 3)))
    np.testing.assert_array_equal(background_colors("black", key, 2), np.zeros((2, 3)))
    random = np.asarray(background_colors("random", key, 4000))
    np.testing.assert_allclose(random.mean(axis=0), 0.5, atol=5 * np.sqrt(1 / 12 / 4000))
    assert not np.array_equal(random, background_colors("random", jax.random.key(1), 4000))
    assert [plain_color(name).tolist() for name in BACKGROUNDS] == [[1] * 3, [0] * 3, [1] * 3]


def test_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="white, black, random"):
        inspect.unwrap(plain_color)("blue")  # without the run-time types of the tests
