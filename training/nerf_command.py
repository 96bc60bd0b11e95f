"""`hardlight nerf`: the flags, and what they ask for."""

import dataclasses
from typing import Annotated, ClassVar, Literal

import tyro

from . import config_json, runtime
from .device_flags import DeviceFlags
from .flag_types import Assignments, OptionalFloat, OptionalInt, OptionalStr

BackgroundChoice = Annotated[
    Literal["white", "black", "random"] | None,
    tyro.conf.arg(metavar="{white,black,random}", help_behavior_hint=""),
]
PresetChoice = Annotated[
    Literal["auto", "cpu", "gpu"] | None,
    tyro.conf.arg(metavar="{auto,cpu,gpu}", help_behavior_hint=""),
]
DepthChoice = Annotated[
    Literal["plain", "soft", "hard", "hybrid"] | None,
    tyro.conf.arg(metavar="{plain,soft,hard,hybrid}", help_behavior_hint=""),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NerfCommand:
    """Trains a radiance field on posed images, evaluates it on held-out views, and saves it.

    Everything lands in one folder: report.html to look at, summary.json to compute with,
    checkpoints to go on from.
    """

    examples: ClassVar[str] = """
  hardlight nerf --data synthetic:blocks --seconds 60
  hardlight nerf --data lego/ --sampler error_weighted --sampler-option decay=0.9
  hardlight nerf --data lego/ --steps 5000 --set field.hidden_width=64 marching.budget=131072
  hardlight nerf --data scan/ --depth hybrid --views 6
  hardlight nerf --data lego/ --devices all
  hardlight nerf --resume runs/lego-error_map"""

    data: OptionalStr = None
    """Folder of posed images (Blender, nerfstudio, LLFF, COLMAP, RGB-D or KLEVR layout), its
    transforms.json, or synthetic:NAME."""
    sampler: OptionalStr = None
    """Which rays to learn from: error_map (default), uniform, spatial, ..."""
    sampler_option: Assignments = ()
    """Settings of the sampler, NAME=VALUE; a wrong NAME lists the right ones."""
    depth: DepthChoice = None
    """What known depth is used for: nothing (plain, default), a loss (soft), where samples go and
    losses about the surface (hard), or both (hybrid). A COLMAP model's points count as depth."""
    depth_scale: OptionalFloat = None
    """Metres (the unit of the poses) per stored unit of the depth maps, e.g. 0.0002 for TUM's
    1/5000. Default: what the files say, else a millimetre for integers and 1 for floats."""
    steps: OptionalInt = None
    """Training steps; also the length of the learning-rate schedule. Default: the preset's."""
    seconds: OptionalFloat = None
    """Train for so many seconds (compilation and evaluation not counted), with as many steps as fit
    into them unless --steps says fewer."""
    rays: OptionalInt = None
    """Rays per step. Default: the preset's."""
    seed: OptionalInt = None
    """Fixes every random choice of the run. Default 0."""
    background: BackgroundChoice = None
    """Behind transparent pixels in training. Default random; evaluation then uses the scene's."""
    holdout: OptionalInt = None
    """Every so many views of a folder is held out, where it lists no split. Default 8."""
    downscale: OptionalFloat = None
    """Divide the images' sides by this."""
    size: OptionalInt = None
    """Side of the images of a synthetic scene, in pixels. Default 100."""
    views: OptionalInt = None
    """Training views: of a synthetic scene (default 40), or so many of a folder's."""
    preset: PresetChoice = None
    """Settings by machine; auto takes gpu when JAX finds an accelerator."""
    set_: Annotated[Assignments, tyro.conf.arg(name="set")] = ()
    """Any other setting of the run, NAME=VALUE, e.g. optimizer.learning_rate=0.005; names are
    those of config.json, of its train section or beginning with loop. or outputs."""
    out: OptionalStr = None
    """Folder for the results. Default: runs/SCENE-SAMPLER, with a number when taken."""
    resume: OptionalStr = None
    """Go on with the run in this folder, exactly where its last checkpoint is."""
    fast_atomics: bool = False
    """On CUDA with jaxlib 0.10.2 or 0.11.0: pass XLA the flag that restores fast scatter-add."""
    machines: tyro.conf.OmitArgPrefixes[DeviceFlags] = DeviceFlags()

    def run(self) -> int:
        """Trains, or goes on training."""
        self._check()
        runtime.prepare(fast_atomics=self.fast_atomics, joining=self.machines.joining())
        from . import devices, nerf_job, nerf_options, processes

        mesh = devices.choose(self.machines.devices)
        if self.resume is not None:
            nerf_job.resume(self.resume, asked=self, mesh=mesh)
        else:
            with processes.together():
                nerf_options.check_scene_flags(self)
                scene = nerf_options.load(self)
                job = nerf_options.build(self, scene.train.kind)
            nerf_job.start(job, out=self.out, scene=scene, mesh=mesh)
        return 0

    def _check(self) -> None:
        """Refuses what needs no JAX to be refused."""
        if (self.data is None) == (self.resume is None):
            raise ValueError("say either --data FOLDER, to start a run, or --resume RUN")
        if self.resume is not None and self.out is not None:
            raise ValueError("--resume writes into the run's own folder; leave out --out")
        for name, value in (("steps", self.steps), ("rays", self.rays), ("views", self.views)):
            if value is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1, got {value}")
        self.machines.joining()
        config_json.parse_assignments(self.set_, "--set")
        config_json.parse_assignments(self.sampler_option, "--sampler-option")
