"""`hardlight compare nerf`: the flags, and what they ask for."""

import dataclasses
from typing import Annotated, ClassVar

import tyro

from . import compare_flags, resume_flags
from .nerf_command import (
    Assignments,
    BackgroundChoice,
    NerfCommand,
    OptionalFloat,
    OptionalInt,
    OptionalStr,
    PresetChoice,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareNerfCommand:
    """Trains the same radiance field with several samplers at an equal budget, and reports.

    Every sampler gets the same scenes, steps, rays and seeds. The report compares them at equal
    rays and at equal seconds, and says plainly who wins, loses, or makes no clear difference.
    """

    examples: ClassVar[str] = """
  hardlight compare nerf --data synthetic:detail
  hardlight compare nerf --data lego/ --samplers uniform,error_map --seeds 3 --steps 1000
  hardlight compare nerf --data lego/ fern/ synthetic:detail --seeds 5
  hardlight compare nerf --resume runs/compare-lego"""

    data: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="PATH|synthetic:NAME ...", help_behavior_hint="")
    ] = ()
    """Folders of posed images, or synthetic:NAME. Several are compared one after the other, with
    one page over all."""
    samplers: str = "uniform,error_map"
    """Names with commas between; the first is the baseline. LABEL=NAME gives one a name of its own,
    so that the same sampler can be there with several settings."""
    seeds: int = 1
    """Runs per sampler; seeds are paired. Three or more tell chance from merit."""
    steps: OptionalInt = None
    """Training steps of every run. Default: the preset's."""
    seconds: OptionalFloat = None
    """Stop every run after so many seconds of training."""
    target: OptionalFloat = None
    """PSNR whose first crossing is timed. Default: the highest that every run reaches."""
    rays: OptionalInt = None
    """Rays per step. Default: the preset's."""
    seed: OptionalInt = None
    """The first seed. Default 0."""
    background: BackgroundChoice = None
    """Behind transparent pixels in training. Default random."""
    downscale: OptionalFloat = None
    """Divide the images' sides by this."""
    size: OptionalInt = None
    """Side of the images of a synthetic scene, in pixels. Default 100."""
    views: OptionalInt = None
    """Training views of a synthetic scene (default 40), or so many of a folder's."""
    preset: PresetChoice = None
    """Settings by machine; auto takes gpu when JAX finds an accelerator."""
    set: Assignments = ()
    """Any other setting, as for hardlight nerf; LABEL:NAME=VALUE sets one sampler's option."""
    out: OptionalStr = None
    """Folder for the results. Default: runs/compare-SCENES, with a number when taken."""
    resume: OptionalStr = None
    """Go on with the comparison in this folder; finished runs are kept."""
    workers: int = 1
    """Runs done side by side, each with its share of the cores, or a GPU of its own. Runs of one
    seed are done in turn by one worker, so that times compare."""

    def run(self) -> int:
        """Compares, or goes on comparing."""
        resume_flags.refuse_others(self, besides=("workers", "out"), what="comparison")
        if bool(self.data) == (self.resume is not None):
            raise ValueError("say either --data FOLDER ..., to start, or --resume COMPARISON")
        if self.size is not None and not any(name.startswith("synthetic:") for name in self.data):
            raise ValueError(
                "--size is for synthetic scenes; --downscale divides a folder's images"
            )
        compare_flags.split_options(compare_flags.sampler_names(self.samplers), self.set)
        names = compare_flags.by_name(self.data, "data")
        return compare_flags.run(
            self._comparisons,
            resume=self.resume,
            out=self.out,
            name="-".join(["compare", *names]),
            workers=self.workers,
        )

    def _comparisons(self):
        named = compare_flags.by_name(self.data, "data")
        return {name: self._comparison(data) for name, data in named.items()}

    def _comparison(self, data: str):
        from . import nerf_options
        from .compare_config import NerfComparison
        from .nerf_config import OutputConfig

        names = compare_flags.sampler_names(self.samplers)
        command = NerfCommand(
            data=data,
            steps=self.steps,
            seconds=self.seconds,
            rays=self.rays,
            seed=self.seed,
            background=self.background,
            downscale=self.downscale,
            size=self.size,
            views=self.views,
            preset=self.preset,
            set_=compare_flags.split_options(names, self.set)[0],
        )
        scene = nerf_options.load(command)
        base = nerf_options.build(command, scene.train.kind)
        comparison = NerfComparison(
            # samplers are compared at equal steps too, so none may plan its own
            base=dataclasses.replace(
                base,
                outputs=OutputConfig(num_pictures=2, video_frames=0),
                loop=dataclasses.replace(base.loop, fill_seconds=False),
                train=dataclasses.replace(base.train, track_seen=True),
            ),
            samplers=compare_flags.samplers(self.samplers, self.set),
            num_seeds=self.seeds,
            target=self.target,
        )
        return comparison, {"scene": scene}
