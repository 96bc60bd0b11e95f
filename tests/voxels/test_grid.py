"""Grid parameters: maps in and out, statistics, active cells."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from voxels.block_map import exposed_faces, make_map
from voxels.grid import (
    InitialLogits,
    VoxelGrid,
    active_cells,
    binary_entropy,
    bound_logits,
    grid_from_map,
    grid_statistics,
    harden,
    map_from_grid,
    temper,
    uniform_grid,
)

NAMES = ("Stone", "Dirt", "Sand")


@given(
    hnp.arrays(np.int16, (3, 2, 4), elements=st.integers(0, 3)), st.floats(0.5, 9), st.floats(0, 9)
)
def test_a_grid_made_from_a_map_exports_that_map(materials, occupancy, material):
    block_map = make_map(materials, NAMES, 2.0)
    grid = grid_from_map(block_map, InitialLogits(occupancy=occupancy, material=material + 0.1))
    np.testing.assert_array_equal(map_from_grid(grid, NAMES, 2.0).materials, block_map.materials)


def test_statistics_of_a_known_grid():
    logits = jnp.full((2, 2, 2), -40.0).at[0].set(40.0)
    grid = VoxelGrid(logits, jnp.zeros((2, 2, 2, 3)).at[0, 0, 0, 1].set(50.0))
    numbers = grid_statistics(grid)
    assert int(numbers.num_solid) == int(numbers.num_active) == 4
    np.testing.assert_allclose(numbers.occupancy_mean, 0.5)
    np.testing.assert_allclose(numbers.occupancy_std, 0.5)
    np.testing.assert_allclose(numbers.occupancy_entropy, 0.0, atol=1e-6)
    np.testing.assert_allclose(numbers.material_entropy, 0.75 * np.log(3), rtol=1e-5)
    np.testing.assert_allclose(numbers.material_share, [0.25, 0.5, 0.25], rtol=1e-5)


def test_entropy_is_right_and_finite_with_a_finite_slope_everywhere():
    x = np.array([0.0, 1e-10, 1.0, -1.0, 1e10, -1e10, 1e30, -1e30], np.float32)
    value = binary_entropy(jnp.asarray(x))
    slope = jax.vmap(jax.grad(binary_entropy))(jnp.asarray(x))
    assert np.isfinite(value).all()
    assert np.isfinite(slope).all()
    p = 1 / (1 + np.exp(-1.0))
    expected = -p * np.log(p) - (1 - p) * np.log(1 - p)
    np.testing.assert_allclose(value[:3], [np.log(2), np.log(2), expected], rtol=1e-6)
    np.testing.assert_allclose(value[4:], 0.0)


def test_hardening_is_one_hot_in_value_and_soft_in_gradient():
    grid = uniform_grid((1, 1, 2), 3, noise=1.0, key=jax.random.key(0))
    _, probs = harden(grid)
    np.testing.assert_allclose(np.sort(np.asarray(probs), -1)[..., :2], 0.0, atol=1e-6)

    def first(make, logits):
        return make(grid._replace(material_logits=logits))[1][..., 0].sum()

    hard = jax.grad(lambda x: first(harden, x))(grid.material_logits)
    soft = jax.grad(lambda x: first(lambda g: temper(g, 1.0), x))(grid.material_logits)
    np.testing.assert_allclose(hard, soft, atol=1e-6)


def test_active_cells_are_the_shell_of_an_opaque_cube_and_overflow_is_counted():
    logits = jnp.full((6, 6, 6), -50.0).at[1:5, 1:5, 1:5].set(50.0)
    listed = active_cells(logits, 100, threshold=1e-6)
    flat = np.asarray(listed.flat)
    assert (flat < 216).sum() == 64 - 8
    assert int(listed.num_dropped) == 0
    solid = make_map(np.asarray(logits > 0, np.int64), NAMES)
    np.testing.assert_array_equal(
        flat[flat < 216], np.flatnonzero(exposed_faces(solid.materials).any(axis=-1))
    )
    assert int(active_cells(logits, 50, threshold=1e-6).num_dropped) == 6


def test_soft_cells_hide_none_of_their_neighbours():
    assert (np.asarray(active_cells(jnp.full((3, 3, 3), 5.0), 27).flat) < 27).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: InitialLogits(occupancy=0.0),
        lambda: uniform_grid((0, 1, 1), 3),
        lambda: uniform_grid((1, 1, 1), 3, noise=1.0),
        lambda: map_from_grid(uniform_grid((1, 1, 1), 2), NAMES, 1.0),
    ],
)
def test_impossible_grids_are_refused(make):
    with pytest.raises(ValueError, match=r"need|names"):
        make()


def test_bounds_change_no_material_share_within_reach():
    logits = jnp.asarray([[[[9.0, 7.0, 3.0, -30.0]]]])
    bounded = bound_logits(VoxelGrid(jnp.full((1, 1, 1), 20.0), logits), 8.0)
    np.testing.assert_array_equal(bounded.material_logits[0, 0, 0], [0.0, -2.0, -6.0, -8.0])
    np.testing.assert_array_equal(bounded.occupancy_logits, [[[8.0]]])
