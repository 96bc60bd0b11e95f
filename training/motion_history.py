"""What the sampler of a motion run knew in its course: the columns of the report's heat maps."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from samplers import diagnostics, failure_bins
from samplers.base import Sampler

_MOST = 200
"""Columns kept; they are part of every checkpoint, and a run may go on for ever."""


def column(sampler: Sampler, state: Any, env_steps: int) -> dict[str, Any]:
    """The probabilities and the failure rates of all bins at one moment, as JSON values."""
    assert sampler.probabilities is not None
    probs = np.asarray(sampler.probabilities(state))
    rates = np.asarray(failure_bins.failure_rates(sampler.config, state))
    return {
        "env_steps": env_steps,
        "probabilities": [round(float(value), 6) for value in probs],
        "failures": [round(float(value), 6) for value in rates],
    }


def add(history: list[dict[str, Any]], newest: dict[str, Any]) -> None:
    """Appends a column; where there are too many, those leave that are closest to their neighbours.

    So columns that come evenly stay spread over the whole run, none further from the next than some
    twice the mean. The first and the newest always stay.
    """
    history.append(newest)
    while len(history) > _MOST:
        steps = np.array([entry["env_steps"] for entry in history])
        del history[1 + int(np.argmin(steps[2:] - steps[:-2]))]


def draws(history: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Says in numbers how starts were drawn, on average over the columns.

    Returns:
      `entropy`, normalised so that 1 is uniform over bins, and `effective_sample_share`,
      1 / sum p^2 over the number of bins.
    """
    found = [diagnostics.concentration(jnp.asarray(entry["probabilities"])) for entry in history]
    bins = len(history[-1]["probabilities"])
    return {
        "entropy": round(float(np.mean([one.entropy for one in found])), 5),
        "effective_sample_share": round(
            float(np.mean([one.effective_items for one in found])) / bins, 5
        ),
    }
