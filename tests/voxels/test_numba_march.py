"""Loops compiled by numba in JAX's programs: same bits on any number of threads, clear errors."""

import dataclasses
import functools
import importlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from voxels.palette import daylight, lit_colors, terrain_palette
from voxels.procedural import WorldConfig, make_world, orbit_cameras
from voxels.rendering import numba_march, xla_calls
from voxels.rendering.images import RenderConfig, grid_rays, render, render_views
from voxels.rendering.planning import march_backend
from voxels.rendering.ray_march import MarchConfig, composite_march

numba = pytest.importorskip("numba")
numba_loops = importlib.import_module("voxels.rendering.numba_loops")

WORLD = WorldConfig(shape=(12, 10, 9))
CONFIG = RenderConfig(rows=48, cols=40, shape=WORLD.shape, backend="numba")
CAMERAS = jax.tree.map(jnp.asarray, orbit_cameras(WORLD, 3, 48, 40))
LIT, SKY = lit_colors(terrain_palette(), daylight()), jnp.asarray(daylight().sky)


def parameters():
    random = np.random.default_rng(0)
    solid = make_world(WORLD, 0).is_solid
    logits = np.where(solid, 1.0, -2.0) + random.normal(size=solid.shape)
    probs = random.dirichlet(np.ones(7), size=solid.shape)
    return jnp.asarray(logits, jnp.float32), jnp.asarray(probs, jnp.float32)


@jax.jit
def brightness(logits, probs):
    """Of all views, and its derivatives."""

    def total(logits, probs):
        views = render_views(CONFIG, logits, probs, LIT, SKY, CAMERAS, jnp.arange(3))
        return jnp.mean(views.color**2) + jnp.mean(
            jnp.where(views.alpha > 0, views.normal[..., 0], 0)
        )

    return jax.value_and_grad(total, argnums=(0, 1))(logits, probs)


def test_the_same_bits_with_one_thread_and_with_all(monkeypatch):
    calls, original = [], numba_loops.scatter

    def remember(*arguments):
        calls.append([np.copy(x) if isinstance(x, np.ndarray) else x for x in arguments])
        original(*arguments)

    monkeypatch.setattr(numba_loops, "scatter", remember)
    jax.block_until_ready(brightness(*parameters()))
    assert len(calls) == 3
    before, results = numba.get_num_threads(), []
    try:
        for threads in (1, before):
            numba.set_num_threads(threads)
            d_logits, d_features = (np.full_like(x, np.nan) for x in calls[0][-2:])
            original(*calls[0][:-2], d_logits, d_features)
            results.append((d_logits, d_features))
    finally:
        numba.set_num_threads(before)
    assert np.abs(results[0][0]).max() > 0
    for one, all_of_them in zip(*results, strict=True):
        np.testing.assert_array_equal(one, all_of_them)


def test_values_and_gradients_are_those_of_the_march_in_batches_too():
    logits, probs = parameters()
    march = dataclasses.replace(CONFIG, backend="march")
    for view in range(3):
        a = render(CONFIG, logits, probs, LIT, SKY, CAMERAS, view)
        b = render(march, logits, probs, LIT, SKY, CAMERAS, view)
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(x, y, atol=2e-5)

    def total(config, logits, view):
        return jnp.sum(render(config, logits, probs, LIT, SKY, CAMERAS, view).color ** 2)

    def slopes(config):
        each = jax.vmap(jax.grad(lambda v, i: total(config, v, i)), in_axes=(None, 0))
        return jax.jit(each)(logits, jnp.arange(3))

    np.testing.assert_allclose(slopes(CONFIG), slopes(march), atol=1e-4)


@pytest.mark.parametrize("num_features", [1, 4])
def test_any_number_of_features_is_that_of_the_march(num_features):
    random = np.random.default_rng(1)
    lit = jnp.asarray(random.random((7, 6, num_features)), jnp.float32)
    sky = jnp.asarray(random.random(num_features), jnp.float32)

    def total(config, logits, probs, lit, sky):
        image = render(config, logits, probs, lit, sky, CAMERAS, 1)
        return jnp.mean(image.color**2) + jnp.mean(image.alpha**2), image.color

    (_, a), slopes = jax.jit(
        jax.value_and_grad(functools.partial(total, CONFIG), argnums=(0, 1, 2, 3), has_aux=True)
    )(*parameters(), lit, sky)
    march = dataclasses.replace(CONFIG, backend="march")
    (_, b), expected = jax.jit(
        jax.value_and_grad(functools.partial(total, march), argnums=(0, 1, 2, 3), has_aux=True)
    )(*parameters(), lit, sky)
    assert a.shape == (48, 40, num_features)
    np.testing.assert_allclose(a, b, atol=2e-5)
    for one, other in zip(slopes, expected, strict=True):
        scale = float(jnp.abs(other).max())
        assert scale > 0
        np.testing.assert_allclose(one, other, atol=1e-4 * scale)


def test_two_hundred_calls_in_a_loop_return():
    logits, probs = parameters()

    @jax.jit
    def many(logits):
        def step(_, logits):
            image = render(CONFIG, logits, probs, LIT, SKY, CAMERAS, 0)
            return logits - 1e-3 * jnp.mean(image.color)

        return jax.lax.fori_loop(0, 200, step, logits)

    assert np.isfinite(many(logits)).all()


