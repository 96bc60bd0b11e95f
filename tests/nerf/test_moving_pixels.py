"""Samplers whose pixels move: the slope of the loss that the train step hands them."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, Int

from nerf import train_step
from samplers import registry
from samplers.base import Draw, Sampler
from samplers.pixels import PixelCoord

from .conftest import TINY

CONFIG = dataclasses.replace(TINY, rays_per_step=64, background="black")


class Still(NamedTuple):
    """Fixed places, and what was last heard about them."""

    view: Int[Array, " n"]
    uv: Float[Array, "n 2"]
    value: Float[Array, " n"]
    valid: Float[Array, " n"]
    grad: Float[Array, "n 2"]


def still(view, uv):
    def sample(key, state):
        ones = jnp.ones(state.view.shape)
        return Draw(PixelCoord(state.view, state.uv), ones, ones)

    def update(state, draw, feedback):
        valid = feedback.valid.astype(jnp.float32)
        return state._replace(value=feedback.value, valid=valid, grad=feedback.grad)

    def init(key, mask=None):
        zeros = jnp.zeros(view.shape)
        # copies: the train step eats its state
        return Still(view.copy(), uv.copy(), zeros, zeros.copy(), jnp.zeros_like(uv))

    return Sampler(init=init, sample=sample, update=update, probabilities=None, config="still")


@pytest.fixture(scope="module")
def heard(data, run_key):
    rng = np.random.default_rng(0)
    count = CONFIG.rays_per_step
    view = jnp.asarray(rng.integers(0, 12, count), jnp.int32)
    uv = jnp.asarray(rng.uniform(0.2, 0.8, (count, 2)), jnp.float32)
    sampler = still(view, uv)
    step = train_step.make_train_step(CONFIG, sampler)
    state = train_step.init_state(CONFIG, jax.random.key(0), sampler)
    for _ in range(60):
        state, _ = step(state, data, run_key)
    kept = jax.tree.map(np.array, state)

    def at(moved, images=data.pixels.images, shift=(0.0, 0.0)):
        state = jax.tree.map(jnp.array, kept)
        cameras = data.pixels.cameras
        cameras = cameras._replace(
            principal=cameras.principal + jnp.asarray(shift, jnp.float32)[None]
        )
        seen = data._replace(pixels=data.pixels._replace(images=images, cameras=cameras))
        after, _ = step(
            state._replace(sampler=state.sampler._replace(uv=jnp.array(moved))), seen, run_key
        )
        return jax.tree.map(np.asarray, after.sampler)

    return at, uv


def test_a_walker_counts_as_the_pixel_it_stands_on(heard):
    at, uv = heard
    corner = jnp.floor(uv * 32) / 32
    here = at(corner + 0.2 / 32)
    there = at(corner + 0.7 / 32)
    assert here.valid.all()
    np.testing.assert_array_equal(here.value, there.value)
    np.testing.assert_array_equal(here.grad, there.grad)


def test_slope_is_that_of_the_rendered_colour(heard, data):
    at, uv = heard
    # before a wall of one colour only what is rendered changes with the place; moving the
    # principal point moves the rays and leaves their pixels where they are
    grey = jnp.full_like(data.pixels.images, 128).at[..., 3:].set(255)
    here = at(uv, grey)
    for axis in (0, 1):
        shift = 0.03 * np.eye(2)[axis]
        slope = (at(uv, grey, -shift).value - at(uv, grey, shift).value) * (32 / 0.06)
        error = np.abs(slope - here.grad[:, axis])
        scale = np.abs(here.grad[:, axis]).max()
        assert scale > 0.1
        # where a difference straddles a cell of the grid the slope jumps
        assert np.median(error) < 0.05 * scale
        assert np.corrcoef(slope, here.grad[:, axis])[0, 1] > 0.8


def test_slope_counts_that_of_the_target(heard):
    at, uv = heard
    row = jnp.round(uv[:, 1] * 10) * 3
    uv = jnp.stack([uv[:, 0], (row + 0.5) / 32], axis=-1)

    def stripes(change, level=128):
        values = level + change * jnp.array([0, 1, -1])[jnp.arange(32) % 3]
        image = jnp.broadcast_to(values[:, None, None], (32, 32, 3))
        rgba = jnp.concatenate([image, jnp.full((32, 32, 1), 255)], axis=-1)
        return jnp.broadcast_to(rgba, (12, 32, 32, 4)).astype(jnp.uint8)

    # the pixels stood on stay grey; colours grow or fall across them by 64 levels per pixel
    up, flat, down = (at(uv, stripes(change)) for change in (64, 0, -64))
    np.testing.assert_array_equal(up.value, down.value)
    np.testing.assert_allclose(up.grad + down.grad, 2 * flat.grad, rtol=1e-3, atol=1e-3)
    by_level = (at(uv, stripes(0, 130)).value - at(uv, stripes(0, 126)).value) / 4
    np.testing.assert_allclose((up.grad - down.grad)[:, 1], 2 * 64 * 32 * by_level, atol=0.05)
    assert np.abs(up.grad - down.grad)[:, 1].max() > 1
    np.testing.assert_allclose((up.grad - down.grad)[:, 0], 0, atol=1e-3)


@pytest.mark.parametrize(
    "name", ["soft_mining", pytest.param("soft_mining_released", marks=pytest.mark.slow)]
)
def test_slots_keep_their_order_and_move(name, data, run_key, scene):
    sampler = registry.make_ray_sampler(
        name, num_views=12, rows=32, cols=32, batch_size=CONFIG.rays_per_step
    )
    images = jnp.asarray(scene.train.images[..., :3])
    state = train_step.init_state(CONFIG, jax.random.key(0), sampler, images)
    before = np.asarray(state.sampler.view)
    step = train_step.make_train_step(CONFIG, sampler)
    for _ in range(3):
        state, metrics = step(state, data, run_key)
        assert bool(metrics.is_finite)
    after = state.sampler
    assert np.asarray(after.loss).min() >= 0
    assert np.abs(np.asarray(after.drift)).max() > 0
    if name == "soft_mining_released":  # its slots are bound to one image for ever
        np.testing.assert_array_equal(after.view, before)


def test_rays_weigh_what_the_sampler_says_of_their_errors(data, run_key, scene):
    sampler = registry.make_ray_sampler(
        "uniform", num_views=12, rows=32, cols=32, batch_size=CONFIG.rays_per_step
    )
    told = []

    def reweigh(state, draw, errors):
        told.append(errors.shape)
        return 3.0 * draw.weights + 0.0 * errors

    config = dataclasses.replace(CONFIG, opacity_entropy_weight=0.0)
    start = train_step.init_state(config, jax.random.key(0), sampler)
    _, plain = train_step.train_step(config, sampler, start, data, run_key)
    tripled = dataclasses.replace(sampler, reweigh=reweigh)
    _, heavy = train_step.train_step(config, tripled, start, data, run_key)
    assert told == [(config.rays_per_step,)]
    np.testing.assert_allclose(heavy.loss, 3.0 * plain.loss, rtol=1e-5)
    np.testing.assert_allclose(heavy.gradient_norm, 3.0 * plain.gradient_norm, rtol=1e-3)
