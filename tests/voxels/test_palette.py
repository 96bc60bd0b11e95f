"""Colours and light: the six constants, the clamp, and what a palette refuses."""

import jax
import numpy as np
import pytest

from voxels.palette import daylight, light_factors, lit_colors, make_palette, terrain_palette


def test_daylight_falls_on_faces_as_documented():
    expected = [
        [0.571, 0.631, 0.624],
        [0.195, 0.267, 0.286],
        [1.090, 1.220, 1.225],
        [0.099, 0.088, 0.066],
        [0.665, 0.723, 0.709],
        [0.195, 0.267, 0.286],
    ]
    np.testing.assert_allclose(light_factors(daylight()), expected, atol=6e-4)


def test_only_snow_and_sand_tops_are_clamped():
    palette = terrain_palette()
    lit = np.asarray(lit_colors(palette, daylight()))
    full = lit == 1.0
    assert set(np.array(palette.names)[full.any(axis=(1, 2))]) == {"Snow", "Sand"}
    assert full[:, [0, 1, 3, 4, 5]].sum() == 0
    grass_top = np.array([0.34, 0.68, 0.36]) * np.asarray(light_factors(daylight()))[2]
    np.testing.assert_allclose(lit[0, 2], grass_top, rtol=1e-6)


def test_light_is_differentiable():
    gradient = jax.grad(lambda l: lit_colors(terrain_palette(), l).sum(), allow_int=False)(
        jax.tree.map(jax.numpy.asarray, daylight())
    )
    assert all(np.isfinite(x).all() and np.abs(x).max() > 0 for x in gradient)


@pytest.mark.parametrize(
    ("colors", "message"),
    [
        ({}, "at least one"),
        ({"Air": ((0.0,) * 3,) * 3}, "absence"),
        ({"Gold": ((2.0, 1.0, 0.0),) * 3}, "within"),
    ],
)
def test_impossible_palettes_are_refused(colors, message):
    with pytest.raises(ValueError, match=message):
        make_palette(colors)
