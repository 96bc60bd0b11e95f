"""What a training loop should look at next: pure-function samplers with explicit keys.

Examples:
  >>> import jax, jax.numpy as jnp, samplers
  >>> int(samplers.choice(jax.random.key(0), jnp.array([0.0, 1.0]), 1)[0])
  1
"""

from .base import Draw, Feedback, Sampler
from .pixels import PixelCoord, PixelIndex
from .registry import ENTRIES, make_ray_sampler
from .without_replacement import choice

__all__ = [
    "ENTRIES",
    "Draw",
    "Feedback",
    "PixelCoord",
    "PixelIndex",
    "Sampler",
    "choice",
    "make_ray_sampler",
]
