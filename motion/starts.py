"""The samplers that say where episodes start, by name, and what rows each of them counts.

A row is a moment that may have failed. Rules of kind "steps" count every environment step where it
happened; rules of kind "episodes" count finished episodes where they began.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from samplers import registry
from samplers.base import Draw, Feedback, Sampler
from samplers.motion_bins import MotionTime

DEFAULT = "failure_bins"
_BY_EPISODE = ("motion_bins_proposal", "textop")
_SIZES = ("clip_frames", "batch_size", "frames_per_bin", "horizon_frames")


def names() -> tuple[str, ...]:
    """Lists the samplers of motion starts, uniform first."""
    return ("uniform", *registry.names("motion"))


def make_start_sampler(
    name: str,
    *,
    clip_frames: tuple[int, ...],
    batch_size: int,
    frames_per_bin: float | int,
    horizon_frames: int | None = None,
    options: Mapping[str, object] | None = None,
) -> Sampler:
    """Makes a sampler of starts by name.

    Args:
      clip_frames: frames of each clip that may be started in.
      batch_size: environments.
      horizon_frames: control steps after which episodes end; None: at the end of their clip.
      options: settings that differ from the sampler's own.
    Raises:
      ValueError: for an unknown name or setting, listing the known ones.
    """
    if name not in names():
        raise ValueError(f"no motion sampler {name!r}; motion samplers: {', '.join(names())}")
    given = dict(options or {})
    wrong = sorted(set(given) & set(_SIZES))
    if wrong:
        raise ValueError(f"{', '.join(wrong)} of {name} follow from the clips and environments")
    sizes = {
        "clip_frames": clip_frames,
        "batch_size": batch_size,
        "frames_per_bin": float(frames_per_bin),
        "horizon_frames": None if horizon_frames is None else float(horizon_frames),
    }
    if name == "uniform":
        if given:
            raise ValueError(f"uniform has no setting {', '.join(sorted(given))}")
        fixed = {"uniform_fraction": 1.0, "stuck_share": 1.0}
        return registry.make_sampler(DEFAULT, {**fixed, **sizes})
    return registry.make_sampler(name, {**given, **sizes})


def with_clip_weights(sampler: Sampler, weights: Sequence[float]) -> Sampler:
    """Multiplies the probability of every start by its clip's weight.

    The floor is multiplied too, so a bin of weight 1 among bins of weight 2 keeps half the floor of
    theirs.
    Raises:
      ValueError: unless there is one positive weight per clip.
    """
    clips = len(sampler.config.clip_frames)
    if len(weights) != clips or not min(weights) > 0:
        raise ValueError(f"needs {clips} positive weights, got {list(weights)}")
    plain = sampler.probabilities
    assert plain is not None

    def probabilities(state: Any) -> Float[Array, " bins"]:
        weight = jnp.asarray(weights, jnp.float32)[state.layout.clip]
        weighted = plain(state) * weight
        return weighted / jnp.sum(weighted)

    def sample(key: Key[Array, ""], state: Any) -> Draw:
        return sampler.sample(key, state._replace(override=probabilities(state)))

    return dataclasses.replace(sampler, sample=sample, probabilities=probabilities)


def rows_of(name: str) -> Literal["steps", "episodes"]:
    """Says which rows the named sampler counts."""
    return "episodes" if name in _BY_EPISODE else "steps"


def count_outcomes(
    sampler: Sampler,
    rows: Literal["steps", "episodes"],
    state: Any,
    *,
    here: MotionTime,
    start: MotionTime,
    failed: Bool[Array, " envs"],
    is_over: Bool[Array, " envs"],
) -> Any:
    """Tells a sampler what one environment step showed.

    Args:
      here: where the environments were when they failed or did not.
      start: where their episodes began.
      failed: terminated, time-outs and ends of clips apart.
      is_over: the episode ended, for whatever reason.
    """
    ones = jnp.ones(failed.shape, jnp.float32)
    value = failed.astype(jnp.float32)
    if rows == "episodes":
        return sampler.update(state, Draw(start, ones, ones), Feedback(value, valid=is_over))
    return sampler.update(state, Draw(here, ones, ones), Feedback(value))
