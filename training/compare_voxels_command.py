"""`hardlight compare voxels`: the flags, and what they ask for."""

import dataclasses
from typing import Annotated, ClassVar, Literal

import tyro

from . import compare_flags, resume_flags
from .flag_types import Assignments, OptionalFloat, OptionalInt, OptionalStr
from .voxels_command import VoxelsCommand

_POINTS = 12
"""Points of a curve, unless loop.image_every is given."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareVoxelsCommand:
    """Shapes the same block world with several camera samplers at equal steps, and reports.

    Every sampler gets the same world, pictures, steps and seeds. The report says plainly who wins,
    loses, or makes no clear difference.
    """

    examples: ClassVar[str] = """
  hardlight compare voxels --seeds 3
  hardlight compare voxels --map map.json --cameras metadata.json --samplers uniform,views
  hardlight compare voxels --resume runs/compare-voxels"""

    map: OptionalStr = None
    """As for hardlight voxels."""
    cameras: OptionalStr = None
    """As for hardlight voxels."""
    guidance: Annotated[
        Literal["target", "mixture"] | None,
        tyro.conf.arg(metavar="{target,mixture}", help_behavior_hint=""),
    ] = None
    """What pulls at the pictures; only what has a truth can be compared."""
    samplers: str = "uniform,views_rounds,views"
    """Names with commas between; the first is the baseline. LABEL=NAME gives one a name of its own,
    so that the same sampler can be there with several settings."""
    seeds: int = 1
    """Runs per sampler; seeds are paired. Three or more tell chance from merit."""
    steps: OptionalInt = None
    """Training steps of every run. Default: 1200 from fog, 800 from a map."""
    views: OptionalInt = None
    """As for hardlight voxels."""
    size: OptionalInt = None
    """As for hardlight voxels."""
    target: OptionalFloat = None
    """PSNR whose first crossing is timed. Default: the highest that every run reaches."""
    seed: OptionalInt = None
    """The first seed. Default 0."""
    set_: Annotated[Assignments, tyro.conf.arg(name="set")] = ()
    """Any other setting, as for hardlight voxels; LABEL:NAME=VALUE sets one sampler's option."""
    out: OptionalStr = None
    """Folder for the results. Default: runs/compare-voxels, with a number when taken."""
    resume: OptionalStr = None
    """Go on with the comparison in this folder; finished runs are kept."""
    workers: int = 1
    """Runs done side by side, each with its share of the cores, or a GPU of its own. Runs of one
    seed are done in turn by one worker, so that times compare."""

    def run(self) -> int:
        """Compares, or goes on comparing."""
        resume_flags.refuse_others(self, besides=("workers", "out"), what="comparison")
        compare_flags.split_options(compare_flags.sampler_names(self.samplers), self.set_)
        return compare_flags.run(
            self._comparisons,
            resume=self.resume,
            out=self.out,
            name="compare-voxels",
            workers=self.workers,
        )

    def _comparisons(self):
        from . import voxels_options
        from .compare_config import VoxelsComparison

        names = compare_flags.sampler_names(self.samplers)
        shared, _ = compare_flags.split_options(names, self.set_)
        base = voxels_options.build(
            VoxelsCommand(
                map=self.map,
                cameras=self.cameras,
                guidance=self.guidance,
                steps=self.steps,
                views=self.views,
                size=self.size,
                seed=self.seed,
                set_=shared,
            )
        )
        if not any(word.startswith("loop.image_every=") for word in shared):
            every = max(1, base.train.num_steps // _POINTS)
            base = dataclasses.replace(base, loop=dataclasses.replace(base.loop, image_every=every))
        comparison = VoxelsComparison(
            base=base,
            samplers=compare_flags.samplers(self.samplers, self.set_),
            num_seeds=self.seeds,
            target=self.target,
        )
        return {"world": (comparison, {})}
