"""What a comparison was asked to do; `compare.json` is this, and reads back to it."""

import dataclasses
from typing import Any, Literal, TypeVar

from .nerf_config import NerfJob, SamplerConfig

Job = TypeVar("Job")


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
        check_compared(self.samplers, self.num_seeds)

    def runs(self) -> tuple[NerfJob, ...]:
        """All runs in the order they are done.

        Seed by seed, and in turning order of samplers, so that a machine that grows slower or
        faster does not favour one of them.
        """
        return paired_runs(self.base, self.samplers, self.num_seeds)


def paired_runs(base: Job, samplers: tuple[SamplerConfig, ...], num_seeds: int) -> tuple[Job, ...]:
    """The base job with every sampler and seed: seed by seed, samplers in turning order."""
    found = []
    for index in range(num_seeds):
        turn = index % len(samplers)
        for sampler in samplers[turn:] + samplers[:turn]:
            found.append(dataclasses.replace(base, sampler=sampler, seed=base.seed + index))  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
    return tuple(found)


def check_compared(samplers: tuple[SamplerConfig, ...], num_seeds: int) -> None:
    """Raises ValueError for a comparison of nothing with nothing."""
    names = [sampler.name for sampler in samplers]
    if len(names) < 2 or len(set(names)) != len(names):
        raise ValueError(
            f"a comparison needs two or more different samplers, got {', '.join(names)}"
        )
    if num_seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {num_seeds}")


def run_name(job: Any) -> str:
    """Folder of a run within the comparison's folder."""
    return f"{job.sampler.name}/seed-{job.seed}"
