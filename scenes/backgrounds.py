"""Backgrounds: what shows through where an image is transparent.

Stored pixels are uint8 with straight alpha; everything is composed in the encoded (sRGB) values,
as Blender's synthetic scenes and every published number on them do.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8

Background = Literal["white", "black", "random"]
BACKGROUNDS: tuple[Background, ...] = ("white", "black", "random")


def premultiply(pixels: UInt8[Array, "*batch channels"]) -> Float[Array, "*batch 4"]:
    """Turns stored RGB or RGBA pixels into floats in [0, 1] with colour times alpha."""
    values = pixels.astype(jnp.float32) / 255.0
    if pixels.shape[-1] == 3:
        return jnp.concatenate([values, jnp.ones_like(values[..., :1])], axis=-1)
    return jnp.concatenate([values[..., :3] * values[..., 3:], values[..., 3:]], axis=-1)


def compose(
    premultiplied: Float[Array, "*#batch 4"], background: Float[Array, "*#batch 3"]
) -> Float[Array, "*batch 3"]:
    """Lays premultiplied colours over a background."""
    shape = jnp.broadcast_shapes(premultiplied.shape[:-1], background.shape[:-1])
    behind = jnp.broadcast_to(background, (*shape, 3))
    return premultiplied[..., :3] + (1.0 - premultiplied[..., 3:]) * behind


def composite(
    pixels: UInt8[Array, "*batch channels"], background: Float[Array, "*#batch 3"]
) -> Float[Array, "*batch 3"]:
    """Lays stored RGB or RGBA pixels over a background; RGB pixels hide it."""
    return compose(premultiply(pixels), background)


def background_colors(
    policy: Background, key: Key[Array, ""], num_rays: int
) -> Float[Array, "num_rays 3"]:
    """Chooses the colour behind each ray: white, black, or uniformly random per ray.

    Raises:
      ValueError: for an unknown policy.
    """
    if policy == "random":
        return jax.random.uniform(key, (num_rays, 3))
    return jnp.broadcast_to(plain_color(policy), (num_rays, 3))


def plain_color(policy: Background) -> Float[np.ndarray, " 3"]:
    """The one colour to evaluate with; "random" trains on noise and is evaluated on white.

    Raises:
      ValueError: for an unknown policy.
    """
    if policy not in BACKGROUNDS:
        raise ValueError(f"background must be one of {', '.join(BACKGROUNDS)}, got {policy!r}")
    return np.zeros(3, np.float32) if policy == "black" else np.ones(3, np.float32)
