"""What a sampler looks at: how often each pixel of a view is drawn, relative to uniform."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from samplers import pixels as sampler_pixels
from samplers.base import Sampler

_NUM_DRAWS = 256


def density(
    sampler: Sampler, state: Any, *, num_views: int, rows: int, cols: int
) -> tuple[Float[np.ndarray, "views rows cols"], bool]:
    """Probability of each pixel over the uniform one; 1 everywhere is uniform.

    Returns:
      the density, and whether it is exact. Samplers without a finite set of items are drawn from
      many times instead, and the draws counted.
    """
    shape = (num_views, rows, cols)
    size = num_views * rows * cols
    if sampler.probabilities is not None:
        probabilities = np.asarray(jax.device_get(jax.jit(sampler.probabilities)(state)))
        if probabilities.size == size:
            return probabilities.reshape(shape) * np.float32(size), True
    counts = np.zeros(shape, np.float32)

    @jax.jit
    def draw(key, state):
        return sampler_pixels.pixel_indices(sampler.sample(key, state).items, rows, cols)

    key = jax.random.key(0)
    for number in range(_NUM_DRAWS):
        drawn = jax.device_get(draw(jax.random.fold_in(key, number), state))
        np.add.at(counts, (drawn.view, drawn.row, drawn.col), 1.0)
    return counts * np.float32(size / counts.sum()), False
