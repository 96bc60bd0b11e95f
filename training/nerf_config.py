"""Everything a radiance-field run was asked to do; `config.json` is this, and reads back to it."""

import dataclasses
import math
from typing import Any, Literal

from nerf.train_step import NerfConfig

from .config_json import BEFORE
from .sampler_config import SamplerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """Which images. `num_train`, `num_test`, `size` and `seed` are for synthetic scenes only.

    Without a `downscale` the reader chooses: photographs are halved until no side is longer than
    `longest_side`.
    """

    data: str
    downscale: float | None = None
    longest_side: int = 1600
    train_views: int | None = None
    """Learn from so many of a folder's training images, evenly spread; None takes all."""
    holdout: int = 8
    """Every so many views is for testing, where a folder lists no split."""
    with_depth: bool = False
    """Also read depth that was not measured: the points of a COLMAP model."""
    depth_scale: float | None = dataclasses.field(default=None, metadata={BEFORE: None})
    """Length of one stored unit of the depth maps, in the unit of the poses (metres); None takes
    what the files say, else a millimetre for integers and 1 for floats."""
    num_train: int = 40
    num_test: int = 8
    size: int = 100
    seed: int = 0

    def __post_init__(self):
        """Refuses sizes that no reader takes."""
        if self.downscale is not None and not self.downscale >= 1.0:
            raise ValueError(f"downscale must be at least 1, got {self.downscale}")
        if self.depth_scale is not None and not self.depth_scale > 0:
            raise ValueError(f"depth_scale must be positive, got {self.depth_scale}")
        if self.longest_side < 1:
            raise ValueError(f"longest_side must be at least 1, got {self.longest_side}")
        if self.holdout < 2:
            raise ValueError(f"holdout must be at least 2, got {self.holdout}")
        if self.train_views is not None and self.train_views < 1:
            raise ValueError(f"train_views must be at least 1, got {self.train_views}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How the loop logs, saves and looks at its progress."""

    seconds: float | None = None
    """Stop after so many seconds of training (compilation and evaluation not counted)."""
    fill_seconds: bool = False
    """Make as many steps as fit into `seconds`, whatever train.num_steps says; the learning rate
    then falls to the end of the seconds."""
    log_every: int = 16
    """Steps between two rows of metrics."""
    checkpoint_seconds: float = 60.0
    num_evaluations: int = 10
    """Points on the held-out curve, at steps that grow geometrically."""
    first_evaluation: float = 1.0 / 24.0
    """Share of the run at which the first one comes."""
    eval_rays: int = 20000
    """Held-out pixels per point of the curve: a regular lattice over all held-out views."""
    rays_per_chunk: int = 4096

    def __post_init__(self):
        """Refuses empty loops."""
        for name in ("log_every", "num_evaluations", "eval_rays", "rays_per_chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(f"seconds must be positive, got {self.seconds}")
        if self.fill_seconds and self.seconds is None:
            raise ValueError("fill_seconds needs seconds to fill")
        if not self.checkpoint_seconds > 0 or not 0 < self.first_evaluation <= 1:
            raise ValueError(
                "checkpoint_seconds must be positive and first_evaluation in (0, 1], "
                f"got {self.checkpoint_seconds} and {self.first_evaluation}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputConfig:
    """What is made at the end."""

    num_pictures: int = 4
    """Held-out views shown beside the truth."""
    video_frames: int = 48
    """Frames of the orbit; 0 for no video."""
    video_size: int = 200
    """Longest side of the video at most, in pixels."""
    lpips: Literal["alex", "vgg"] | None = None
    """Also give the perceptual distance LPIPS of the held-out views, by this network; needs the
    extra `lpips` and the network's weights, see `perceptual`."""
    lpips_weights: str | None = None
    """File of those weights; None looks where torchvision keeps its downloads."""

    def __post_init__(self):
        """Refuses negative counts."""
        if self.num_pictures < 0 or self.video_frames < 0 or self.video_size < 16:
            raise ValueError(
                "num_pictures and video_frames must not be negative and video_size at least 16, "
                f"got {self.num_pictures}, {self.video_frames} and {self.video_size}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NerfJob:
    """One run."""

    job: Literal["nerf"] = "nerf"
    seed: int = 0
    scene: SceneConfig
    sampler: SamplerConfig = SamplerConfig()
    train: NerfConfig = NerfConfig()
    loop: LoopConfig = LoopConfig()
    outputs: OutputConfig = OutputConfig()

    def __post_init__(self):
        """Refuses seeds and step counts that do not fit."""
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be in [0, 2^31), got {self.seed}")
        per_call = self.train.steps_per_call
        if self.train.num_steps % per_call or self.loop.log_every % per_call:
            raise ValueError(
                "train.num_steps and loop.log_every must be multiples of train.steps_per_call, "
                f"got {self.train.num_steps}, {self.loop.log_every} and {per_call}"
            )


def evaluation_steps(loop: LoopConfig, total: int) -> tuple[int, ...]:
    """Steps after which the held-out curve gets a point; the last step is always one."""
    every = loop.log_every
    found = {total}
    for index in range(loop.num_evaluations - 1):
        share = index / max(1, loop.num_evaluations - 1)
        step = total * math.exp(math.log(loop.first_evaluation) * (1.0 - share))
        found.add(min(total, max(every, round(step / every) * every)))
    return tuple(sorted(found))


def describe(job: NerfJob) -> dict[str, Any]:
    """The few facts that tell runs apart."""
    return {
        "data": job.scene.data,
        "sampler": job.sampler.name,
        "steps": job.train.num_steps,
        "rays": job.train.rays_per_step,
        "seed": job.seed,
    }
