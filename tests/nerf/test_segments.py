import functools

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nerf import segments

COUNT = 64
inclusive = jax.jit(functools.partial(segments.inclusive_sums, longest=COUNT))
exclusive = jax.jit(functools.partial(segments.exclusive_sums, longest=COUNT))
suffix = jax.jit(functools.partial(segments.exclusive_suffix_sums, longest=COUNT))


def sums_by_loops(values, segment):
    before, after = np.zeros(COUNT), np.zeros(COUNT)
    for index in range(COUNT):
        same = [other for other in range(COUNT) if segment[other] == segment[index]]
        before[index] = sum(values[other] for other in same if other < index)
        after[index] = sum(values[other] for other in same if other > index)
    return before, after


@given(
    st.lists(st.integers(0, 3), min_size=COUNT, max_size=COUNT),
    st.lists(st.floats(0, 100, width=32), min_size=COUNT, max_size=COUNT),
)
def test_sums_restart_with_every_run(jumps, values):
    segment = np.cumsum(jumps).astype(np.int32)
    values = np.array(values, np.float32)
    before, after = sums_by_loops(values.astype(np.float64), segment)
    args = jnp.asarray(values), jnp.asarray(segment)
    np.testing.assert_allclose(exclusive(*args), before, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(suffix(*args), after, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(inclusive(*args), before + values, rtol=1e-5, atol=1e-4)


def test_a_huge_run_does_not_hurt_its_neighbour():
    values = jnp.array([1e30] * 8 + [1e-3] * 56, jnp.float32)
    segment = jnp.array([0] * 8 + [1] * 56, jnp.int32)
    np.testing.assert_allclose(exclusive(values, segment)[8:], 1e-3 * np.arange(56), rtol=1e-5)
