"""What a motion run reports: survival of starts, whole clips, per clip and per bin."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from motion import evaluation
from motion.evaluation import Track, Trials
from motion.ppo import Learner
from samplers.motion_bins import MotionTime

from .motion_setup import LoadedMotion, Setup


class Verdict(NamedTuple):
    """The last look at a policy.

    Attributes:
      final: the numbers of summary.json.
      tracks: the robot's positions along every clip that was trained on, from its first frame.
    """

    final: dict[str, Any]
    tracks: Track


class Evaluator:
    """Tries a policy in an environment of its own, without noise, pushes or exploration."""

    def __init__(self, setup: Setup):
        self._setup = setup
        self._player = evaluation.Evaluator(
            setup.evaluation_env, evaluation.mean_of(setup.job.train.ppo)
        )
        bank, count = setup.loaded.bank, setup.job.loop.num_starts
        self._starts = evaluation.survival_starts(bank, count, setup.horizon)

    def survival(self, learner: Learner) -> tuple[dict[str, float], Trials]:
        """Tries starts all over the clips for some seconds each."""
        return self._survival(learner, self._setup.loaded, self._starts)

    def judge(self, learner: Learner) -> Verdict:
        """Everything: starts, bins, and every clip played once from its first frame; then the
        clips that were held out."""
        loaded, rate = self._setup.loaded, self._setup.loaded.robot.control_rate
        numbers, trials = self.survival(learner)
        whole, tracks = self._whole_clips(learner, loaded)
        state = self._setup.sampler.init(self._setup.init_key)
        rates = evaluation.per_bin(state.layout, trials)
        final = {
            "survival_horizon_seconds": self._setup.job.loop.survival_seconds,
            "num_starts": self._setup.job.loop.num_starts,
            **_numbers(loaded, numbers, trials, whole),
            "failures_per_pass": [None if np.isnan(value) else float(value) for value in rates],
            "bins": [
                {
                    "clip": loaded.clips[clip].name,
                    "from_seconds": round(float(first / rate), 3),
                    "to_seconds": round(float((first + count) / rate), 3),
                    "failures_per_pass": None if np.isnan(value) else float(value),
                }
                for clip, first, count, value in zip(
                    np.asarray(state.layout.clip),
                    np.asarray(state.layout.first_frame),
                    np.asarray(state.layout.num_frames),
                    rates,
                    strict=True,
                )
            ],
        }
        if loaded.held_out is not None:
            final["held_out"] = self._held_out(learner, loaded.held_out)
        return Verdict(final, tracks)

    def _held_out(self, learner: Learner, loaded: LoadedMotion) -> dict[str, Any]:
        """What the policy does with clips it was not trained on."""
        count = self._setup.job.loop.num_starts
        starts = evaluation.survival_starts(loaded.bank, count, self._setup.horizon)
        numbers, trials = self._survival(learner, loaded, starts)
        return _numbers(loaded, numbers, trials, self._whole_clips(learner, loaded)[0])

    def _survival(
        self, learner: Learner, loaded: LoadedMotion, starts: MotionTime
    ) -> tuple[dict[str, float], Trials]:
        trials, _ = self._player.play(loaded.bank, learner, starts, self._setup.horizon)
        return evaluation.summarise(trials, loaded.robot.control_rate), trials

    def _whole_clips(self, learner: Learner, loaded: LoadedMotion) -> tuple[Trials, Track]:
        copies, count = self._setup.job.loop.num_starts, len(loaded.clips)
        trials, tracks = [], []
        for first in range(0, count, copies):
            clips = np.arange(first, first + copies) % count
            begin = MotionTime(jnp.asarray(clips, jnp.int32), jnp.zeros(copies, jnp.int32))
            steps = max(loaded.lengths[first : first + copies]) - 1
            part, track = self._player.play(loaded.bank, learner, begin, steps)
            trials.append(part)
            tracks.append(track)
        if len(trials) == 1:
            return trials[0], tracks[0]
        longest = max(len(track.qpos) for track in tracks)
        padded = [
            Track(
                np.pad(track.qpos, ((0, longest - len(track.qpos)), (0, 0), (0, 0)), "edge"),
                np.pad(track.is_alive, ((0, longest - len(track.is_alive)), (0, 0)), "edge"),
            )
            for track in tracks
        ]
        names = trials[0].errors
        joined = Trials(
            *(np.concatenate(parts) for parts in zip(*(t[:5] for t in trials), strict=True)),
            errors={name: np.concatenate([t.errors[name] for t in trials]) for name in names},
        )
        return joined, Track(*(np.concatenate(parts, 1) for parts in zip(*padded, strict=True)))


def _numbers(
    loaded: LoadedMotion, means: dict[str, float], trials: Trials, whole: Trials
) -> dict[str, Any]:
    """What is told of a set of clips: means over the starts, and each clip.

    Args:
      trials: starts all over the clips.
      whole: each clip from its first frame.
    """
    rate, per_clip = loaded.robot.control_rate, []
    for place, (clip, length) in enumerate(zip(loaded.clips, loaded.lengths, strict=True)):
        mine = trials.clip == place
        per_clip.append(
            {
                "name": clip.name,
                "split": loaded.splits[place],
                "seconds": round(float(length / rate), 3),
                "starts_survived": float(np.mean(trials.survived[mine])) if mine.any() else None,
                "survival_seconds": float(np.mean(trials.steps[mine]) / rate)
                if mine.any()
                else None,
                "is_completed": bool(whole.survived[place]),
                "completed_share": float(whole.steps[place] / max(length - 1, 1)),
                "mpjpe_global": float(whole.errors["body_world"][place]),
                "mpjpe_root_relative": float(whole.errors["body_root"][place]),
                "joint_error": float(whole.errors["joint"][place]),
            }
        )
    return {
        "starts_survived": means["success"],
        "survival_seconds": means["survival_seconds"],
        "mpjpe_global": means["error_body_world"],
        "mpjpe_root_relative": means["error_body_root"],
        "mpjpe_anchored": means["error_body_anchored"],
        "joint_error": means["error_joint"],
        "clips_completed": float(np.mean(whole.survived[: len(loaded.clips)])),
        "clips": per_clip,
    }
