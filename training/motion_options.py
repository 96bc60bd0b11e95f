"""From the flags of `hardlight motion` to a job."""

from motion.env import EnvConfig
from motion.formats.clip_files import ReadOptions
from motion.networks import NetworkConfig
from motion.ppo import PpoConfig
from motion.train_step import TrainConfig

from . import config_json, runtime
from .motion_command import MotionCommand
from .motion_config import MotionJob, MotionLoop, MotionSource
from .nerf_config import SamplerConfig, SamplerOption

_DEFAULT_SECONDS = 300.0


def build(command: MotionCommand) -> MotionJob:
    """Makes the job that the flags ask for; nothing is read yet.

    Raises:
      ValueError: naming the flag or setting.
    """
    is_large, is_published = runtime.has_accelerator(), command.task == "published"
    options = config_json.parse_assignments(command.sampler_option, "--sampler-option")
    loop = MotionLoop(
        num_iterations=command.steps,
        seconds=command.seconds
        if command.seconds is not None or command.steps is not None
        else _DEFAULT_SECONDS,
    )
    plain = MotionSource()
    job = MotionJob(
        seed=command.seed or 0,
        source=MotionSource(
            robot=command.robot or plain.robot,
            clips=command.clip or plain.clips,
            read=ReadOptions(
                quaternion_order=command.quaternion_order,
                joint_order=command.joint_order,
                fps=command.fps,
            ),
        ),
        physics=command.physics or ("mjx" if is_large else "c"),
        num_envs=command.envs or (4096 if is_large else 256),
        sampler=SamplerConfig(
            name=command.sampler or "failure_bins",
            options=tuple(
                SamplerOption(name=name, value=config_json.parse_value(text))
                for name, text in options.items()
            ),
        ),
        env=published_task() if is_published else quick_task(),
        train=published_training() if is_published else quick_training(is_large),
        loop=loop,
    )
    return config_json.replace_fields(job, config_json.parse_assignments(command.set_, "--set"))


def published_task() -> EnvConfig:
    """The task as published, for thousands of copies and hours."""
    return EnvConfig(action_centre="default", action_scale=None)


def published_training() -> TrainConfig:
    """The published settings of learning, its networks included."""
    return TrainConfig(ppo=PpoConfig(network=NetworkConfig(hidden=(512, 256, 128))))


def quick_task() -> EnvConfig:
    """The task for minutes: actions around the clip's torques, a fifth of the noise, no pushes."""
    return EnvConfig(
        action_centre="feedforward",
        action_scale=None,
        observation_noise=0.2,
        start_noise=0.2,
        randomisation=0.0,
        push_seconds=None,
    )


def quick_training(is_large: bool) -> TrainConfig:
    """Larger steps, less exploration.

    Thousands of copies learn from shorter rollouts, of which there are more, and can afford to
    begin with larger steps.
    """
    ppo = PpoConfig(
        learning_rate=1e-3 if is_large else 3e-4,
        least_learning_rate=1e-4,
        desired_kl=0.02,
        entropy_weight=0.002,
        network=NetworkConfig(initial_std=0.6),
    )
    return TrainConfig(num_steps=12 if is_large else 24, ppo=ppo)
