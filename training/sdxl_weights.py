"""Loads Stable Diffusion XL from a folder or from the user's hub cache; downloads nothing."""

import os
from pathlib import Path
from typing import Any

BASE = "stabilityai/stable-diffusion-xl-base-1.0"
LIGHTNING = "ByteDance/SDXL-Lightning"


def load_pipeline(weights: str | None, *, unet: str | None = None, num_steps: int = 4) -> Any:
    """A torch pipeline, its weights frozen, on the GPU torch sees or on the CPU.

    Args:
      weights: a folder in the layout of diffusers, or a name in the hub cache; default `BASE`.
      unet: a .safetensors file with the weights of another UNet, such as Lightning's.
      num_steps: of Lightning; the checkpoint for one step predicts the clean latent.
    Raises:
      ValueError: the packages are missing, or a file does not fit.
      FileNotFoundError: the weights are not there.
    """
    try:
        import torch
        from diffusers import StableDiffusionXLPipeline
    except ImportError as error:
        raise ValueError(
            'sdxl guidance needs torch and diffusers: pip install "hardlight[guidance]"'
        ) from error
    has_gpu = torch.cuda.is_available()
    weights = None if weights is None else os.path.expanduser(weights)  # shells leave NAME=~/x
    source = BASE if weights is None else weights
    if weights is not None and _is_path(weights) and not Path(weights).is_dir():
        raise FileNotFoundError(f"{weights}: no folder with a diffusers pipeline")
    try:
        pipeline = StableDiffusionXLPipeline.from_pretrained(
            source,
            dtype=torch.float16 if has_gpu else torch.float32,
            local_files_only=True,
            add_watermarker=False,
        )
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{source}: no complete SDXL pipeline here. Fetch it once with "
            f"`hf download {BASE}`, or name a folder that has model_index.json with "
            f"--set guidance.weights=FOLDER ({str(error).splitlines()[0]})"
        ) from error
    if unet is not None:
        _replace_unet(pipeline, unet, num_steps)
    # half precision overflows in this VAE
    pipeline.vae.to(torch.float32)
    pipeline.to("cuda" if has_gpu else "cpu")
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2):
        part.requires_grad_(False).eval()
    return pipeline


def _replace_unet(pipeline: Any, path: str, num_steps: int) -> None:
    """Puts in Lightning's UNet, and its way of predicting."""
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise FileNotFoundError(
            f"{path}: no such file; Lightning's are fetched with "
            f"`hf download {LIGHTNING} sdxl_lightning_{num_steps}step_unet.safetensors`"
        )
    try:
        pipeline.unet.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise ValueError(f"{path}: does not fit the pipeline's UNet: {error}") from error
    kind = "sample" if num_steps == 1 else "epsilon"
    pipeline.scheduler = type(pipeline.scheduler).from_config(
        pipeline.scheduler.config, prediction_type=kind, timestep_spacing="trailing"
    )


def _is_path(name: str) -> bool:
    return Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") != 1
