"""`hardlight motion`: the flags, and what they ask for."""

import dataclasses
from typing import Annotated, ClassVar, Literal

import tyro

from . import config_json, resume_flags, runtime
from .device_flags import DeviceFlags
from .flag_types import Assignments, OptionalFloat, OptionalInt, OptionalStr

TaskChoice = Annotated[
    Literal["quick", "agile", "published"],
    tyro.conf.arg(metavar="{quick,agile,published}", help_behavior_hint=""),
]
PhysicsChoice = Annotated[
    Literal["c", "mjx", "warp"] | None,
    tyro.conf.arg(metavar="{c,mjx,warp}", help_behavior_hint=""),
]
OrderChoice = Annotated[
    Literal["wxyz", "xyzw"] | None, tyro.conf.arg(metavar="{wxyz,xyzw}", help_behavior_hint="")
]
JointOrderChoice = Annotated[
    Literal["mujoco", "isaac"] | None,
    tyro.conf.arg(metavar="{mujoco,isaac}", help_behavior_hint=""),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MotionCommand:
    """Trains a humanoid to track motions, evaluates it, films it, exports it.

    Without flags the built-in humanoid learns to squat and to step in place. Everything lands in
    one folder: report.html, summary.json, images/policy.mp4, policy.onnx, checkpoints.
    """

    examples: ClassVar[str] = """
  hardlight motion
  hardlight motion --clip builtin:wave builtin:step --sampler uniform
  hardlight motion --robot g1 --clip dance.csv --seconds 1200
  hardlight motion --robot g1 --clip jump.npz --task agile --seconds 1200
  hardlight motion --clip clips.json --robot g1 --physics mjx --envs 4096
  hardlight motion --physics mjx --envs 32768 --devices all
  hardlight motion --resume runs/motion-humanoid-failure_bins"""

    clip: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="PATH|builtin:NAME ...", help_behavior_hint="")
    ] = ()
    """Motions: CSV, npz or DeepMimic text files, builtin:stand, wave, squat, step, hard, jump or
    mix, or one .json manifest. Default: builtin:squat builtin:step."""
    robot: OptionalStr = None
    """humanoid (default), g1 (needs the extra g1), or the path of an MJCF file."""
    sampler: OptionalStr = None
    """Where episodes start: failure_bins (default), uniform, beyondmimic_paper, ..."""
    sampler_option: Assignments = ()
    """Settings of the sampler, NAME=VALUE; a wrong NAME lists the right ones."""
    physics: PhysicsChoice = None
    """MuJoCo's C engine, MJX, or MuJoCo Warp (NVIDIA; needs the extra warp). Default: c on a CPU,
    mjx where JAX finds an accelerator."""
    task: TaskChoice = "quick"
    """quick: made for minutes, actions around the clip's torques, little noise, no pushes.
    agile: for clips that jump or ask for more than motors have.
    published: BeyondMimic's, for thousands of copies and hours."""
    envs: OptionalInt = None
    """Copies of the robot. Default: 256, or 4096 on an accelerator."""
    seconds: OptionalFloat = None
    """Stop after so many seconds of training (compilation and evaluation not counted). Default
    300, unless --steps is given."""
    steps: OptionalInt = None
    """Stop after so many iterations, each of 24 control steps of every copy (12 on an accelerator,
    where the published task keeps 24); of the agile task, twice as many."""
    seed: OptionalInt = None
    """Fixes every random choice of the run. Default 0."""
    quaternion_order: OrderChoice = None
    """How CSV files write quaternions. Default: detected."""
    joint_order: JointOrderChoice = None
    """Order of the joints in npz files without names."""
    fps: OptionalFloat = None
    """Frames per second, overruling the file."""
    set_: Annotated[Assignments, tyro.conf.arg(name="set")] = ()
    """Any other setting, NAME=VALUE, e.g. train.ppo.learning_rate=1e-4 or env.start_noise=0.5;
    names as in config.json."""
    out: OptionalStr = None
    """Folder for the results. Default: runs/motion-ROBOT-SAMPLER, with a number when taken."""
    resume: OptionalStr = None
    """Go on with the run in this folder, exactly where its last checkpoint is."""
    machines: tyro.conf.OmitArgPrefixes[DeviceFlags] = DeviceFlags()

    def run(self) -> int:
        """Trains, or goes on training."""
        self._check()
        runtime.prepare(joining=self.machines.joining())
        from . import devices, motion_job, motion_options

        mesh = devices.choose(self.machines.devices)
        if self.resume is not None:
            motion_job.resume(self.resume, mesh=mesh)
        else:
            motion_job.start(motion_options.build(self), out=self.out, mesh=mesh)
        return 0

    def _check(self) -> None:
        """Refuses what needs no JAX to be refused."""
        resume_flags.refuse_others(self, besides=("machines",))
        self.machines.joining()
        for name, value in (("steps", self.steps), ("envs", self.envs)):
            if value is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1, got {value}")
        config_json.parse_assignments(self.set_, "--set")
        config_json.parse_assignments(self.sampler_option, "--sampler-option")
