"""Guidance by a denoiser that is known in closed form: the images of a few worlds, plus noise.

The data distribution of view v is a mixture of Gaussians around the pictures mu_k,v of K worlds
with standard deviation s, so the best denoiser needs no training: with v = abar s^2 + 1 - abar and
r_k the share of mode k given x_t, eps_hat = sqrt(1 - abar) / v (x_t - sqrt(abar) sum_k r_k mu_k).
A prompt is a choice of worlds; without a prompt all count. With one world the expected pull is
w sqrt(abar (1 - abar)) (z - mu) / v, so the optimum is the world itself: an honest test of
distillation that needs no trained model.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt8

from .distillation import DistillationConfig, pull_by_denoiser
from .protocol import Guidance, Pull, Query


class MixtureData(NamedTuple):
    """Pictures of the worlds the denoiser knows.

    Attributes:
      images: one picture per world and camera.
      prior: how likely each world is without a prompt; sums to one.
      prompt: how likely each is with it.
      spread: standard deviation of the data around the pictures, in units of [-1, 1].
    """

    images: UInt8[Array, "worlds views rows cols 3"]
    prior: Float[Array, " worlds"]
    prompt: Float[Array, " worlds"]
    spread: Float[Array, ""]


def mixture(
    images: UInt8[Array, "worlds views rows cols 3"],
    *,
    prompt: Float[Array, " worlds"] | None = None,
    spread: float = 0.05,
    config: DistillationConfig | None = None,
) -> Guidance:
    """Distils towards the worlds a prompt selects; all of them by default.

    Raises:
      ValueError: a spread that is not positive, or a prompt that selects nothing.
    """
    num_worlds = images.shape[0]
    prior = jnp.full(num_worlds, 1.0 / num_worlds)
    chosen = prior if prompt is None else jnp.asarray(prompt, jnp.float32)
    if spread <= 0:
        raise ValueError(f"spread must be positive, got {spread}")
    if chosen.shape != (num_worlds,) or not bool((chosen >= 0).all() & (chosen.sum() > 0)):
        raise ValueError(f"a prompt weighs each of the {num_worlds} worlds, not all zero")
    config = config or DistillationConfig()
    data = MixtureData(images, prior, chosen / chosen.sum(), jnp.float32(spread))

    def bound(data: MixtureData, key: Key[Array, ""], query: Query) -> Pull:
        return pull(config, data, key, query)

    return Guidance("mixture", data, bound)


def pull(config: DistillationConfig, data: MixtureData, key: Key[Array, ""], query: Query) -> Pull:
    """Distils towards the pictures of the cameras asked for."""
    dtype = query.images.dtype
    modes = 2.0 * (data.images[:, query.views].astype(dtype) / 255.0) - 1.0

    def denoiser(noisy: Array, abar: Array, is_prompted: bool) -> Array:
        shares = data.prompt if is_prompted else data.prior
        return mixture_noise(noisy, abar, modes, shares, data.spread)

    return pull_by_denoiser(config, key, denoiser, query.images, query.progress)


def mixture_noise(
    noisy: Float[Array, "views *z"],
    abar: Float[Array, " views"],
    modes: Float[Array, "worlds views *z"],
    shares: Float[Array, " worlds"],
    spread: Float[Array, ""],
) -> Float[Array, "views *z"]:
    """The exact eps_hat for the mixture; each image is one draw of a world."""
    axes = tuple(range(1, noisy.ndim))
    lift = (-1, *[1] * (noisy.ndim - 1))
    variance = abar * spread**2 + 1.0 - abar
    offsets = noisy[None] - jnp.sqrt(abar).reshape(1, *lift) * modes
    squares = jnp.sum(jnp.square(offsets), axis=tuple(a + 1 for a in axes))
    is_possible = (shares > 0)[:, None]
    log_share = jnp.where(
        is_possible, jnp.log(jnp.where(is_possible, shares[:, None], 1.0)), -jnp.inf
    )
    log_share = log_share - 0.5 * squares / variance[None]
    mean_offset = jnp.einsum(
        "kv,kv...->v...", jax.nn.softmax(log_share, axis=0), offsets, precision="highest"
    )
    return (jnp.sqrt(1.0 - abar) / variance).reshape(lift) * mean_offset
