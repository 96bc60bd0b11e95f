"""Guidance by Stable Diffusion XL, or its Lightning distillation, through a torch pipeline.

The pipeline is given, loaded; pictures are handed over without a copy where the devices allow it
(DLPack). Per picture, in float32: enlarge, encode with the VAE's mean to z, noise it, ask the
UNet, and pull the cotangent of z back through the encoder. The UNet runs without a graph, so its
Jacobian cannot enter; the encoder's is kept.
  sds        g = w (eps_hat - eps), w = 1 - abar, with classifier-free guidance      (base)
  nfsd       g = w (d_C + d_D): d_C = scale (eps_c - eps_u), and for the domain d_D = eps_u where
             t < 200, else eps_u - eps_n under a negative prompt     (Katzir et al. 2024; base)
  residual   g = z - x0_hat at the nodes Lightning was trained on, without guidance  (lightning)
Lightning is no score but a map from each of its nodes to a picture, so its guess of the clean
latent is used as a target instead of a direction.
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from .protocol import Guidance, Pull, Query

_DOMAIN_LEVEL = 200  # of 1000: below this nearly all of eps_u is correction


@dataclasses.dataclass(frozen=True, kw_only=True)
class SdxlConfig:
    """How the pipeline is asked.

    Attributes:
      variant: `sds` or `nfsd` for the base model, `residual` for Lightning.
      prompt, negative_prompt: texts.
      guidance_scale: classifier-free guidance eps_u + scale (eps_c - eps_u); not used by
        `residual`.
      lightning_steps: which checkpoint of Lightning it is: 1, 2, 4 or 8.
      size: side in pixels that pictures are enlarged to; the model knows 1024.
      min_noise, max_noise_start, max_noise_end: levels of `sds` and `nfsd` are even between the
        first and a maximum that moves from the second to the third over the run.
    """

    variant: Literal["sds", "nfsd", "residual"] = "sds"
    prompt: str = "a block world"
    negative_prompt: str = ""
    guidance_scale: float = 7.5
    lightning_steps: int = 4
    size: int = 1024
    min_noise: float = 0.02
    max_noise_start: float = 0.98
    max_noise_end: float = 0.5

    def __post_init__(self) -> None:
        if self.variant not in ("sds", "nfsd", "residual"):
            raise ValueError(f'variant is "sds", "nfsd" or "residual", got "{self.variant}"')
        if self.lightning_steps not in (1, 2, 4, 8):
            raise ValueError(f"Lightning has 1, 2, 4 or 8 steps, got {self.lightning_steps}")
        if self.size < 8 or self.size % 8 or self.guidance_scale < 0:
            raise ValueError("needed size a multiple of 8 and guidance_scale >= 0")
        ends = (self.max_noise_start, self.max_noise_end)
        if not 0 <= self.min_noise < min(ends) <= max(ends) <= 1:
            raise ValueError("needed 0 <= min_noise < max_noise <= 1")


class _Told(NamedTuple):
    """What the UNet is told: embeddings per prompt (positive, negative or empty), pooled, sizes."""

    texts: tuple[Any, ...]
    pooled: tuple[Any, ...]
    time_ids: Any


def sdxl(pipeline: Any, config: SdxlConfig) -> Guidance:
    """Wraps a loaded `StableDiffusionXLPipeline` of diffusers; opaque to JAX.

    Prompts are encoded here, once.
    """
    told = _tell(pipeline, config)

    def pull(data: None, key: Key[Array, ""], query: Query) -> Pull:
        del data
        return _pull(pipeline, config, told, key, query)

    return Guidance("sdxl", None, pull, is_traceable=False)


def lightning_nodes(num_steps: int, num_levels: int = 1000) -> list[int]:
    """Noise levels a Lightning checkpoint was trained at ("trailing" spacing).

    Examples:
      >>> lightning_nodes(4)
      [999, 749, 499, 249]
    """
    return [round(num_levels * (num_steps - i) / num_steps) - 1 for i in range(num_steps)]


def _pull(
    pipeline: Any, config: SdxlConfig, told: _Told, key: Key[Array, ""], query: Query
) -> Pull:
    import torch

    device, vae = pipeline.unet.device, pipeline.vae
    images = torch.from_dlpack(query.images).to(device).permute(0, 3, 1, 2).float()
    images = images.detach().requires_grad_(True)
    large = torch.nn.functional.interpolate(images, (config.size, config.size), mode="bilinear")
    z = vae.encode((2.0 * large - 1.0).to(vae.dtype)).latent_dist.mode().float()
    z = z * vae.config.scaling_factor
    level_key, noise_key = jax.random.split(key)
    levels = _levels(config, level_key, len(images), float(query.progress))
    level = torch.as_tensor(levels, device=device)
    noise = torch.as_tensor(np.array(jax.random.normal(noise_key, tuple(z.shape))), device=device)
    abar = pipeline.scheduler.alphas_cumprod.to(device)[level].float()[:, None, None, None]
    with torch.no_grad():
        noisy = abar.sqrt() * z + (1.0 - abar).sqrt() * noise
        guesses = [
            _noise_guess(pipeline, noisy, level, abar, told, number)
            for number in range(len(told.texts))
        ]
        g = _cotangent(config, z, noisy, noise, abar, level, guesses)
        is_finite = torch.isfinite(g)
        g = torch.where(is_finite, g, torch.zeros_like(g))
    count = g[0].numel()
    (gradient,) = torch.autograd.grad(z, images, g / count)
    gradient = gradient.permute(0, 2, 3, 1).contiguous().cpu()
    size = g.square().mean((1, 2, 3)).sqrt().cpu()
    metrics = {
        "guide_norm": jnp.asarray(float(size.mean())),
        "guide_level": jnp.asarray(float(levels.mean()) / len(pipeline.scheduler.alphas_cumprod)),
        "guide_bad": jnp.asarray(float((~is_finite).sum())),
    }
    # through NumPy, so that they are not bound to the host's device and go where the state is
    return Pull(jnp.asarray(gradient.numpy()), jnp.asarray(size.numpy()), metrics)


def _levels(config: SdxlConfig, key: Key[Array, ""], count: int, progress: float) -> np.ndarray:
    if config.variant == "residual":
        nodes = np.array(lightning_nodes(config.lightning_steps))
        return nodes[np.asarray(jax.random.randint(key, (count,), 0, len(nodes)))]
    top = config.max_noise_start + progress * (config.max_noise_end - config.max_noise_start)
    share = np.asarray(jax.random.uniform(key, (count,), minval=config.min_noise, maxval=top))
    return np.clip((1000 * share).astype(np.int64), 0, 999)


def _cotangent(config: SdxlConfig, z, noisy, noise, abar, level, guesses) -> Any:
    """What z should move against; guesses are those under the prompts of `_tell`."""
    if config.variant == "residual":
        return z - (noisy - (1.0 - abar).sqrt() * guesses[0]) / abar.sqrt()
    conditioned = config.guidance_scale * (guesses[0] - guesses[1])
    if config.variant == "sds":
        return (1.0 - abar) * (guesses[1] + conditioned - noise)
    is_low = (level < _DOMAIN_LEVEL)[:, None, None, None]
    domain = guesses[1] - is_low.logical_not() * guesses[2]
    return (1.0 - abar) * (conditioned + domain)


def _noise_guess(pipeline, noisy, level, abar, told: _Told, number: int) -> Any:
    """eps_hat under one prompt, whatever the checkpoint predicts."""
    unet, count = pipeline.unet, len(noisy)
    out = unet(
        noisy.to(unet.dtype),
        level,
        encoder_hidden_states=told.texts[number].expand(count, -1, -1),
        added_cond_kwargs={
            "text_embeds": told.pooled[number].expand(count, -1),
            "time_ids": told.time_ids.expand(count, -1),
        },
    ).sample.float()
    kind = pipeline.scheduler.config.prediction_type
    signal, sigma = abar.sqrt(), (1.0 - abar).sqrt()
    if kind == "sample":
        return (noisy - signal * out) / sigma
    if kind == "v_prediction":
        return sigma * noisy + signal * out
    return out


def _tell(pipeline: Any, config: SdxlConfig) -> _Told:
    """Encodes the prompts a variant asks about: its own, the empty one, the negative one."""
    import torch

    prompts = [config.prompt]
    if config.variant == "sds":
        prompts.append(config.negative_prompt)
    elif config.variant == "nfsd":
        prompts += ["", config.negative_prompt or "unrealistic, blurry, low quality"]
    texts, pooled = [], []
    with torch.no_grad():
        for prompt in prompts:
            text, _, pool, _ = pipeline.encode_prompt(
                prompt=prompt, num_images_per_prompt=1, do_classifier_free_guidance=False
            )
            texts.append(text.to(pipeline.unet.dtype))
            pooled.append(pool.to(pipeline.unet.dtype))
    # original size, crop, target size: what the model was told about its own training pictures
    time_ids = torch.tensor([[1024, 1024, 0, 0, 1024, 1024]], device=pipeline.unet.device)
    return _Told(tuple(texts), tuple(pooled), time_ids.to(pipeline.unet.dtype))
