"""What a sampler looks at: how often each pixel of a view is drawn, relative to uniform."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from samplers import diagnostics, error_maps
from samplers import pixels as sampler_pixels
from samplers.base import Sampler
from samplers.error_weighted import ErrorWeightedConfig

_NUM_DRAWS = 256


class Density(NamedTuple):
    """How often pixels are drawn."""

    relative: Float[np.ndarray, "views rows cols"]
    """Probability over the uniform one; 1 everywhere is uniform."""
    is_exact: bool
    """False: counted from draws."""


def density(sampler: Sampler, state: Any, *, num_views: int, rows: int, cols: int) -> Density:
    """Finds how often each pixel is drawn by a sampler that knows what this state knows.

    A return to uniform draws at the end of a run is left out: it would hide what was preferred
    until then. Samplers without a finite set of pixels are drawn from many times, and the draws
    counted.
    """
    state = sampler.plan(state, math.inf)
    shape = (num_views, rows, cols)
    size = num_views * rows * cols
    if sampler.probabilities is not None:
        probabilities = np.asarray(jax.device_get(jax.jit(sampler.probabilities)(state)))
        if probabilities.size == size:
            return Density(probabilities.reshape(shape) * np.float32(size), is_exact=True)
    counts = np.zeros(shape, np.float32)

    @jax.jit
    def draw(key, state):
        return sampler_pixels.pixel_indices(sampler.sample(key, state).items, rows, cols)

    key = jax.random.key(0)
    for number in range(_NUM_DRAWS):
        drawn = jax.device_get(draw(jax.random.fold_in(key, number), state))
        np.add.at(counts, (drawn.view, drawn.row, drawn.col), 1.0)
    return Density(counts * np.float32(size / counts.sum()), is_exact=False)


def remembered(
    sampler: Sampler, state: Any, *, num_views: int, rows: int, cols: int
) -> Float[np.ndarray, "views rows cols"] | None:
    """Gives the relative loss a sampler remembers of each pixel, 1 is average; None: of none."""
    if not isinstance(sampler.config, (*error_maps.TILED, ErrorWeightedConfig)):
        return None
    scores = diagnostics.pixel_scores(sampler, state, num_views, rows, cols)
    return np.asarray(jax.device_get(scores))


def draw_facts(
    sampled: Density,
    effective_rays: Sequence[float],
    rays_per_step: int,
    seen: Bool[np.ndarray, "views rows cols"] | None,
) -> dict[str, float]:
    """Says in numbers how a run has drawn.

    Args:
      sampled: with what was known at the end.
      effective_rays: what the weights of single steps left of their rays, over the run.
      seen: pixels ever drawn, where the run tracked them.
    Returns:
      `effective_sample_share`, mean of effective rays over rays; where the density is exact
      `entropy`, normalised so that 1 is uniform, and `effective_pixel_share`, 1 / sum p^2 over the
      number of pixels; where pixels were tracked `seen`, the share drawn at least once.
    """
    facts = {"effective_sample_share": float(np.mean(effective_rays)) / rays_per_step}
    if sampled.is_exact:
        measured = diagnostics.concentration(jnp.asarray(sampled.relative / sampled.relative.size))
        facts["entropy"] = float(measured.entropy)
        facts["effective_pixel_share"] = float(measured.effective_items) / sampled.relative.size
    if seen is not None:
        facts["seen"] = float(seen.mean())
    return {name: round(value, 5) for name, value in facts.items()}
