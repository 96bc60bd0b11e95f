"""What a motion run reports: survival of starts, whole clips, per clip and per bin."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from motion import evaluation
from motion.evaluation import Track, Trials
from motion.ppo import Learner
from samplers.motion_bins import MotionTime

from .motion_setup import Setup


class Verdict(NamedTuple):
    """The last look at a policy.

    Attributes:
      final: the numbers of summary.json.
      tracks: the robot's positions along every clip from its first frame.
    """

    final: dict[str, Any]
    tracks: Track


class Evaluator:
    """Tries a policy in an environment of its own, without noise, pushes or exploration."""

    def __init__(self, setup: Setup):
        self._setup = setup
        self._player = evaluation.Evaluator(setup.evaluation_env, setup.job.train.ppo)
        bank, count = setup.loaded.bank, setup.job.loop.num_starts
        self._starts = evaluation.survival_starts(bank, count, setup.horizon)

    def survival(self, learner: Learner) -> tuple[dict[str, float], Trials]:
        """Tries starts all over the clips for some seconds each."""
        bank = self._setup.loaded.bank
        trials, _ = self._player.play(bank, learner, self._starts, self._setup.horizon)
        return evaluation.summarise(trials, self._setup.loaded.robot.control_rate), trials

    def judge(self, learner: Learner) -> Verdict:
        """Everything: starts, bins, and every clip played once from its first frame."""
        loaded, rate = self._setup.loaded, self._setup.loaded.robot.control_rate
        numbers, trials = self.survival(learner)
        whole, tracks = self._whole_clips(learner)
        state = self._setup.sampler.init(self._setup.init_key)
        rates = evaluation.per_bin(state.layout, trials)
        lengths = np.asarray(loaded.lengths)
        per_clip = []
        for place, clip in enumerate(loaded.clips):
            mine = trials.clip == place
            per_clip.append(
                {
                    "name": clip.name,
                    "seconds": round(float(lengths[place] / rate), 3),
                    "starts_survived": float(np.mean(trials.survived[mine]))
                    if mine.any()
                    else None,
                    "survival_seconds": float(np.mean(trials.steps[mine]) / rate)
                    if mine.any()
                    else None,
                    "is_completed": bool(whole.survived[place]),
                    "completed_share": float(whole.steps[place] / max(lengths[place] - 1, 1)),
                    "mpjpe_global": float(whole.errors["body_world"][place]),
                    "mpjpe_root_relative": float(whole.errors["body_root"][place]),
                    "joint_error": float(whole.errors["joint"][place]),
                }
            )
        count = len(loaded.clips)
        final = {
            "starts_survived": numbers["success"],
            "survival_seconds": numbers["survival_seconds"],
            "survival_horizon_seconds": self._setup.job.loop.survival_seconds,
            "num_starts": self._setup.job.loop.num_starts,
            "mpjpe_global": numbers["error_body_world"],
            "mpjpe_root_relative": numbers["error_body_root"],
            "mpjpe_anchored": numbers["error_body_anchored"],
            "joint_error": numbers["error_joint"],
            "clips_completed": float(np.mean(whole.survived[:count])),
            "clips": per_clip,
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
        return Verdict(final, tracks)

    def _whole_clips(self, learner: Learner) -> tuple[Trials, Track]:
        loaded, copies = self._setup.loaded, self._setup.job.loop.num_starts
        count = len(loaded.clips)
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
