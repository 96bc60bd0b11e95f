"""The visibility key, the tile lists built on it, and the field that jumps over empty space."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from voxels.rendering.binning import Frame, bin_cells, tile_span, visibility_key
from voxels.rendering.skip_field import skip_field

from .examples import pinhole

coordinate = st.floats(-20, 20, width=32)
component = st.floats(-1, 1, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3)


@given(st.tuples(coordinate, coordinate, coordinate), st.tuples(component, component, component))
def test_the_key_rises_by_one_from_cell_to_cell_along_every_ray(eye, direction):
    eye, direction = np.array(eye), np.array(direction)
    if not direction.any():
        return
    planes = [(np.arange(-60, 61) - eye[k]) / direction[k] for k in range(3) if direction[k] != 0]
    cuts = np.unique(np.concatenate([[0.0], *planes]))
    cuts = cuts[(cuts >= 0) & (cuts < 30)]
    is_long = np.diff(cuts) > 1e-9
    middle = (0.5 * (cuts[:-1] + cuts[1:]))[is_long]
    cells = np.floor(eye + middle[:, None] * direction).astype(int)
    inside = cells[np.abs(cells).max(axis=1) < 59]
    key = np.abs(inside - np.floor(eye).astype(int)).sum(axis=1)
    steps = np.abs(np.diff(inside, axis=0)).sum(axis=1)
    # passing through an edge or a corner moves along several axes at once
    np.testing.assert_array_equal(np.diff(key), steps)


def test_the_key_is_the_manhattan_distance_to_the_cell_of_the_eye():
    cells = jnp.array([[0, 0, 0], [2, -3, 1]])
    np.testing.assert_array_equal(visibility_key(cells, jnp.array([-0.5, 0.5, 3.0])), [4, 8])


def test_tile_lists_hold_every_cell_a_pixel_sees_nearest_first():
    shape, tile, rows, cols = (5, 4, 6), 4, 20, 16
    cells = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)

    @jax.jit
    def lists(eye, frame):
        span = tile_span(
            jnp.asarray(cells),
            jnp.ones(len(cells), bool),
            eye,
            frame,
            jnp.float32(0.02),
            rows,
            cols,
            tile,
        )
        return bin_cells(visibility_key(jnp.asarray(cells), eye), span, 6000, 5, 4)

    for eye, centre in (((9.0, 7.0, 8.0), (2, 2, 3)), ((2.5, 1.2, 3.1), (0, 1, 0))):
        rotation, principal, directions = pinhole(eye, centre, rows, cols, 14.0)
        frame = Frame(
            *(jnp.asarray(x, jnp.float32) for x in (rotation, np.full(2, 14.0), principal))
        )
        bins = lists(jnp.array(eye, jnp.float32), frame)
        assert int(bins.num_pairs) == int(bins.start[-1]) <= 6000
        key = np.abs(cells - np.floor(eye).astype(int)).sum(-1)
        with np.errstate(divide="ignore"):
            low = (cells - np.array(eye))[:, None] / directions.reshape(-1, 3)
            high = (cells + 1 - np.array(eye))[:, None] / directions.reshape(-1, 3)
        enter = np.minimum(low, high).max(-1)
        is_seen = np.maximum(enter, 0.05) < np.maximum(low, high).min(-1)
        is_seen = is_seen.reshape(-1, rows, cols)
        for index in range(20):
            listed = np.asarray(bins.cell[bins.start[index] : bins.start[index + 1]])
            assert (np.diff(key[listed]) >= 0).all()
            assert len(set(listed.tolist())) == len(listed)
            row, col = divmod(index, 4)
            block = is_seen[:, row * tile : (row + 1) * tile, col * tile : (col + 1) * tile]
            assert set(np.flatnonzero(block.any(axis=(1, 2)))) <= set(listed.tolist())


@given(hnp.arrays(bool, (7, 4, 17), elements=st.integers(0, 60).map(lambda n: n == 0)))
def test_jumps_never_pass_a_cell_of_interest(is_stop):
    field = np.asarray(skip_field(jnp.asarray(is_stop))).astype(int)
    np.testing.assert_array_equal(field == 0, is_stop)
    stops = np.argwhere(is_stop)
    cells = np.argwhere(~is_stop)
    if len(stops):
        distance = np.abs(cells[:, None] - stops).max(-1).min(1)
        radius = field[tuple(cells.T)] - 1
        assert (radius < distance).all()
        assert set(radius.tolist()) <= {0, 1, 3, 7}
