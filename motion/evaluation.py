"""How well a policy tracks: starts tried one by one, without noise, pushes and exploration.

An `Evaluator` plays from given starts, exactly on the reference, in an environment of its own, so
that nothing of training is touched. `survival_starts` gives many moments, to ask whether the robot
is still tracking after some seconds.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from samplers.motion_bins import BinLayout, MotionTime, bin_of

from . import ppo
from .clips import ClipBank
from .env import Env, EnvState, Observation, StepOutput
from .ppo import Learner, PpoConfig


class Trials(NamedTuple):
    """What became of every start.

    Attributes:
      clip, frame: where it started.
      survived: it did not fail within its steps.
      steps: control steps until it failed, or all of its own.
      failed_frame: where it failed; -1 where it did not.
      errors: means over its steps, by name as in `TrackingErrors`.
    """

    clip: Int[np.ndarray, " starts"]
    frame: Int[np.ndarray, " starts"]
    survived: Bool[np.ndarray, " starts"]
    steps: Int[np.ndarray, " starts"]
    failed_frame: Int[np.ndarray, " starts"]
    errors: dict[str, Float[np.ndarray, " starts"]]


class Track(NamedTuple):
    """The robot's positions along a run; frames after its end repeat the last.

    Attributes:
      is_alive: it has not failed yet; also after the end of a clip.
    """

    qpos: Float[np.ndarray, "frames starts nq"]
    is_alive: Bool[np.ndarray, "frames starts"]


def survival_starts(bank: ClipBank, num_starts: int, horizon: int) -> MotionTime:
    """Spreads starts evenly over all moments that have `horizon` steps ahead of them.

    Of a clip shorter than that, over its first half: these have only to reach its end. Every clip
    has a start, as far as there are as many starts.
    """
    lengths = np.asarray(bank.clip_length)
    room = np.where(lengths > horizon, lengths - horizon, np.maximum(lengths // 2, 1))
    place = (np.arange(num_starts) + 0.5) / num_starts * room.sum()
    ends = np.cumsum(room)
    clip = np.searchsorted(ends, place, side="right")
    frame = np.floor(place - (ends - room)[clip]).astype(np.int32)
    for missing in np.setdiff1d(np.arange(len(lengths)), clip):
        counts = np.bincount(clip, minlength=len(lengths))
        if counts.max() > 1:  # the clip with the most starts gives one
            given = np.flatnonzero(clip == counts.argmax())[-1]
            clip[given], frame[given] = missing, 0
    return MotionTime(jnp.asarray(clip, jnp.int32), jnp.asarray(frame, jnp.int32))


Act = Callable[[Any, Observation], Array]


def mean_of(config: PpoConfig) -> Act:
    """A policy without exploration."""
    return lambda learner, seen: ppo.mean_action(config, learner, seen.actor)


def nothing(env: Env) -> Act:
    """No action at all, whatever is seen and learned."""
    return lambda learner, seen: jnp.zeros((seen.actor.shape[0], env.num_actions))


class Evaluator:
    """Plays a policy in an environment; compiled once.

    Args:
      act: from what was learned and an observation to actions; `mean_of` gives a policy's.
    """

    def __init__(self, env: Env, act: Act):
        self._env = env
        self._act = jax.jit(act)
        self._scan = jax.jit(self._many, static_argnums=3) if env.is_jittable else None

    def play(
        self, bank: ClipBank, learner: Learner | None, starts: MotionTime, num_steps: int
    ) -> tuple[Trials, Track]:
        """Plays from every start until it fails, its clip ends or `num_steps` are over.

        Args:
          starts: one per copy of the environment.
        """
        key = jax.random.key(0)
        state = self._env.reset(bank, key, starts)
        first = np.asarray(state.now.qpos)
        if self._scan is not None:
            outputs, qpos = jax.device_get(self._scan(bank, learner, state, num_steps))
        else:
            kept, places = [], []
            for _ in range(num_steps):
                action = self._act(learner, state.observation)
                state, output = self._env.step(bank, state, action, starts, key)
                kept.append(_small(output))
                places.append(np.asarray(state.now.qpos))
            outputs = jax.tree.map(lambda *leaves: np.stack([np.asarray(x) for x in leaves]), *kept)
            qpos = np.stack(places)
        return _collect(outputs, qpos, first, starts)

    def _many(
        self, bank: ClipBank, learner: Learner | None, state: EnvState, num_steps: int
    ) -> Any:
        starts = MotionTime(state.clip, state.frame)
        key = jax.random.key(0)

        def advance(state: EnvState, _: None) -> tuple[EnvState, Any]:
            action = self._act(learner, state.observation)
            state, output = self._env.step(bank, state, action, starts, key)
            return state, (_small(output), state.now.qpos)

        return jax.lax.scan(advance, state, None, length=num_steps)[1]


def per_bin(layout: BinLayout, trials: Trials) -> Float[np.ndarray, " bins"]:
    """Failures per pass through each bin; NaN for bins nobody entered."""
    bins = layout.clip.shape[0]
    exposure, failures = np.zeros(bins), np.zeros(bins)
    lengths = np.asarray(layout.num_frames)
    for clip, frame, steps, failed in zip(
        trials.clip, trials.frame, trials.steps, trials.failed_frame, strict=True
    ):
        frames = jnp.asarray(frame + 1 + np.arange(steps), jnp.int32)
        clips = jnp.full(frames.shape, clip, jnp.int32)
        np.add.at(exposure, np.asarray(bin_of(layout, MotionTime(clips, frames))), 1.0)
        if failed >= 0:
            where = MotionTime(clips[:1], jnp.asarray([failed], jnp.int32))
            failures[int(bin_of(layout, where)[0])] += 1
    with np.errstate(divide="ignore", invalid="ignore"):
        return failures / (exposure / lengths)


def summarise(trials: Trials, control_rate: float) -> dict[str, float]:
    """Means over the starts: survived, seconds, and errors while tracking."""
    numbers = {
        "success": float(np.mean(trials.survived)),
        "survival_seconds": float(np.mean(trials.steps)) / control_rate,
    }
    for name, values in trials.errors.items():
        numbers[f"error_{name}"] = float(np.mean(values))
    return numbers


def _small(output: StepOutput) -> tuple[Any, ...]:
    return output.terminated, output.timed_out, output.here.frame, output.errors


def _collect(
    outputs: Any,
    qpos: Float[np.ndarray, "steps starts nq"],
    first: Float[np.ndarray, "starts nq"],
    starts: MotionTime,
) -> tuple[Trials, Track]:
    terminated, timed_out, frames, errors = outputs
    steps, count = terminated.shape
    is_over = terminated | timed_out
    ended = np.where(is_over.any(axis=0), is_over.argmax(axis=0), steps - 1)
    columns = np.arange(count)
    failed = terminated[ended, columns]
    is_counted = np.arange(steps)[:, None] <= ended[None]
    means = {}
    for name, values in errors._asdict().items():
        usable = is_counted & np.isfinite(values)
        means[name] = np.where(usable, values, 0).sum(axis=0) / np.maximum(usable.sum(axis=0), 1)
    # the place an ended copy has after its last step is already that of its next episode
    is_shown = np.arange(steps)[:, None] < ended[None] + (~is_over.any(axis=0))[None]
    track = np.concatenate((first[None], qpos))
    is_known = np.concatenate((np.ones((1, count), bool), is_shown))
    last = np.maximum.accumulate(np.where(is_known, np.arange(steps + 1)[:, None], 0), axis=0)
    trials = Trials(
        clip=np.asarray(starts.clip),
        frame=np.asarray(starts.frame),
        survived=~failed,
        steps=ended + 1,
        failed_frame=np.where(failed, frames[ended, columns], -1),
        errors=means,
    )
    return trials, Track(np.take_along_axis(track, last[:, :, None], axis=0), is_known | ~failed)
