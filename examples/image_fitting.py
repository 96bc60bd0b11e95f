"""Fitting one picture with a small network: which pixels should the next batch look at?

The network maps a place in the picture to a colour (a hash grid and two thin layers). Every step
draws 1/32 of the pixels, learns from them, and tells the sampler how wrong they were. The samplers
differ in nothing but their name, also the one whose pixels walk (`soft_mining`).
Run: python examples/image_fitting.py [picture.png]
"""

import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image

from nerf.hash_encoding import HashEncodingConfig, hash_encode, init_tables
from samplers import ENTRIES, Feedback, make_ray_sampler
from samplers.pixels import pixel_centres, pixel_indices
from scenes.metrics import psnr

SIZE, BATCH = 256, 2048
ENCODING = HashEncodingConfig(log2_table_size=14, finest_resolution=SIZE)
LAYERS = (ENCODING.num_outputs, 32, 32, 3)
LEARNING_RATE = optax.exponential_decay(3e-3, transition_steps=1000, decay_rate=0.5)


class FitState(NamedTuple):
    """All that changes from step to step."""

    step: jax.Array
    params: Any
    optimizer: Any
    sampler: Any


def make_picture():
    """A plain gradient with fine rings, a disc with a hard edge, and a chequerboard on it."""
    v, u = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    rings = 0.5 + 0.5 * np.cos(900.0 * ((u - 0.75) ** 2 + (v - 0.25) ** 2))
    board = (np.floor(40 * u) + np.floor(40 * v)) % 2
    picture = np.stack([0.3 + 0.4 * v, 0.5 + 0.3 * v, 0.8 + 0.1 * v], axis=-1)
    for inside, color in (
        ((u > 0.5) & (v < 0.5), rings[..., None] * [1.0, 0.9, 0.7]),
        ((u - 0.25) ** 2 + (v - 0.75) ** 2 < 0.03, [0.8, 0.3, 0.2]),
        ((u > 0.6) & (v > 0.6), board[..., None] * [0.2, 0.6, 0.3]),
    ):
        picture = np.where(inside[..., None], color, picture)
    return jnp.asarray(picture, jnp.float32)


def to_bytes(picture):
    """Rounds colours to 8 bits."""
    return (255 * np.clip(picture, 0.0, 1.0)).round().astype(np.uint8)


def init_network(key):
    """Draws the tables of the grid and the matrices after it."""
    keys = jax.random.split(key, len(LAYERS))
    return init_tables(ENCODING, keys[0]), [
        jax.random.normal(k, (inputs, outputs)) * np.sqrt(2 / inputs)
        for k, inputs, outputs in zip(keys[1:], LAYERS[:-1], LAYERS[1:], strict=True)
    ]


def network(params, uv):
    """Gives the colours at places in the unit square."""
    tables, matrices = params
    x = hash_encode(ENCODING, tables, jnp.pad(uv, ((0, 0), (0, 1))))  # one plane of a volume
    for matrix in matrices[:-1]:
        x = jax.nn.relu(x @ matrix)
    return 0.5 + x @ matrices[-1]


def make_fit(picture, sampler_name, **options):
    """Gives `start(key)` and `step(state, picture, key)`; the picture has values in [0, 1]."""
    optimizer = optax.adam(LEARNING_RATE)
    sampler = make_ray_sampler(
        sampler_name, num_views=1, rows=SIZE, cols=SIZE, batch_size=BATCH, options=options
    )

    def start(key):
        # some samplers want to see the pictures first
        data = (jnp.asarray(to_bytes(picture))[None],) if ENTRIES[sampler_name].needs else ()
        params = init_network(key)
        return FitState(jnp.int32(0), params, optimizer.init(params), sampler.init(key, *data))

    def step(state, picture, key):
        draw = sampler.sample(jax.random.fold_in(key, state.step), state.sampler)
        # walkers count as the pixel they stand on: the picture says nothing about places between
        pixels = pixel_indices(draw.items, SIZE, SIZE)
        _, xy = pixel_centres(pixels, SIZE, SIZE)

        def loss_fn(params, xy):
            wrong = network(params, xy / SIZE) - colors_at(picture, pixels, xy)
            error = jnp.mean(jnp.square(wrong), axis=-1)
            weights = draw.weights
            if sampler.reweigh is not None:  # weights that wait for the errors of the draw
                seen = jax.lax.stop_gradient(jnp.mean(jnp.abs(wrong), axis=-1))
                weights = sampler.reweigh(state.sampler, draw, seen)
            return jnp.mean(weights * error), (error, weights)

        differentiate = jax.grad(loss_fn, argnums=(0, 1), has_aux=True)
        (grads, slopes), (error, weights) = differentiate(state.params, xy)
        # each pixel's own slope, per unit of uv; XLA drops it where the sampler has no use for it
        slopes = slopes * SIZE * BATCH / weights[:, None]
        updates, moments = optimizer.update(grads, state.optimizer)
        return FitState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            optimizer=moments,
            sampler=sampler.update(state.sampler, draw, Feedback(value=error, grad=slopes)),
        )

    return start, step


def colors_at(picture, pixels, xy):
    """Reads whole pixels; the differences between their neighbours are the slope by xy."""
    down, right = jnp.gradient(picture, axis=(0, 1))
    x, y = (xy - jax.lax.stop_gradient(xy)).T[..., None]  # zero, but not their derivative
    at = pixels.row, pixels.col
    return picture[at] + x * right[at] + y * down[at]


def reconstruct(params):
    """Evaluates the network at every pixel."""
    side = (jnp.arange(SIZE) + 0.5) / SIZE
    places = jnp.stack(jnp.meshgrid(side, side), axis=-1).reshape(-1, 2)
    return jnp.clip(network(params, places), 0.0, 1.0).reshape(SIZE, SIZE, 3)


def main(names=("uniform", "error_weighted", "soft_mining"), num_steps=1000):
    """Fits the picture with each sampler and shows the results side by side."""
    picture = make_picture()
    if len(sys.argv) > 1:
        small = Image.open(sys.argv[1]).convert("RGB").resize((SIZE, SIZE))
        picture = jnp.asarray(small, jnp.float32) / 255.0
    shown = [picture]
    for name in names:
        start, step = make_fit(picture, name)
        state, step = start(jax.random.key(0)), jax.jit(step, donate_argnums=0)
        for _ in range(num_steps):
            state = step(state, picture, jax.random.key(1))
        shown.append(reconstruct(state.params))
        print(f"{name}: {float(psnr(shown[-1], picture)):.2f} dB")
    Image.fromarray(to_bytes(np.concatenate(shown, axis=1))).save("image_fitting.png")


if __name__ == "__main__":
    main()
