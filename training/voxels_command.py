"""`hardlight voxels`: the flags, and what they ask for."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import tyro

from . import config_json, resume_flags, runtime
from .flag_types import Assignments, OptionalInt, OptionalStr

GuidanceChoice = Annotated[
    Literal["target", "mixture", "tiny", "sdxl"] | None,
    tyro.conf.arg(metavar="{target,mixture,tiny,sdxl}", help_behavior_hint=""),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class VoxelsCommand:
    """Shapes a block world until its pictures look as they should, and exports it.

    Without flags it hides a procedural world, and rebuilds it from eight pictures.
    Everything lands in one folder: report.html, summary.json, map_optimized.json, checkpoints.
    """

    examples: ClassVar[str] = """
  hardlight voxels
  hardlight voxels --map map.json --cameras metadata.json --steps 500
  hardlight voxels --cameras metadata.json --set world.shape=[48,16,48] world.scale=2
  hardlight voxels --guidance mixture --sampler views
  hardlight voxels --guidance tiny --prompt "snow towers"
  hardlight voxels --map map.json --guidance sdxl --prompt "a castle in the snow"
  hardlight voxels --map castle.vox --palette palette.json --want Brick=0.7 --steps 300
  hardlight voxels --map map.json --check-gradients
  hardlight voxels --resume runs/voxels-target"""

    map: OptionalStr = None
    """A map to start from: map.json, .vox, .schem or .schematic. Default: a procedural world to
    find again."""
    palette: OptionalStr = None
    """A palette.json with the materials of the map. Default: the terrain's seven."""
    cameras: OptionalStr = None
    """A metadata.json with posed pictures. Default: cameras that circle the world. Without --map
    the pictures are all that is known: the world begins as fog of --set world.shape=[X,Y,Z] cells
    with sides of world.scale metres, its floor centred at the origin."""
    guidance: GuidanceChoice = None
    """What pulls at the pictures: target (posed pictures), mixture (a closed-form denoiser of
    them), tiny (our own small denoiser, trained at first use), sdxl (needs its weights)."""
    prompt: OptionalStr = None
    """What tiny (words out of lake, snow, hills, towers) or sdxl (any text) should make of the
    world, which is then the start, not the goal."""
    sampler: OptionalStr = None
    """Which cameras to look from: views_rounds (default), views, views_farthest, uniform,
    error_weighted."""
    sampler_option: Assignments = ()
    """Settings of the sampler, NAME=VALUE; a wrong NAME lists the right ones."""
    want: Assignments = ()
    """Shares of materials among the blocks, NAME=SHARE; the others share the rest as they did.
    Sets losses.distribution=1 and losses.material_entropy=0.5 unless --set says otherwise."""
    stack: Assignments = ()
    """Rewards for one block on another, BELOW/ABOVE=REWARD, Air being one. Sets
    losses.adjacency=1 and losses.material_entropy=0.5 unless --set says otherwise."""
    steps: OptionalInt = None
    """Training steps; also the length of the schedules. Default 1200 from fog, 800 from a map."""
    views: OptionalInt = None
    """Cameras around the world, where no file gives them. Default 8."""
    size: OptionalInt = None
    """Side of the pictures in pixels, where no file gives it. Default 64."""
    seed: OptionalInt = None
    """Fixes every random choice of the run. Default 0."""
    set_: Annotated[Assignments, tyro.conf.arg(name="set")] = ()
    """Any other setting, NAME=VALUE, e.g. losses.sparsity=0.01; names are those of config.json,
    of its train section or beginning with world., guidance. or loop."""
    out: OptionalStr = None
    """Folder for the results. Default: runs/voxels-GUIDANCE, with a number when taken."""
    resume: OptionalStr = None
    """Go on with the run in this folder, exactly where its last checkpoint is."""
    check_gradients: bool = False
    """Instead of training, write gradient_report.json about the start and print it."""

    def run(self) -> int:
        """Trains, goes on training, or checks gradients."""
        self._check()
        runtime.prepare()
        from . import voxels_job, voxels_options

        if self.resume is not None:
            voxels_job.resume(self.resume)
        elif self.check_gradients:
            voxels_job.check_gradients(voxels_options.build(self), out=self.out)
        else:
            voxels_job.start(voxels_options.build(self), out=self.out)
        return 0

    def _check(self) -> None:
        """Refuses what needs no JAX to be refused."""
        resume_flags.refuse_others(self)
        if self.cameras is not None and self.map is None:
            self._check_pictures_alone()
        if self.cameras is not None and (self.views is not None or self.size is not None):
            raise ValueError("--views and --size are for pictures made here; --cameras has its own")
        fixed = [name for name in ("shape", "scale") if _sets(self.set_, f"world.{name}")]
        if self.map is not None and fixed:
            raise ValueError(f"world.{fixed[0]} follows from --map {self.map}")
        has_source = self.map is not None or self.cameras is not None
        if self.palette is not None and (not has_source or self.guidance == "tiny"):
            raise ValueError(
                "--palette belongs to a --map or --cameras; tiny knows the terrain only"
            )
        for name, value in (("steps", self.steps), ("views", self.views), ("size", self.size)):
            if value is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1, got {value}")
        config_json.parse_assignments(self.set_, "--set")
        config_json.parse_assignments(self.sampler_option, "--sampler-option")
        config_json.parse_assignments(self.want, "--want")
        config_json.parse_assignments(self.stack, "--stack")

    def _check_pictures_alone(self) -> None:
        if self.guidance not in (None, "target", "mixture"):
            raise ValueError(f"{self.guidance} shapes a --map; pictures alone guide by target")
        if not _sets(self.set_, "world.shape"):
            raise ValueError(
                "--cameras without --map needs the size of the world: --set world.shape=[X,Y,Z]"
            )


def _sets(assignments: Sequence[str], name: str) -> bool:
    return any(word.partition("=")[0] == name for word in assignments)
