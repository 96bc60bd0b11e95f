"""What `--task` stands for: terms, noise, starts and settings of learning."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from motion import rewards, terminations
from motion.env import EnvConfig
from motion.networks import NetworkConfig
from motion.ppo import PpoConfig
from motion.rewards import RewardTerm
from motion.starts import DEFAULT
from motion.terminations import TerminationTerm
from motion.train_step import TrainConfig

from .sampler_config import SamplerConfig, SamplerOption


class MotionTask(NamedTuple):
    """A task and how it is learned.

    Attributes:
      env: terms, limits, noise.
      train: settings of an iteration.
      bin_seconds: length of the bins in which samplers count, whichever they are.
      start_options: of the default sampler, where the user gives none.
    """

    env: EnvConfig
    train: TrainConfig
    bin_seconds: float = 1.0
    start_options: tuple[SamplerOption, ...] = ()

    def sampler(self, wanted: SamplerConfig) -> SamplerConfig:
        """Adds the task's options to the default sampler, where it has none of its own."""
        if wanted.name != DEFAULT:
            return wanted
        given = {option.name for option in wanted.options}
        added = tuple(option for option in self.start_options if option.name not in given)
        return dataclasses.replace(wanted, options=(*added, *wanted.options))


def quick(is_large: bool) -> MotionTask:
    """For minutes.

    Actions around the clip's torques, a fifth of the noise, no pushes, larger steps and less
    exploration than published. Thousands of copies learn from shorter rollouts, of which there are
    more, and can afford to begin with larger steps.
    """
    env = EnvConfig(
        action_centre="feedforward",
        action_scale=None,
        observation_noise=0.2,
        start_noise=0.2,
        randomisation=0.0,
        push_seconds=None,
    )
    ppo = PpoConfig(
        learning_rate=1e-3 if is_large else 3e-4,
        least_learning_rate=1e-4,
        desired_kl=0.02,
        entropy_weight=0.002,
        network=NetworkConfig(initial_std=0.6),
    )
    return MotionTask(env, TrainConfig(num_steps=12 if is_large else 24, ppo=ppo))


def agile(is_large: bool) -> MotionTask:
    """For clips that leave the floor or ask for more than motors have.

    `quick`, but for exploration noise that steps share, velocities that are paid for from further
    away, fast actions that cost less, limits of failure that begin wide and stay a little wide,
    starts up to 0.7 s before the bins that fail and those that lead to them, handed back to uniform
    in the end, rollouts of a second, and learning rates that may fall lower.
    """
    plain = quick(is_large)
    ppo = dataclasses.replace(plain.train.ppo, noise_steps=5, least_learning_rate=3e-5)
    return MotionTask(
        env=dataclasses.replace(
            plain.env, reward_terms=_agile_rewards(), termination_terms=_limits(1.2)
        ),
        train=dataclasses.replace(
            plain.train,
            num_steps=2 * plain.train.num_steps,
            handback_iteration=350,
            first_leniency=1.7,
            lenient_iterations=200,
            ppo=ppo,
        ),
        bin_seconds=0.25,
        start_options=(
            SamplerOption(name="exponent", value=3.0),
            SamplerOption(name="stuck_share", value=1.0),
            SamplerOption(name="uniform_fraction", value=0.05),
            SamplerOption(name="look_back_frames", value=35),
        ),
    )


def published(is_large: bool) -> MotionTask:
    """As published, for thousands of copies and hours, its networks included."""
    del is_large
    train = TrainConfig(ppo=PpoConfig(network=NetworkConfig(hidden=(512, 256, 128))))
    return MotionTask(EnvConfig(action_centre="default", action_scale=None), train)


TASKS: dict[str, Callable[[bool], MotionTask]] = {
    "quick": quick,
    "agile": agile,
    "published": published,
}


def _agile_rewards() -> tuple[RewardTerm, ...]:
    changed = {
        "body_linear_velocity": RewardTerm(name="body_linear_velocity", weight=3.0, std=2.0),
        "action_rate": RewardTerm(name="action_rate", weight=-0.02),
    }
    return tuple(changed.get(term.name, term) for term in rewards.REWARDS)


def _limits(factor: float) -> tuple[TerminationTerm, ...]:
    return tuple(
        dataclasses.replace(term, limit=factor * term.limit) for term in terminations.TERMINATIONS
    )
