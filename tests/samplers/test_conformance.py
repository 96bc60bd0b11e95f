"""Every registered ray sampler keeps the same laws; registering one is enough to test it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from samplers.base import Feedback
from samplers.pixels import PixelCoord, pixel_indices
from samplers.registry import ENTRIES, make_ray_sampler, names
from tests import strategies
from tests.statistics import assert_frequencies
from tests.variants import assert_same_shapes, assert_traced_once

VIEWS, ROWS, COLS, BATCH = 3, 6, 8, 16
PIXELS = VIEWS * ROWS * COLS

each_ray_sampler = pytest.mark.parametrize("name", names("rays"))


def data_for(name):
    images = np.random.default_rng(0).integers(0, 256, (VIEWS, ROWS, COLS, 3)).astype(np.uint8)
    known = {"images": jnp.asarray(images), "labels": jnp.asarray(images[..., 0] // 64, jnp.int32)}
    return [known[need] for need in ENTRIES[name].needs]


@functools.cache
def made(name):
    """The sampler, its first state, and its compiled functions."""
    sampler = make_ray_sampler(name, num_views=VIEWS, rows=ROWS, cols=COLS, batch_size=BATCH)
    state = sampler.init(jax.random.key(0), *data_for(name))
    return sampler, state, jax.jit(sampler.sample), jax.jit(sampler.update)


def feedback_like(draw, value):
    grad = None
    if isinstance(draw.items, PixelCoord):
        grad = jnp.stack([jnp.sin(value), jnp.cos(value)], axis=-1)
    return Feedback(value=value, grad=grad)


def trained(name, steps=8):
    """A state after some feedback, past any warm-up of this test's options."""
    sampler, state, sample, update = made(name)
    for step in range(steps):
        draw = sample(jax.random.fold_in(jax.random.key(1), step), state)
        state = update(state, draw, feedback_like(draw, jnp.sin(step + draw.probs * 100.0) ** 2))
    return sampler, state, sample, update


@each_ray_sampler
def test_state_keeps_its_structure(name):
    _, state, _, _ = made(name)
    assert_same_shapes(state, trained(name)[1])


@each_ray_sampler
def test_config_is_hashable_and_frozen(name):
    config = made(name)[0].config
    assert hash(config) == hash(type(config)(**vars(config)))
    with pytest.raises(AttributeError):
        config.batch_size = 3


@each_ray_sampler
def test_items_are_pixels_of_the_set(name):
    _, state, sample, _ = trained(name)
    draw = sample(jax.random.key(3), state)
    pixels = pixel_indices(draw.items, ROWS, COLS)
    for part, size in zip(pixels, (VIEWS, ROWS, COLS), strict=True):
        assert np.all((np.asarray(part) >= 0) & (np.asarray(part) < size))
    assert np.all(np.asarray(draw.probs) > 0)
    assert np.all(np.isfinite(draw.weights))
    assert np.all(np.asarray(draw.weights) > 0)


@each_ray_sampler
def test_same_key_same_draw_and_compiled_equals_eager(name):
    sampler, state, sample, update = trained(name)
    first, again = sample(jax.random.key(3), state), sample(jax.random.key(3), state)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    eager = sampler.sample(jax.random.key(3), state)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), first, eager)
    other = sample(jax.random.key(4), state)
    assert any(
        np.any(np.asarray(a) != np.asarray(b))
        for a, b in zip(jax.tree.leaves(first.items), jax.tree.leaves(other.items), strict=True)
    )
    feedback = feedback_like(first, jnp.linspace(0.1, 1.0, BATCH))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        update(state, first, feedback),
        sampler.update(state, first, feedback),
    )


@each_ray_sampler
def test_probabilities_sum_to_one_and_agree_with_draws(name):
    sampler, state, sample, _ = trained(name)
    if sampler.probabilities is None:
        assert not ENTRIES[name].is_exact or ENTRIES[name].kind == "points"
        return
    probs = np.asarray(sampler.probabilities(state), np.float64).reshape(-1)
    np.testing.assert_allclose(probs.sum(), 1.0, rtol=1e-5)
    keys = jax.random.split(jax.random.key(7), 2000)
    draws = jax.jit(jax.vmap(lambda key: sample(key, state)))(keys)
    pixels = jax.tree.map(np.ravel, draws.items)
    if isinstance(pixels, np.ndarray):
        index = pixels
    else:
        index = (pixels[0] * ROWS + pixels[1]) * COLS + pixels[2]
    assert_frequencies(np.bincount(index, minlength=PIXELS), probs)
    np.testing.assert_allclose(np.ravel(draws.probs), probs[index], rtol=1e-4)


@each_ray_sampler
def test_vmapped_scan_is_traced_once(name):
    sampler, state, _, _ = made(name)

    def steps(state, key):
        def one(state, step):
            draw = sampler.sample(jax.random.fold_in(key, step), state)
            loss = 0.5 + 0.5 * jnp.sin(draw.probs * 50.0)
            return sampler.update(state, draw, feedback_like(draw, loss)), draw.weights

        return jax.lax.scan(one, state, jnp.arange(3))

    states = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), state)
    key_pairs = [jax.random.split(jax.random.key(i), 2) for i in range(2)]
    assert_traced_once(jax.vmap(steps), *((states, keys) for keys in key_pairs))


@each_ray_sampler
@settings(max_examples=6)
@given(value=strategies.nasty(BATCH))
def test_any_feedback_leaves_weights_finite(name, value):
    _, state, sample, update = trained(name)
    draw = sample(jax.random.key(11), state)
    state = update(state, draw, feedback_like(draw, jnp.asarray(value)))
    for leaf in jax.tree.leaves(state):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            assert np.all(np.isfinite(leaf))
    draw = sample(jax.random.key(12), state)
    assert np.all(np.isfinite(draw.weights))
    assert np.all(np.asarray(draw.probs) > 0)


@each_ray_sampler
def test_rows_marked_invalid_teach_nothing(name):
    _, state, sample, update = trained(name)
    draw = sample(jax.random.key(13), state)
    ignored = feedback_like(draw, jnp.linspace(1.0, 2.0, BATCH))._replace(
        valid=jnp.zeros(BATCH, bool)
    )
    other = ignored._replace(value=jnp.linspace(7.0, 3.0, BATCH))
    jax.tree.map(
        np.testing.assert_array_equal, update(state, draw, ignored), update(state, draw, other)
    )


def test_unknown_names_and_options_are_refused_with_the_known_ones():
    sizes = {"num_views": 2, "rows": 4, "cols": 4, "batch_size": 4}
    with pytest.raises(ValueError, match="error_weighted"):
        make_ray_sampler("nonsense", **sizes)
    with pytest.raises(ValueError, match=r"uniform_fraction=0\.25"):
        make_ray_sampler("error_weighted", **sizes, options={"lambda": 3})
    with pytest.raises(ValueError, match="fewer than 2"):
        make_ray_sampler("uniform", num_views=2**20, rows=2**7, cols=2**7, batch_size=4)
    with pytest.raises(ValueError, match="at least one pixel"):
        make_ray_sampler("uniform", num_views=0, rows=4, cols=4, batch_size=4)


def test_old_style_keys_are_refused():
    _, state, _, _ = made("uniform")
    with pytest.raises(Exception, match=r"[Tt]ype"):
        made("uniform")[0].sample(jax.random.PRNGKey(0), state)
