"""What a comparison was asked to do; `compare.json` is this, and reads back to it."""

import dataclasses
from typing import Any, Literal

from .motion_config import MotionJob
from .nerf_config import NerfJob
from .sampler_config import SamplerConfig
from .voxels_config import VoxelsJob

CONFIG_NAME = "compare.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """The same job with several samplers, each with the same seeds.

    Attributes:
      job: what is compared; names an entry of `compare_kinds`.
      base: everything the runs share; its sampler and seed are replaced.
      samplers: the first is the baseline that the others are measured against.
      num_seeds: runs per sampler, with seeds base.seed, base.seed + 1, ...
      target: value of the curve whose first crossing is counted; None: the best one that every
        run reaches.
    """

    job: str
    base: Any
    samplers: tuple[SamplerConfig, ...]
    num_seeds: int = 1
    target: float | None = None

    def __post_init__(self):
        """Refuses comparisons of nothing with nothing."""
        names = [sampler.title for sampler in self.samplers]
        if len(names) < 2 or len(set(names)) != len(names):
            raise ValueError(
                f"a comparison needs two or more different samplers, got {', '.join(names)}"
            )
        if self.num_seeds < 1:
            raise ValueError(f"seeds must be at least 1, got {self.num_seeds}")

    def runs(self) -> tuple[Any, ...]:
        """All runs in the order they are done.

        Seed by seed, and in turning order of samplers, so that a machine that grows slower or
        faster does not favour one of them.
        """
        found = []
        for index in range(self.num_seeds):
            turn = index % len(self.samplers)
            for sampler in self.samplers[turn:] + self.samplers[:turn]:
                seed = self.base.seed + index
                found.append(dataclasses.replace(self.base, sampler=sampler, seed=seed))
        return tuple(found)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NerfComparison(Comparison):
    """Radiance fields; the curve is held-out PSNR."""

    job: Literal["compare nerf"] = "compare nerf"
    base: NerfJob


@dataclasses.dataclass(frozen=True, kw_only=True)
class VoxelsComparison(Comparison):
    """Block worlds; the curve is the PSNR of the fixed views."""

    job: Literal["compare voxels"] = "compare voxels"
    base: VoxelsJob


@dataclasses.dataclass(frozen=True, kw_only=True)
class MotionComparison(Comparison):
    """Motions; the curve is the share of starts that survive."""

    job: Literal["compare motion"] = "compare motion"
    base: MotionJob
    target: float | None = 0.9

    def __post_init__(self):
        """Refuses what cannot be compared, too."""
        super().__post_init__()
        if self.base.loop.num_iterations is None or self.base.loop.seconds is not None:
            raise ValueError("a comparison is at equal steps: give --steps and no --seconds")
        if self.target is not None and not 0 < self.target <= 1:
            raise ValueError(f"target must be in (0, 1], got {self.target}")


def run_name(job: Any) -> str:
    """Folder of a run within the comparison's folder."""
    return f"{job.sampler.title}/seed-{job.seed}"
