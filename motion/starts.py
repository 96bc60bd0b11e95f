"""The samplers that say where episodes start, by name, and what rows each of them counts.

A row is a moment that may have failed. Rules of kind "steps" count every environment step where it
happened; rules of kind "episodes" count finished episodes where they began.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from samplers import draws, failure_bins, registry
from samplers.base import Draw, Feedback, Sampler, multiply_high
from samplers.motion_bins import MotionTime, bin_of

DEFAULT = "failure_bins"
MANUAL = "manual"
_BY_EPISODE = ("beyondmimic_paper", "motion_bins_proposal", "textop")
_SIZES = ("clip_frames", "batch_size", "frames_per_bin", "horizon_frames", "end_margin")


_UNIFORM = {
    "uniform_fraction": 1.0,
    "stuck_share": 1.0,
    "cap": None,
    "is_length_weighted": True,
    "is_clip_balanced": False,
    "look_back_frames": 0,
    "is_edge_map": False,
}
"""Settings under which every frame that may be started at is as likely as any other."""


def names() -> tuple[str, ...]:
    """Lists the samplers of motion starts, uniform first."""
    return ("uniform", *registry.names("motion"), MANUAL)


def make_start_sampler(
    name: str,
    *,
    clip_frames: tuple[int, ...],
    batch_size: int,
    frames_per_bin: float | int,
    horizon_frames: int | None = None,
    end_margin: int = 0,
    options: Mapping[str, object] | None = None,
) -> Sampler:
    """Makes a sampler of starts by name.

    Args:
      clip_frames: frames of each clip.
      batch_size: environments.
      horizon_frames: control steps after which episodes end; None: at the end of their clip.
      end_margin: frames at the end of a clip in which nothing starts.
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
        "end_margin": end_margin,
    }
    known = ("from", "to") if name == MANUAL else ()
    if name in ("uniform", MANUAL):
        if set(given) - set(known):
            raise ValueError(f"{name} has no setting {', '.join(sorted(set(given) - set(known)))}")
        return registry.make_sampler(DEFAULT, {**_UNIFORM, **sizes})
    return registry.make_sampler(name, {**given, **sizes})


@dataclasses.dataclass(frozen=True)
class WeightedStarts(Sampler):
    """A sampler whose clips count by given weights."""

    clip_weights: tuple[float, ...] = ()


class FixedStarts(Sampler):
    """A sampler whose starts are given by hand: nothing overrules them, and nothing moves them."""


def with_fixed_starts(
    sampler: Sampler,
    control_rate: float,
    options: Mapping[str, object],
    weights: Sequence[float] | None = None,
) -> FixedStarts:
    """Overrules a sampler by hand: starts only in a stretch of time, each frame of it alike.

    Args:
      options: "from" and "to" in seconds of every clip, 0 and its end by default.
      weights: how much a frame of each clip counts; None: the same.
    Raises:
      ValueError: when no clip has frames there.
    """
    low, high = _seconds(options, "from", 0.0), _seconds(options, "to", np.inf)
    config, layout = sampler.config, sampler.init(jax.random.key(0)).layout
    lengths = np.maximum(np.asarray(config.clip_frames) - config.end_margin, 1)
    begin = np.minimum(np.ceil(low * control_rate), lengths).astype(np.int32)
    count = np.minimum(np.ceil(high * control_rate), lengths).astype(np.int32) - begin
    count = np.maximum(count, 0)
    if not count.sum() > 0:
        raise ValueError(f"no clip can be started between {low:g} and {high:g} s")
    weighted = count * np.asarray([1.0] * len(count) if weights is None else weights)
    per_clip = jnp.asarray(weighted / weighted.sum(), jnp.float32)
    clip, first = np.asarray(layout.clip), np.asarray(layout.first_frame)
    inside = np.minimum(first + np.asarray(layout.num_frames), (begin + count)[clip])
    inside = np.maximum(inside - np.maximum(first, begin[clip]), 0)
    per_bin = weighted[clip] * inside / np.maximum(count, 1)[clip]
    probs = jnp.asarray(per_bin / per_bin.sum(), jnp.float32)

    def sample(key: Key[Array, ""], state: Any) -> Draw:
        key_clip, key_frame = jax.random.split(key)
        drawn = draws.draw_items(key_clip, per_clip, config.batch_size)
        words = jax.random.bits(key_frame, (config.batch_size,), jnp.uint32)
        inside = multiply_high(words, jnp.asarray(count, jnp.uint32)[drawn]).astype(jnp.int32)
        items = MotionTime(drawn, jnp.asarray(begin)[drawn] + inside)
        return Draw(items, probs[bin_of(state.layout, items)], jnp.ones(config.batch_size))

    fields = {field.name: getattr(sampler, field.name) for field in dataclasses.fields(sampler)}
    return FixedStarts(**{**fields, "sample": sample, "probabilities": lambda state: probs})


def _seconds(options: Mapping[str, object], name: str, otherwise: float) -> float:
    value = options.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} of {MANUAL} must be a number of seconds, got {value!r}")
    return float(value)


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

    fields = {field.name: getattr(sampler, field.name) for field in dataclasses.fields(sampler)}
    changed = {"sample": sample, "probabilities": probabilities}
    return WeightedStarts(**{**fields, **changed}, clip_weights=tuple(weights))


def uniform_over_frames(sampler: Sampler) -> Sampler:
    """The sampler of uniform starts over the same bins: every frame alike, clips by their weights,
    or where starts are given by hand, these."""
    if isinstance(sampler, FixedStarts):
        return sampler
    even = failure_bins.make(dataclasses.replace(sampler.config, **_UNIFORM))
    weights = sampler.clip_weights if isinstance(sampler, WeightedStarts) else ()
    return with_clip_weights(even, weights) if weights else even


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
