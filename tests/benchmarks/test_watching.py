"""What watches long runs finds a leak, and finds none where there is none."""

import mmap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import watching


def test_trend_of_a_line_is_its_slope():
    points = [(float(place), 1000 + 3 * place) for place in range(100)]
    trend = watching.memory_trend(points, skip=0.2)
    np.testing.assert_allclose(trend["slope"], 3.0)
    np.testing.assert_allclose(trend["growth"], 3.0 * 79)
    np.testing.assert_allclose(trend["scatter"], 0.0, atol=1e-9)
    assert trend["first"] == 1060
    assert trend["last"] == 1297


def test_growth_during_the_warm_up_does_not_count():
    points = [(float(place), min(place, 20) * 10**6) for place in range(101)]
    np.testing.assert_allclose(watching.memory_trend(points, skip=0.2)["growth"], 0.0, atol=1e-3)


def test_trend_of_too_few_points_is_refused():
    with pytest.raises(ValueError, match="3 points"):
        watching.memory_trend([(0.0, 1), (1.0, 2), (2.0, 3)], skip=0.5)


def test_memory_that_is_kept_is_found():
    watch, kept = watching.Watch(), []
    for place in range(20):
        kept.append(mmap.mmap(-1, 2**20))  # fresh pages, whatever the allocator has left
        kept[-1].write(b"1" * 2**20)
        watch.note(place)
    watch.close()
    trend = watching.memory_trend(watch.points)
    np.testing.assert_allclose(trend["slope"], 2**20, rtol=0.2)


def test_compilations_are_heard_until_closed():
    watch = watching.Watch()
    program = jax.jit(lambda x: 3.0 * x)
    for size in (3, 3, 5):
        program(jax.device_put(np.ones(size, np.float32)))
    heard = len(watch.compilations)
    watch.close()
    program(jax.device_put(np.ones(7, np.float32)))
    assert heard == 2
    assert len(watch.compilations) == heard
    assert jnp.isfinite(jnp.asarray(watch.compilations)).all()
