"""What a sampler looks at: how often each pixel of a view is drawn, relative to uniform."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from samplers import diagnostics, error_maps
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
    size = num_views * rows * cols
    of_items = sampler.probabilities
    if of_items is not None and jax.eval_shape(of_items, state).size == size:
        show = jax.jit(
            lambda state: diagnostics.sampling_density(sampler, state, num_views, rows, cols)
        )
        return Density(np.asarray(jax.device_get(show(state))), is_exact=True)

    @jax.jit
    def count(counts, key, state):
        return diagnostics.add_visits(counts, sampler.sample(key, state).items)

    key = jax.random.key(0)
    counts = jnp.zeros((num_views, rows, cols), jnp.int32)
    for number in range(_NUM_DRAWS):
        counts = count(counts, jax.random.fold_in(key, number), state)
    visits = np.asarray(jax.device_get(counts), np.float32)
    return Density(visits * np.float32(size / visits.sum()), is_exact=False)


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