def test_what_a_called_function_raises_is_told_by_name():
    def fail(given, result):
        raise ValueError(f"no good: {given.shape} {result.dtype}")

    xla_calls.register("hardlight_test_failure", fail)
    call = jax.ffi.ffi_call("hardlight_test_failure", jax.ShapeDtypeStruct((2,), jnp.int32))
    with pytest.raises(
        jax.errors.JaxRuntimeError, match=r"hardlight_test_failure.*no good: \(3,\)"
    ):
        jax.block_until_ready(jax.jit(call)(jnp.ones(3)))


def test_a_called_function_sees_and_fills_the_buffers_themselves():
    def add(a, b, total, count):
        total[...] = a + b
        count[...] = a.size

    xla_calls.register("hardlight_test_add", add)
    call = jax.ffi.ffi_call(
        "hardlight_test_add",
        [jax.ShapeDtypeStruct((2, 3), jnp.float32), jax.ShapeDtypeStruct((), jnp.int32)],
    )
    total, count = jax.jit(call)(jnp.ones((2, 3)), jnp.full((2, 3), 4.0))
    np.testing.assert_array_equal(total, np.full((2, 3), 5.0))
    assert count == 6
    empty = jax.ffi.ffi_call(
        "hardlight_test_add",
        [jax.ShapeDtypeStruct((0, 3), jnp.float32), jax.ShapeDtypeStruct((), jnp.int32)],
    )
    assert jax.jit(empty)(jnp.ones((0, 3)), jnp.ones((0, 3)))[1] == 0


def test_numbers_that_are_none_return_as_they_do_from_the_march():
    """No ray walks for ever or out of the grid, whatever it is given."""
    logits, probs = parameters()
    broken = logits.at[4, 3, 2].set(jnp.nan).at[1, 1, 1].set(jnp.inf).at[7, 7, 7].set(-jnp.inf)
    rays = grid_rays(CONFIG, CAMERAS, 0)
    eye, directions = rays.eye, rays.directions
    lost = directions.at[3, 4].set(jnp.nan).at[5, 6].set(jnp.inf).at[7, 8].set(0.0)
    config = MarchConfig()
    for given in (
        (broken, eye, directions),
        (logits, eye, lost),
        (logits, eye.at[1].set(jnp.nan), directions),
        (logits, eye.at[0].set(jnp.inf), directions),
        (logits, eye * 1e9, directions),
    ):
        results = []
        for walk in (numba_march.composite_numba, composite_march):

            def total(logits, eye, directions, walk=walk):
                out = walk(config, logits, probs, LIT, eye, directions)
                return jnp.sum(jnp.where(jnp.isfinite(out.features), out.features, 0.0)), out

            results.append(jax.jit(jax.value_and_grad(total, has_aux=True))(*given))
        (_, a), (_, b) = (result[0] for result in results)
        np.testing.assert_allclose(a.features, b.features, atol=1e-5)
        np.testing.assert_allclose(a.transmittance, b.transmittance, atol=1e-5)


def test_other_numbers_and_larger_grids_are_refused():
    logits, probs = parameters()
    rays = grid_rays(CONFIG, CAMERAS, 0)
    half = logits.astype(jnp.bfloat16)
    with pytest.raises(ValueError, match="float32 or float64"):
        numba_march.composite_numba(MarchConfig(), half, probs, LIT, rays.eye, rays.directions)
    huge = [
        jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1024,) * 3, (1024, 1024, 1024, 7))
    ]
    with pytest.raises(ValueError, match="more cells than fit"):
        jax.eval_shape(
            lambda logits, probs: numba_march.composite_numba(
                MarchConfig(), logits, probs, LIT, rays.eye, rays.directions
            ),
            *huge,
        )


def test_a_registration_that_failed_can_be_made_again(monkeypatch):
    def give(result):
        result[...] = 7

    def refuse(*_, **__):
        raise RuntimeError("not now")

    with monkeypatch.context() as patch:
        patch.setattr(jax.ffi, "register_ffi_target", refuse)
        with pytest.raises(RuntimeError, match="not now"):
            xla_calls.register("hardlight_test_again", give)
    xla_calls.register("hardlight_test_again", give)
    call = jax.ffi.ffi_call("hardlight_test_again", jax.ShapeDtypeStruct((2,), jnp.int32))
    np.testing.assert_array_equal(jax.jit(call)(), [7, 7])


def test_code_that_cannot_be_kept_runs_all_the_same(monkeypatch):
    from numba.core.caching import FunctionCache

    def full(*_):
        raise OSError(28, "No space left on device")

    def double(values):
        for i in numba.prange(len(values)):
            values[i] *= 2

    # numba finds no source of a function made here, so there is no place to keep it either
    run = numba_loops._on_all_cores(double)
    monkeypatch.setattr(FunctionCache, "save_overload", full)
    values = np.arange(3.0)
    run(values)
    np.testing.assert_array_equal(values, [0, 2, 4])


def test_a_package_that_cannot_be_imported_is_none(monkeypatch):
    numba_march.is_available.cache_clear()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "numba", None)
        assert not numba_march.is_available()
        assert march_backend() == "march"
    numba_march.is_available.cache_clear()
    assert numba_march.is_available()


def test_a_missing_package_and_an_accelerator_are_refused(monkeypatch):
    logits, probs = parameters()
    other = dataclasses.replace(CONFIG, device="gpu")
    with pytest.raises(ValueError, match='"numba" is for CPUs'):
        render(other, logits, probs, LIT, SKY, CAMERAS, 0)
    monkeypatch.setattr(numba_march, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"hardlight\[numba\]"):
        render(dataclasses.replace(CONFIG, cols=39), logits, probs, LIT, SKY, CAMERAS, 0)
