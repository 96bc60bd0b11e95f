"""What a comparison was asked to do; `compare.json` is this, and reads back to it."""

import dataclasses
from typing import Literal

from .nerf_config import NerfJob, SamplerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class NerfComparison:
    """The same job with several samplers, each with the same seeds.

    Attributes:
      base: everything the runs share; its sampler and seed are replaced.
      samplers: the first is the baseline that the others are measured against.
      num_seeds: runs per sampler, with seeds base.seed, base.seed + 1, ...
      target: PSNR whose first crossing is timed; None: the best one that every run reaches.
    """

    job: Literal["compare nerf"] = "compare nerf"
    base: NerfJob
    samplers: tuple[SamplerConfig, ...]
    num_seeds: int = 1
    target: float | None = None

    def __post_init__(self):
        """Refuses comparisons of nothing with nothing."""
        names = [sampler.name for sampler in self.samplers]
        if len(names) < 2 or len(set(names)) != len(names):
            raise ValueError(
                f"a comparison needs two or more different samplers, got {', '.join(names)}"
            )
        if self.num_seeds < 1:
            raise ValueError(f"seeds must be at least 1, got {self.num_seeds}")

    def runs(self) -> tuple[NerfJob, ...]:
        """All runs in the order they are done.

        Seed by seed, and in turning order of samplers, so that a machine that grows slower or
        faster does not favour one of them.
        """
        found = []
        for index in range(self.num_seeds):
            turn = index % len(self.samplers)
            for sampler in self.samplers[turn:] + self.samplers[:turn]:
                found.append(
                    dataclasses.replace(self.base, sampler=sampler, seed=self.base.seed + index)
                )
        return tuple(found)


def run_name(job: NerfJob) -> str:
    """Folder of a run within the comparison's folder."""
    return f"{job.sampler.name}/seed-{job.seed}"
