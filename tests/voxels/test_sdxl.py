"""SDXL guidance on a small pipeline of random weights in the real layout, loaded for real."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from training.sdxl_weights import load_pipeline
from voxels.guidance.protocol import Query
from voxels.guidance.sdxl import SdxlConfig, lightning_nodes, sdxl

from .tiny_pipeline import save_pipeline

KEY = jax.random.key(5)
CONFIG = SdxlConfig(prompt="a snow world", size=64, guidance_scale=5.0)
QUERY = Query(
    jnp.asarray(np.random.default_rng(0).random((2, 24, 24, 3)), jnp.float32),
    jnp.arange(2),
    jnp.float32(0.0),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    return save_pipeline(tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(scope="module")
def pipeline(folder):
    return load_pipeline(str(folder))


def ask(pipeline, **changes):
    return sdxl(pipeline, dataclasses.replace(CONFIG, **changes)).pull(None, KEY, QUERY)


@pytest.mark.parametrize("variant", ["sds", "nfsd", "residual"])
def test_a_pull_is_finite_repeatable_and_follows_the_prompt(pipeline, variant):
    first, again = ask(pipeline, variant=variant), ask(pipeline, variant=variant)
    assert first.gradient.shape == QUERY.images.shape
    assert bool(jnp.isfinite(first.gradient).all())
    assert float(jnp.abs(first.gradient).max()) > 0
    np.testing.assert_array_equal(first.gradient, again.gradient)
    other = ask(pipeline, variant=variant, prompt="lava")
    assert not np.array_equal(first.gradient, other.gradient)


def test_the_encoder_is_differentiated_and_the_unet_is_not(pipeline):
    """<dL/d image, direction> is the finite difference of <g, z>, with g held fixed."""
    import torch

    graph_seen, latents = [], []
    hooks = [
        pipeline.unet.register_forward_hook(lambda *_: graph_seen.append(torch.is_grad_enabled())),
        pipeline.vae.encoder.register_forward_hook(lambda *_: latents.append(1)),
    ]
    pull = ask(pipeline, variant="residual")
    for hook in hooks:
        hook.remove()
    assert graph_seen == [False]
    assert latents == [1]
    # the residual does not depend on the picture's size of step, so rebuild g from its parts
    images = torch.tensor(np.array(QUERY.images)).permute(0, 3, 1, 2).double()

    def encode(images):
        large = torch.nn.functional.interpolate(images, (64, 64), mode="bilinear")
        return pipeline.vae.encode(2 * large - 1).latent_dist.mode() * 0.13025

    pipeline.vae.double()
    try:
        g = _residual(pipeline, encode(images))
        direction = torch.tensor(np.random.default_rng(1).normal(size=images.shape))
        step = 1e-5
        difference = encode(images + step * direction) - encode(images - step * direction)
        expected = (g * difference).sum() / (2 * step) / g[0].numel()
    finally:
        pipeline.vae.float()
    got = (np.asarray(pull.gradient, np.float64) * direction.permute(0, 2, 3, 1).numpy()).sum()
    np.testing.assert_allclose(got, float(expected), rtol=2e-3)


def _residual(pipeline, z):
    """g of the residual variant, written again from its definition."""
    import torch

    level_key, noise_key = jax.random.split(KEY)
    nodes = np.array([999, 749, 499, 249])
    level = nodes[np.asarray(jax.random.randint(level_key, (2,), 0, 4))]
    noise = torch.tensor(np.array(jax.random.normal(noise_key, tuple(z.shape)))).double()
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    abar = torch.tensor(np.cumprod(1 - betas)[level])[:, None, None, None]
    noisy = abar.sqrt() * z + (1 - abar).sqrt() * noise
    text, _, pooled, _ = pipeline.encode_prompt(
        prompt=CONFIG.prompt, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    sizes = torch.tensor([[1024.0, 1024, 0, 0, 1024, 1024]])
    with torch.no_grad():
        guess = pipeline.unet(
            noisy.float(),
            torch.tensor(level),
            encoder_hidden_states=text.expand(2, -1, -1),
            added_cond_kwargs={
                "text_embeds": pooled.expand(2, -1),
                "time_ids": sizes.expand(2, -1),
            },
        ).sample.double()
    return z - (noisy - (1 - abar).sqrt() * guess) / abar.sqrt()


def test_without_guidance_scale_only_the_unprompted_guess_counts(pipeline):
    plain = ask(pipeline, guidance_scale=0.0)
    other = ask(pipeline, guidance_scale=0.0, prompt="lava")
    np.testing.assert_allclose(plain.gradient, other.gradient, atol=1e-9)


def test_lightning_has_its_own_nodes_and_its_own_unet(folder, tmp_path):
    from safetensors.torch import save_file

    assert lightning_nodes(8) == [999, 874, 749, 624, 499, 374, 249, 124]
    assert lightning_nodes(2) == [999, 499]
    weights = load_pipeline(str(folder)).unet.state_dict()
    weights = {name: value + 0.01 for name, value in weights.items()}
    save_file(weights, tmp_path / "unet.safetensors")
    changed = load_pipeline(str(folder), unet=str(tmp_path / "unet.safetensors"), num_steps=1)
    assert changed.scheduler.config.prediction_type == "sample"
    pull = ask(changed, variant="residual", lightning_steps=1)
    np.testing.assert_allclose(pull.metrics["guide_level"], 0.999, rtol=1e-5)
    save_file({"other": weights.popitem()[1]}, tmp_path / "wrong.safetensors")
    with pytest.raises(ValueError, match="does not fit"):
        load_pipeline(str(folder), unet=str(tmp_path / "wrong.safetensors"))


@pytest.mark.parametrize(
    ("weights", "unet", "message"),
    [
        ("/nowhere/at/all", None, "no folder"),
        ("nobody/no-such-model", None, "hf download"),
        (None, None, "hf download"),
        ("here", "missing.safetensors", "no such file"),
    ],
)
def test_missing_weights_say_how_to_get_them(folder, weights, unet, message, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=message):
        load_pipeline(str(folder) if weights == "here" else weights, unet=unet)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 20}, "multiple of 8"),
        ({"lightning_steps": 3}, "1, 2, 4 or 8"),
        ({"min_noise": 0.7}, "min_noise"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)
