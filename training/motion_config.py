"""Everything a motion run was asked to do; `config.json` is this, and reads back to it."""

import dataclasses
from typing import Literal

from motion.env import EnvConfig
from motion.formats.clip_files import ReadOptions
from motion.physics import PhysicsName
from motion.train_step import TrainConfig

from .sampler_config import SamplerConfig

BUILTIN = "builtin:"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MotionSource:
    """Which robot and which clips."""

    robot: str = "humanoid"
    """humanoid, g1, or the path of an MJCF file."""
    clips: tuple[str, ...] = ("builtin:squat", "builtin:step")
    """Files, builtin:NAME, or one manifest ending in .json."""
    read: ReadOptions = ReadOptions()

    def __post_init__(self):
        """Refuses a run without a motion."""
        if not self.clips:
            raise ValueError("needs at least one clip")
        manifests = [clip for clip in self.clips if clip.endswith(".json")]
        if manifests and len(self.clips) > 1:
            raise ValueError(f"a manifest stands alone, got {', '.join(self.clips)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MotionLoop:
    """How the loop stops, logs, saves and looks at its progress."""

    num_iterations: int | None = None
    """Stop after so many iterations."""
    seconds: float | None = 300.0
    """Stop after so many seconds of training (compilation and evaluation not counted)."""
    log_every: int = 5
    evaluate_every: int = 20
    """Iterations between two evaluations; the first and last iteration have one."""
    num_starts: int = 64
    """Starts tried per evaluation."""
    survival_seconds: float = 2.0
    """A start counts as survived when the robot still tracks after so long."""
    checkpoint_seconds: float = 60.0
    video_frames: int = 150
    """Frames of the video at the end; 0: none."""

    def __post_init__(self):
        """Refuses empty and endless loops."""
        for name in ("log_every", "evaluate_every", "num_starts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.num_iterations is None and self.seconds is None:
            raise ValueError("needs a number of iterations, of seconds, or both")
        if self.num_iterations is not None and self.num_iterations < 1:
            raise ValueError(f"num_iterations must be at least 1, got {self.num_iterations}")
        for name in ("survival_seconds", "checkpoint_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(f"seconds must be positive, got {self.seconds}")
        if self.video_frames < 0:
            raise ValueError(f"video_frames must not be negative, got {self.video_frames}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MotionJob:
    """One run."""

    job: Literal["motion"] = "motion"
    seed: int = 0
    source: MotionSource = MotionSource()
    physics: PhysicsName = "c"
    num_envs: int = 256
    sampler: SamplerConfig = SamplerConfig(name="failure_bins")
    bin_seconds: float = 1.0
    """Length of the bins the sampler counts."""
    env: EnvConfig = EnvConfig()
    train: TrainConfig = TrainConfig()
    loop: MotionLoop = MotionLoop()

    def __post_init__(self):
        """Refuses seeds and sizes that do not fit."""
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be in [0, 2^31), got {self.seed}")
        if self.num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {self.num_envs}")
        if not self.bin_seconds > 0:
            raise ValueError(f"bin_seconds must be positive, got {self.bin_seconds}")
        samples = self.num_envs * self.train.num_steps
        if samples % self.train.ppo.num_minibatches:
            raise ValueError(
                f"{self.num_envs} environments x {self.train.num_steps} steps do not divide into "
                f"{self.train.ppo.num_minibatches} minibatches"
            )
