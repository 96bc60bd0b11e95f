"""An own JAX training loop with rays drawn where the error is high.

The model is a stand-in for any renderer: a small network from a ray to its colour.
Run: python examples/error_weighted_jax.py
"""

import jax
import jax.numpy as jnp
import optax

from nerf.ray_batches import RayBatches
from scenes.loading import load_scene


def init(key):
    sizes = (6, 128, 128, 3)
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        jax.random.normal(k, (i, o)) * jnp.sqrt(2 / i)
        for k, i, o in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def render(params, origins, directions):
    x = jnp.concatenate([origins, directions], axis=-1)
    for matrix in params[:-1]:
        x = jax.nn.relu(x @ matrix)
    return jax.nn.sigmoid(x @ params[-1])


optimizer = optax.adam(3e-3)


@jax.jit
def step(params, state, batch):
    def loss_fn(params):
        color = render(params, batch.origins, batch.directions)
        error = jnp.mean(jnp.square(color - batch.colors), axis=-1)
        return jnp.mean(batch.weights * error), error

    (loss, error), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    updates, state = optimizer.update(grads, state)
    return optax.apply_updates(params, updates), state, loss, error


def main(num_steps=400):
    scene = load_scene("synthetic:spheres", size=64)
    batches = RayBatches(scene.train, sampler="error_weighted", rays_per_batch=2048)
    params = init(jax.random.key(0))
    state = optimizer.init(params)
    losses = []
    for _, batch in zip(range(num_steps), batches, strict=False):
        params, state, loss, error = step(params, state, batch)
        batches.update_error_map(error)
        losses.append(float(loss))
    chances = batches.error_map()
    print(f"loss {losses[0]:.4f} -> {losses[-1]:.4f}")
    print(
        f"pixels are drawn {chances.min():.2f} to {chances.max():.2f} times as often as on average"
    )
    return losses


if __name__ == "__main__":
    main()
