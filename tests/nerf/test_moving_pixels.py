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

    def at(moved):
        state = jax.tree.map(jnp.array, kept)
        after, _ = step(
            state._replace(sampler=state.sampler._replace(uv=jnp.array(moved))), data, run_key
        )
        return jax.tree.map(np.asarray, after.sampler)

    return at, uv


def test_slope_is_that_of_the_loss_with_its_interpolated_target(heard):
    at, uv = heard
    here = at(uv)
    assert here.valid.all()
    height = 1e-3  # a thirtieth of a pixel
    for axis in (0, 1):
        shift = height * jnp.eye(2)[axis][None]
        slope = (at(uv + shift).value - at(uv - shift).value) / (2 * height)
        error = np.abs(slope - here.grad[:, axis])
        scale = np.abs(here.grad[:, axis]).max()
        assert scale > 0.1
        # where a difference straddles a pixel or a cell of the grid the slope jumps
        assert np.median(error) < 0.02 * scale
        assert np.corrcoef(slope, here.grad[:, axis])[0, 1] > 0.9


@pytest.mark.parametrize("name", ["soft_mining", "soft_mining_released"])
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
