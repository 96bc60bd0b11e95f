"""The registered samplers, made small, trained a little and compiled once for all tests."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from samplers.base import Feedback
from samplers.depth_guided import RayQuery
from samplers.motion_bins import MotionTime, bin_of
from samplers.pixels import PixelCoord, PixelIndex, index_from_pixels, pixel_indices
from samplers.registry import ENTRIES, make_ray_sampler, make_sampler

VIEWS, ROWS, COLS, BATCH = 3, 12, 20, 64
PIXELS = VIEWS * ROWS * COLS
SETTINGS = {
    "motion": {"clip_frames": (130, 70, 40), "frames_per_bin": 20.0, "batch_size": BATCH},
    "views": {"num_views": 70, "batch_size": BATCH},
    "points": {"num_samples": 8},
}


def data_for(name):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (VIEWS, ROWS, COLS, 3)).astype(np.uint8)
    known = {
        "images": jnp.asarray(images),
        "labels": jnp.asarray(images[..., 0] // 64, jnp.int32),
        "centres": jnp.asarray(rng.normal(size=(70, 3)), jnp.float32),
        "depth": jnp.asarray(rng.uniform(1.5, 5.5, PIXELS), jnp.float32).at[::5].set(jnp.nan),
        "sigma": jnp.asarray(rng.uniform(0.05, 1.0, PIXELS), jnp.float32),
    }
    return [known[need] for need in ENTRIES[name].needs]


def query_for(name):
    if ENTRIES[name].kind != "points":
        return ()
    pixel = jnp.arange(BATCH, dtype=jnp.int32)
    return (RayQuery(pixel, jnp.full(BATCH, 1.0), jnp.linspace(3.0, 6.0, BATCH)),)


@functools.cache
def made(name):
    """The sampler, its first state, and its compiled functions."""
    entry = ENTRIES[name]
    fields = {field.name for field in dataclasses.fields(entry.config)}
    options = {"warmup_steps": 2, "tile": 4, "rank_frequency": 2, "edge_tile": 4}
    options = {key: value for key, value in options.items() if key in fields}
    if entry.kind == "rays":
        sizes = {"num_views": VIEWS, "rows": ROWS, "cols": COLS, "batch_size": BATCH}
        sampler = make_ray_sampler(name, **sizes, options=options)
    else:
        sampler = make_sampler(name, SETTINGS[entry.kind])
    state = jax.jit(sampler.init)(jax.random.key(0), *data_for(name))
    return sampler, state, jax.jit(sampler.sample), jax.jit(sampler.update)


def compiled(sampler):
    """The sampler with its functions compiled: eager JAX compiles every operation by itself."""
    parts = {
        name: jax.jit(getattr(sampler, name))
        for name in ("init", "sample", "update", "probabilities")
        if getattr(sampler, name) is not None
    }
    return dataclasses.replace(sampler, **parts)


def feedback_for(draw, value, valid=None):
    value = jnp.asarray(value)
    grad = None
    if isinstance(draw.items, PixelCoord):
        grad = jnp.stack([jnp.sin(value), jnp.cos(value)], axis=-1)
    return Feedback(value=value, valid=valid, grad=grad)


@functools.cache
def trained(name, steps=6):
    """A state past its warm-up, with the compiled functions."""
    sampler, state, sample, update = made(name)
    for step in range(steps):
        draw = sample(jax.random.fold_in(jax.random.key(1), step), state, *query_for(name))
        value = 0.5 + 0.5 * np.sin(step + np.arange(BATCH))
        if ENTRIES[name].kind == "motion":
            value = (value > 0.8).astype(np.float32)
        state = update(state, draw, feedback_for(draw, value.astype(np.float32)))
    return sampler, state, sample, update


def flat_index(name, items):
    """The number of each item drawn, as `probabilities` counts them."""
    if isinstance(items, PixelIndex | PixelCoord):
        return np.asarray(index_from_pixels(pixel_indices(items, ROWS, COLS), ROWS, COLS))
    if isinstance(items, MotionTime):
        return np.asarray(bin_of(trained(name)[1].layout, items))
    return np.asarray(items)
