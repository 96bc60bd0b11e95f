"""From the flags of `hardlight motion` to a job."""

from motion import starts
from motion.formats.clip_files import ReadOptions

from . import config_json, motion_tasks, runtime, sampler_config
from .motion_command import MotionCommand
from .motion_config import MotionJob, MotionLoop, MotionSource

_DEFAULT_SECONDS = 300.0


def build(command: MotionCommand) -> MotionJob:
    """Makes the job that the flags ask for; nothing is read yet.

    Raises:
      ValueError: naming the flag or setting.
    """
    is_large = runtime.has_accelerator()
    task = motion_tasks.TASKS[command.task](is_large)
    options = config_json.parse_assignments(command.sampler_option, "--sampler-option")
    settings = config_json.parse_assignments(command.set_, "--set")
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
        sampler=task.sampler(
            sampler_config.typed(
                settings.get("sampler.name", command.sampler or starts.DEFAULT), options
            )
        ),
        bin_seconds=task.bin_seconds,
        env=task.env,
        train=task.train,
        loop=loop,
    )
    return config_json.replace_fields(job, settings)
