"""`hardlight compare motion`: the flags, and what they ask for."""

import dataclasses
from typing import Annotated, ClassVar

import tyro

from . import compare_flags, resume_flags
from .flag_types import Assignments, OptionalInt, OptionalStr
from .motion_command import MotionCommand, PhysicsChoice, TaskChoice


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareMotionCommand:
    """Trains the same motions with several samplers at equal control steps, and reports.

    Every sampler gets the same clips, steps and seeds. The report says plainly who wins, loses, or
    makes no clear difference.
    """

    examples: ClassVar[str] = """
  hardlight compare motion --clip builtin:hard --steps 100 --seeds 3
  hardlight compare motion --robot g1 --clip dance.csv --samplers uniform,failure_bins,sonic
  hardlight compare motion --clip builtin:squat builtin:hard --apart --seeds 3
  hardlight compare motion --resume runs/compare-motion"""

    clip: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="PATH|builtin:NAME ...", help_behavior_hint="")
    ] = ()
    """Motions, as for hardlight motion. Default: builtin:hard."""
    apart: bool = False
    """A comparison for each clip, and one page over all, instead of one training on all clips."""
    robot: OptionalStr = None
    """As for hardlight motion."""
    samplers: str = "uniform,failure_bins"
    """Names with commas between; the first is the baseline. LABEL=NAME gives one a name of its own,
    so that the same sampler can be there with several settings."""
    seeds: int = 1
    """Runs per sampler; seeds are paired. Three or more tell chance from merit."""
    steps: int = 100
    """Iterations of every run."""
    task: TaskChoice = "quick"
    """quick (made for minutes), agile (for jumps) or published (BeyondMimic's)."""
    envs: OptionalInt = None
    """Copies of the robot."""
    physics: PhysicsChoice = None
    """As for hardlight motion."""
    target: float = 0.9
    """Share of surviving starts whose first crossing is counted."""
    seed: OptionalInt = None
    """The first seed. Default 0."""
    set_: Annotated[Assignments, tyro.conf.arg(name="set")] = ()
    """Any other setting, as for hardlight motion; LABEL:NAME=VALUE sets one sampler's option."""
    out: OptionalStr = None
    """Folder for the results. Default: runs/compare-motion, with a number when taken."""
    resume: OptionalStr = None
    """Go on with the comparison in this folder; finished runs are kept."""
    workers: int = 1
    """Runs done side by side, each with its share of the cores, or a GPU of its own. Runs of one
    seed are done in turn by one worker, so that times compare."""

    def run(self) -> int:
        """Compares, or goes on comparing."""
        resume_flags.refuse_others(self, besides=("workers", "out"), what="comparison")
        if self.steps < 1:
            raise ValueError(f"--steps must be at least 1, got {self.steps}")
        compare_flags.split_options(compare_flags.sampler_names(self.samplers), self.set_)
        return compare_flags.run(
            self._comparisons,
            resume=self.resume,
            out=self.out,
            name="compare-motion",
            workers=self.workers,
        )

    def _comparisons(self):
        from . import motion_options, motion_tasks, runtime
        from .compare_config import MotionComparison

        clips = self.clip or ("builtin:hard",)
        groups = {"together": clips}
        if self.apart:
            named = compare_flags.by_name(clips, "clips")
            groups = {name: (clip,) for name, clip in named.items()}
        names = compare_flags.sampler_names(self.samplers)
        shared, _ = compare_flags.split_options(names, self.set_)
        task = motion_tasks.TASKS[self.task](runtime.has_accelerator())
        found = {}
        for name, group in groups.items():
            base = motion_options.build(
                MotionCommand(
                    clip=group,
                    robot=self.robot,
                    task=self.task,
                    envs=self.envs,
                    physics=self.physics,
                    steps=self.steps,
                    seed=self.seed,
                    set_=shared,
                )
            )
            comparison = MotionComparison(
                base=base,
                samplers=tuple(
                    task.sampler(entry)
                    for entry in compare_flags.samplers(self.samplers, self.set_)
                ),
                num_seeds=self.seeds,
                target=self.target,
            )
            found[name] = (comparison, {})
        return found
