import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nerf import occupancy
from nerf.occupancy import OccupancyConfig

CONFIG = OccupancyConfig(resolution=6, cells_per_update=50)
KEY = jax.random.key(0)


def half_full(unit):
    """Dense where x < 1/2, empty elsewhere."""
    return jnp.where(unit[:, 0] < 0.5, 200.0, 0.0)


@functools.partial(jax.jit, static_argnames="density_fn")
def update(key, state, density_fn=half_full):
    return occupancy.update(CONFIG, key, state, density_fn, step=0.01)


def sweep(state, density_fn=half_full):
    for number in range(-(-CONFIG.num_cells // CONFIG.cells_per_update)):
        state = update(jax.random.fold_in(KEY, number), state, density_fn)
    return state


def test_a_sweep_looks_at_every_cell_once():
    visits = np.zeros(CONFIG.num_cells, int)
    state = occupancy.init(CONFIG)
    for number in range(CONFIG.num_cells // CONFIG.cells_per_update):
        before = np.asarray(state.density)
        state = update(jax.random.fold_in(KEY, number), state)
        changed = np.asarray(state.density) != before
        assert changed.sum() == CONFIG.cells_per_update
        visits += changed
    assert visits.max() == 1


@pytest.mark.parametrize("resolution", [2, 5, 6, 16, 30])
def test_visiting_order_is_a_permutation(resolution):
    config = OccupancyConfig(resolution=resolution)
    order = occupancy._scatter_order(config, jnp.arange(config.num_cells))
    np.testing.assert_array_equal(np.sort(order), np.arange(config.num_cells))


def test_empty_half_is_emptied_and_full_half_kept():
    state = sweep(occupancy.init(CONFIG))
    occupied = np.asarray(state.occupied).reshape(6, 6, 6)
    assert occupied[:3].all()
    assert not occupied[3:].any()
    np.testing.assert_allclose(occupancy.occupied_fraction(state), 0.5)


def test_unknown_cells_stay_occupied():
    state = update(KEY, occupancy.init(CONFIG))
    unknown = np.asarray(state.density) < 0
    assert unknown.sum() == CONFIG.num_cells - CONFIG.cells_per_update
    assert np.asarray(state.occupied)[unknown].all()


def test_memory_of_a_density_fades_by_the_decay():
    state = sweep(occupancy.init(CONFIG))
    state = sweep(
        state._replace(cursor=jnp.zeros((), jnp.int32)), lambda unit: jnp.zeros(len(unit))
    )
    full = np.asarray(state.density).reshape(6, 6, 6)[:3]
    remembered = np.sort(np.unique(full))
    np.testing.assert_allclose(remembered[-1], 200.0 * CONFIG.decay, rtol=1e-6)


def test_thin_fog_everywhere_is_not_emptied():
    state = sweep(occupancy.init(CONFIG), lambda unit: jnp.full(len(unit), 1e-3))
    assert np.asarray(state.occupied).all()


def test_non_finite_density_keeps_the_cell():
    state = sweep(occupancy.init(CONFIG), lambda unit: jnp.where(unit[:, 1] < 0.5, jnp.nan, 0.0))
    occupied = np.asarray(state.occupied).reshape(6, 6, 6)
    assert occupied[:, :3].all()
    assert not np.isnan(state.density).any()


def test_lookup_finds_the_cell_of_a_point_and_clamps_outside():
    state = sweep(occupancy.init(CONFIG))
    points = jnp.array([[0.1, 0.9, 0.5], [0.9, 0.1, 0.5], [-3.0, 0.5, 0.5], [4.0, 0.5, 0.5]])
    np.testing.assert_array_equal(
        occupancy.is_occupied(CONFIG, state, points), [True, False, True, False]
    )


@pytest.mark.parametrize(
    "wrong", [{"resolution": 1}, {"threshold": 0.0}, {"decay": 1.0}, {"cells_per_update": 0}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        OccupancyConfig(**wrong)
