"""Score distillation: from a denoiser to a pull on images.

Notation, per image z in [-1, 1] (or latent) with N numbers: abar(t) the share of signal at noise
level t, x_t = sqrt(abar) z + sqrt(1 - abar) eps, eps_hat the denoiser's guess of eps.
  sds   g = w(t) (eps_hat(x_t; prompt) - eps),   w = 1 - abar       (Poole et al. 2023)
  ism   g = w(t) (eps_hat(x_t; prompt) - eps_hat(x_s; no prompt)), x_t reached from x_s, s < t, by
        one deterministic step                                       (Liang et al. 2024)
with classifier-free guidance eps_u + scale (eps_c - eps_u). g is the cotangent of z; the
Jacobian of the denoiser is left out on purpose. The gradient of an image is g dz/d image / N.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ..schedules import linear
from .protocol import Pull

Variant = Literal["sds", "ism"]
# (x_t, abar of each image, whether with the prompt) -> eps_hat
Denoiser = Callable[
    [Float[Array, "views *z"], Float[Array, " views"], bool], Float[Array, "views *z"]
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillationConfig:
    """How noise is chosen and how the denoiser's answer is used.

    Attributes:
      variant: `sds` or `ism`.
      guidance_scale: classifier-free guidance; 1 uses the prompted guess alone.
      min_noise, max_noise_start, max_noise_end: noise levels t are uniform between the first and
        a maximum that moves from the second to the third over the run, as shares of the steps.
      num_steps: length of the noise schedule.
      beta_start, beta_end: the schedule, linear in the square root of beta.
      ism_step: s = t - this, as a share of the steps.
    """

    variant: Variant = "sds"
    guidance_scale: float = 1.0
    min_noise: float = 0.02
    max_noise_start: float = 0.98
    max_noise_end: float = 0.5
    num_steps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    ism_step: float = 0.05

    def __post_init__(self) -> None:
        if self.variant not in ("sds", "ism"):
            raise ValueError(f'variant is "sds" or "ism", got "{self.variant}"')
        ends = (self.max_noise_start, self.max_noise_end)
        if not 0 <= self.min_noise < min(ends) <= max(ends) <= 1:
            raise ValueError("needed 0 <= min_noise < max_noise <= 1")
        if not 0 < self.beta_start < self.beta_end < 1 or self.num_steps < 2:
            raise ValueError("needed 0 < beta_start < beta_end < 1 and num_steps >= 2")
        if self.guidance_scale < 0 or not 0 < self.ism_step < 1:
            raise ValueError("needed guidance_scale >= 0 and 0 < ism_step < 1")


class Distilled(NamedTuple):
    """Cotangents of z, the noise levels used, and the denoised images they imply."""

    gradient: Float[Array, "views *z"]
    level: Int[Array, " views"]
    denoised: Float[Array, "views *z"]


def signal_shares(config: DistillationConfig) -> Float[Array, " steps"]:
    """abar for every step of the schedule, falling."""
    beta = jnp.square(jnp.linspace(config.beta_start**0.5, config.beta_end**0.5, config.num_steps))
    return jnp.cumprod(1.0 - beta)


def pull_by_denoiser(
    config: DistillationConfig,
    key: Key[Array, ""],
    denoiser: Denoiser,
    images: Float[Array, "views rows cols 3"],
    progress: Float[Array, ""],
) -> Pull:
    """Distils images in [0, 1]; dL / d image is the cotangent over the number of values."""
    out = distill(config, key, denoiser, 2.0 * images - 1.0, progress)
    count = images[0].size
    size = jnp.sqrt(jnp.sum(jnp.square(out.gradient), axis=(1, 2, 3)) / count)
    metrics = {"guide_norm": jnp.mean(size), "guide_level": jnp.mean(out.level / config.num_steps)}
    return Pull(2.0 * out.gradient / count, size, metrics)


def distill(
    config: DistillationConfig,
    key: Key[Array, ""],
    denoiser: Denoiser,
    z: Float[Array, "views *z"],
    progress: Float[Array, ""],
) -> Distilled:
    """Draws noise and turns the denoiser's guess into cotangents of z, one level per image."""
    key_level, key_noise = jax.random.split(key)
    table = signal_shares(config)
    top = linear(config.max_noise_start, config.max_noise_end, progress)
    share = jax.random.uniform(key_level, z.shape[:1], minval=config.min_noise, maxval=top)
    level = jnp.clip(jnp.floor(share * config.num_steps), 0, config.num_steps - 1).astype(jnp.int32)
    noise = jax.random.normal(key_noise, z.shape, z.dtype)

    def spread(values: Array) -> Array:
        return values.reshape(-1, *[1] * (z.ndim - 1))

    abar = table[level]
    signal, sigma = spread(jnp.sqrt(abar)), spread(jnp.sqrt(1.0 - abar))
    if config.variant == "sds":
        noisy, baseline = signal * z + sigma * noise, noise
    else:
        step = max(1, round(config.ism_step * config.num_steps))
        abar_s = table[jnp.maximum(level - step, 0)]
        signal_s, sigma_s = spread(jnp.sqrt(abar_s)), spread(jnp.sqrt(1.0 - abar_s))
        noisy_s = signal_s * z + sigma_s * noise
        baseline = denoiser(noisy_s, abar_s, False)
        noisy = signal * (noisy_s - sigma_s * baseline) / signal_s + sigma * baseline
    guess = denoiser(noisy, abar, True)
    if config.guidance_scale != 1.0:
        unprompted = denoiser(noisy, abar, False)
        guess = unprompted + config.guidance_scale * (guess - unprompted)
    gradient = spread(1.0 - abar) * (guess - baseline)
    return Distilled(gradient, level, (noisy - sigma * guess) / signal)
