"""Guidance by a small denoiser of pictures of procedural worlds, trained by the project itself.

A UNet of a quarter of a million parameters on 32 x 32 pictures, cut into 2 x 2 patches. It predicts
v = sqrt(abar) eps - sqrt(1 - abar) x_0, which is well scaled at every noise level, so
eps_hat = sqrt(1 - abar) x_t + sqrt(abar) v. Prompts are those of `prompts.py`.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from .distillation import DistillationConfig, pull_by_denoiser
from .prompts import WORDS
from .protocol import Guidance, Pull, Query

SIDE = 32
_PATCH = 2


class TinyData(NamedTuple):
    """Weights of the denoiser and the prompt."""

    params: Any
    prompt: Float[Array, " words"]


class TinyUNet(nn.Module):
    """Two resolutions, a skip between them, noise level and prompt shifting every block.

    Attributes:
      width: channels at the finer resolution; the coarser has twice as many.
    """

    width: int = 32

    @nn.compact
    def __call__(
        self,
        noisy: Float[Array, "images 32 32 3"],
        abar: Float[Array, " images"],
        prompt: Float[Array, "images words"],
    ) -> Float[Array, "images 32 32 3"]:
        """Guesses v; a prompt of NaN means none was given."""
        is_given = ~jnp.isnan(prompt)
        told = jnp.where(is_given, 2.0 * prompt - 1.0, 0.0)
        level = 0.5 * jnp.log(abar / (1.0 - abar))[:, None]
        waves = level * jnp.asarray([[0.5, 1.0, 2.0]])
        facts = jnp.concatenate([jnp.sin(waves), jnp.cos(waves), 0.3 * level, told], axis=-1)
        facts = nn.silu(nn.Dense(2 * self.width)(facts))
        facts = nn.silu(nn.Dense(2 * self.width)(facts))
        x = _patches(noisy)
        # where a picture's pixel is tells sky from ground
        axis = jnp.linspace(-1.0, 1.0, x.shape[1])
        place = jnp.stack(jnp.meshgrid(axis, axis, indexing="ij"), axis=-1)
        x = jnp.concatenate([x, jnp.broadcast_to(place, (*x.shape[:3], 2))], axis=-1)
        fine = nn.Conv(self.width, (3, 3))(x)
        fine = self._block(fine, facts, self.width)
        coarse = nn.Conv(2 * self.width, (3, 3), strides=(2, 2))(fine)
        for _ in range(2):
            coarse = self._block(coarse, facts, 2 * self.width)
        wide = jax.image.resize(
            coarse, (*coarse.shape[:1], *fine.shape[1:3], coarse.shape[-1]), "nearest"
        )
        fine = nn.Conv(self.width, (1, 1))(jnp.concatenate([fine, wide], axis=-1))
        fine = self._block(fine, facts, self.width)
        last = nn.Conv(3 * _PATCH**2, (3, 3), kernel_init=nn.initializers.zeros)
        return _unpatched(last(nn.silu(nn.LayerNorm()(fine))))

    def _block(self, x: Array, facts: Array, channels: int) -> Array:
        shift, scale = jnp.split(nn.Dense(2 * channels)(facts)[:, None, None], 2, axis=-1)
        inner = nn.Conv(channels, (3, 3))(nn.silu(nn.LayerNorm()(x)))
        inner = nn.silu(nn.LayerNorm()(inner) * (1.0 + scale) + shift)
        return x + nn.Conv(channels, (3, 3))(inner)


def tiny(
    params: Any,
    prompt: Float[np.ndarray, " words"],
    *,
    config: DistillationConfig | None = None,
) -> Guidance:
    """Distils towards pictures that fit a prompt, see `prompts.parse_prompt`.

    Raises:
      ValueError: a prompt of another length.
    """
    if prompt.shape != (len(WORDS),):
        raise ValueError(f"a prompt has {len(WORDS)} numbers, got {prompt.shape}")
    config = config or DistillationConfig(guidance_scale=3.0)

    def bound(data: TinyData, key: Key[Array, ""], query: Query) -> Pull:
        return pull(config, data, key, query)

    return Guidance("tiny", TinyData(params, jnp.asarray(prompt)), bound)


def pull(config: DistillationConfig, data: TinyData, key: Key[Array, ""], query: Query) -> Pull:
    """Distils pictures reduced to 32 x 32; the answer is spread back over their pixels."""
    small, pull_back = jax.vjp(shrink, query.images)
    unprompted = jnp.full_like(data.prompt, jnp.nan)

    def denoiser(noisy: Array, abar: Array, is_prompted: bool) -> Array:
        told = data.prompt if is_prompted else unprompted
        return predict_noise(data.params, noisy, abar, jnp.tile(told, (len(noisy), 1)))

    out = pull_by_denoiser(config, key, denoiser, small, query.progress)
    (gradient,) = pull_back(out.gradient)
    return out._replace(gradient=gradient)


def predict_noise(
    params: Any,
    noisy: Float[Array, "images 32 32 3"],
    abar: Float[Array, " images"],
    prompt: Float[Array, "images words"],
) -> Float[Array, "images 32 32 3"]:
    """The denoiser's eps_hat."""
    signal, sigma = jnp.sqrt(abar)[:, None, None, None], jnp.sqrt(1.0 - abar)[:, None, None, None]
    v = jnp.asarray(TinyUNet().apply({"params": params}, noisy, abar, prompt))
    return sigma * noisy + signal * v


def shrink(images: Float[Array, "views rows cols 3"]) -> Float[Array, "views 32 32 3"]:
    """Averages pictures down (or interpolates them up) to the size the denoiser knows."""
    return jax.image.resize(images, (images.shape[0], SIDE, SIDE, 3), "linear")


def _patches(images: Float[Array, "images rows cols 3"]) -> Float[Array, "images r c patch"]:
    count, rows, cols, channels = images.shape
    cut = images.reshape(count, rows // _PATCH, _PATCH, cols // _PATCH, _PATCH, channels)
    return jnp.swapaxes(cut, 2, 3).reshape(count, rows // _PATCH, cols // _PATCH, -1)


def _unpatched(x: Float[Array, "images r c patch"]) -> Float[Array, "images rows cols 3"]:
    count, rows, cols, _ = x.shape
    cut = jnp.swapaxes(x.reshape(count, rows, cols, _PATCH, _PATCH, 3), 2, 3)
    return cut.reshape(count, rows * _PATCH, cols * _PATCH, 3)
