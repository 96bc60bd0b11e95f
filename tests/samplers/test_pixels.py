"""Pixel names agree with each other."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given

from samplers import pixels
from samplers.pixels import PixelCoord
from tests import strategies


@given(index=strategies.indices(11, 3 * 5 * 7))
def test_splitting_and_joining_an_index_are_inverse(index):
    split = pixels.pixels_from_index(jnp.asarray(index), 5, 7)
    view, row, col = np.unravel_index(index, (3, 5, 7))
    np.testing.assert_array_equal(split.view, view)
    np.testing.assert_array_equal(split.row, row)
    np.testing.assert_array_equal(split.col, col)
    np.testing.assert_array_equal(pixels.index_from_pixels(split, 5, 7), index)


@given(index=strategies.indices(11, 3 * 5 * 7))
def test_all_three_kinds_of_item_name_the_same_place(index):
    split = pixels.pixels_from_index(jnp.asarray(index), 5, 7)
    view, xy = pixels.pixel_centres(jnp.asarray(index), 5, 7)
    np.testing.assert_array_equal(xy, np.stack([split.col, split.row], -1) + 0.5)
    coord = PixelCoord(view=view, uv=xy / jnp.array([[7.0, 5.0]]))
    np.testing.assert_allclose(pixels.pixel_centres(coord, 5, 7)[1], xy, rtol=1e-6)
    for a, b in zip(split, pixels.pixel_indices(coord, 5, 7), strict=True):
        np.testing.assert_array_equal(a, b)


def test_coordinates_outside_give_the_nearest_pixel():
    uv = jnp.array([[-0.5, 2.0], [1.0, 1.0], [0.0, 0.0]])
    found = pixels.pixel_indices(PixelCoord(jnp.zeros(3, jnp.int32), uv), 5, 7)
    np.testing.assert_array_equal(found.row, [4, 4, 0])
    np.testing.assert_array_equal(found.col, [0, 6, 0])
