"""Priors: values on worlds one can work out, extremes, and the weights that switch them off."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from voxels import losses
from voxels.grid import VoxelGrid, uniform_grid
from voxels.schedules import geometric, linear


def certain(blocks, materials=2):
    """A grid without doubt: block numbers, 0 for air."""
    blocks = jnp.asarray(blocks)
    logits = jnp.where(blocks > 0, 60.0, -60.0)
    return VoxelGrid(logits, 60.0 * jax.nn.one_hot(blocks - 1, materials))


def test_certain_worlds_have_no_entropy_and_count_their_blocks():
    grid = certain([[[1, 0], [2, 0]]])
    np.testing.assert_allclose(losses.sparsity(grid), 0.5)
    np.testing.assert_allclose(losses.occupancy_entropy(grid), 0.0, atol=1e-6)
    np.testing.assert_allclose(losses.material_entropy(grid), 0.0, atol=1e-6)


def test_doubt_has_the_entropy_of_a_coin():
    grid = uniform_grid((2, 3, 2), 4, occupancy_logit=0.0)
    np.testing.assert_allclose(losses.occupancy_entropy(grid), np.log(2), rtol=1e-6)
    np.testing.assert_allclose(losses.material_entropy(grid), 0.5 * np.log(4), rtol=1e-6)


def test_smoothness_counts_steps_per_axis():
    np.testing.assert_allclose(losses.smoothness(certain([[[1, 0, 0]]])), 0.5)
    np.testing.assert_allclose(losses.smoothness(certain([[[1]]])), 0.0)
    np.testing.assert_allclose(losses.smoothness(certain([[[1, 1], [1, 1]]])), 0.0, atol=1e-6)


def test_distribution_is_half_the_l1_distance():
    grid = certain([[[1, 1, 1, 2]]])
    np.testing.assert_allclose(losses.distribution(grid, jnp.array([0.75, 0.25])), 0.0, atol=1e-6)
    np.testing.assert_allclose(losses.distribution(grid, jnp.array([0.0, 1.0])), 0.75, rtol=1e-6)


def test_adjacency_pays_for_pairs_stacked_upwards():
    grid = certain(np.array([1, 2, 0]).reshape(1, 3, 1))
    reward = jnp.zeros((3, 3)).at[0, 1].set(1.0)  # material 2 on material 1
    np.testing.assert_allclose(losses.adjacency(grid, reward), -0.5, rtol=1e-6)
    np.testing.assert_allclose(losses.adjacency(grid, reward.T), 0.0, atol=1e-6)
    air_on_two = jnp.zeros((3, 3)).at[1, 2].set(1.0)
    np.testing.assert_allclose(losses.adjacency(grid, air_on_two), -0.5, rtol=1e-6)


def test_values_and_gradients_are_finite_at_any_logit():
    weights = losses.LossWeights(**{name: 1.0 for name in losses.LossWeights.__dataclass_fields__})
    priors = losses.neutral_priors(3)
    program = jax.jit(jax.grad(lambda grid: losses.grid_loss(weights, grid, priors)[0]))
    for size in (0.0, 1e-10, 1.0, 1e10, 1e30):
        random = np.random.default_rng(0)
        logits = jnp.asarray(size * random.choice([-1.0, 1.0], (2, 3, 2)), jnp.float32)
        materials = jnp.asarray(size * random.choice([-1.0, 1.0], (2, 3, 2, 3)), jnp.float32)
        assert all(np.isfinite(g).all() for g in program(VoxelGrid(logits, materials)))


def test_only_weighted_parts_are_computed():
    grid = uniform_grid((2, 2, 2), 3)
    none = losses.LossWeights(sparsity=0.0, material_entropy=0.0)
    total, parts = losses.grid_loss(none, grid, losses.neutral_priors(3))
    assert float(total) == 0.0
    assert parts == {}
    one = losses.LossWeights(sparsity=2.0, material_entropy=0.0)
    total, parts = losses.grid_loss(one, grid, losses.neutral_priors(3))
    np.testing.assert_allclose(total, 2.0 * parts["sparsity"])
    with pytest.raises(ValueError, match="smoothness"):
        losses.LossWeights(smoothness=-1.0)


def test_schedules_begin_and_end_where_they_say():
    for schedule in (geometric, linear):
        np.testing.assert_allclose(schedule(2.0, 0.5, -1.0), 2.0)
        np.testing.assert_allclose(schedule(2.0, 0.5, 2.0), 0.5, rtol=1e-6)


def test_wishes_by_name_become_targets():
    priors = losses.make_priors(
        ("Grass", "Stone", "Snow"), {"Stone": 0.5}, {("Stone", "Snow"): 2.0, ("Snow", "Air"): -1.0}
    )
    np.testing.assert_allclose(priors.share, [0.25, 0.5, 0.25])
    expected = np.zeros((4, 4))
    expected[1, 2], expected[2, 3] = 2.0, -1.0
    np.testing.assert_array_equal(priors.adjacency, expected)
    before = {"Grass": 0.6, "Stone": 0.2, "Snow": 0.2}
    kept = losses.make_priors(("Grass", "Stone", "Snow"), {"Snow": 0.6}, {}, before)
    np.testing.assert_allclose(kept.share, [0.3, 0.1, 0.6], rtol=1e-6)
    gone = losses.make_priors(("Grass", "Stone"), {"Stone": 0.5}, {}, {"Stone": 1.0})
    np.testing.assert_allclose(gone.share, [0.5, 0.5])
    neutral = losses.make_priors(("Grass", "Stone"), {}, {})
    for a, b in zip(neutral, losses.neutral_priors(2), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("shares", "rewards", "message"),
    [
        ({"Gold": 0.5}, {}, "no material 'Gold'"),
        ({"Air": 0.5}, {}, "no material 'Air'"),
        ({}, {("Grass", "Gold"): 1.0}, "no material 'Gold'"),
        ({"Grass": 0.7, "Stone": 0.7}, {}, "add up to 1.4"),
        ({"Grass": 0.3, "Stone": 0.3}, {}, "add up to 0.6"),
    ],
)
def test_wishes_that_cannot_be_are_refused(shares, rewards, message):
    with pytest.raises(ValueError, match=message):
        losses.make_priors(("Grass", "Stone"), shares, rewards)
