"""Everything a block-world run was asked to do; `config.json` is this, and reads back to it."""

import dataclasses
from typing import Literal

from voxels.guidance.distillation import DistillationConfig
from voxels.guidance.sdxl import SdxlConfig
from voxels.train_step import TrainConfig

from .sampler_config import SamplerConfig

GuidanceName = Literal["target", "mixture", "tiny", "sdxl"]
TEXT_GUIDES = ("tiny", "sdxl")


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorldSource:
    """Where the world, its cameras and pictures come from; no map means a procedural one."""

    map: str | None = None
    """A map to start from: map.json, .vox, .schem or .schematic."""
    palette: str | None = None
    """A palette.json of other materials than the seven of the terrain; needs a map."""
    cameras: str | None = None
    """A metadata.json with posed views; without it cameras circle the world. Without a map its
    pictures are all that is known."""
    shape: tuple[int, int, int] = (16, 16, 16)
    """Cells of a world that no map gives."""
    scale: float = 1.0
    """Side in metres of the cells of a world that no map gives."""
    num_views: int = 8
    size: int = 64
    """Side of the pictures in pixels, where no file says it."""
    seed: int = 0
    start: Literal["map", "fog"] = "fog"
    """What optimisation starts at: the map (or procedural world), or an even fog of everything."""

    def __post_init__(self):
        """Refuses what no reader takes."""
        if self.palette is not None and self.map is None and self.cameras is None:
            raise ValueError(
                "a palette belongs to a map or pictures; procedural worlds are terrain"
            )
        if min(self.shape) < 1 or not 0 < self.scale < 1e6:
            raise ValueError(f"world.shape {self.shape} and world.scale {self.scale}: needed > 0")
        if self.num_views < 1 or self.size < 8:
            raise ValueError(
                f"needed num_views >= 1 and size >= 8, got {self.num_views} and {self.size}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class GuidanceConfig:
    """What tells the world how its pictures should look."""

    name: GuidanceName = "target"
    prompt: str = ""
    """What `tiny` and `sdxl` shape the world towards."""
    spread: float = 0.05
    """Width of the modes of `mixture`."""
    distillation: DistillationConfig = DistillationConfig()
    """Noise of `mixture` and `tiny`."""
    weights: str | None = None
    """Of `tiny` an .npz file, of `sdxl` a folder or a name in the hub cache."""
    unet: str | None = None
    """Of `sdxl`: a .safetensors file of Lightning's UNet."""
    sdxl: SdxlConfig = SdxlConfig()

    def __post_init__(self):
        """Refuses prompts where none is read, and text guides without one."""
        if (self.name in TEXT_GUIDES) != bool(self.prompt.strip()):
            what = "needs a prompt" if self.name in TEXT_GUIDES else "reads no prompt"
            raise ValueError(f"guidance {self.name} {what}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Share:
    """How much of all blocks should be of a material."""

    material: str
    share: float

    def __post_init__(self):
        """Refuses what is no share."""
        if not 0 <= self.share <= 1:
            raise ValueError(f"the share of {self.material} must be in [0, 1], got {self.share}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stacking:
    """A reward, or below 0 a penalty, for one block on top of another; "Air" is a block here."""

    below: str
    above: str
    reward: float

    def __post_init__(self):
        """Refuses what is no reward."""
        if not -1e3 <= self.reward <= 1e3:
            raise ValueError(f"the reward of {self.below}/{self.above} is {self.reward}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wishes:
    """Targets of the losses `distribution` and `adjacency`."""

    shares: tuple[Share, ...] = ()
    """Materials that are not named share what is left as they do in the map, or equally."""
    stackings: tuple[Stacking, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class VoxelsLoop:
    """How the loop logs, saves and looks at its progress."""

    log_every: int = 20
    image_every: int = 200
    """Steps between two sets of pictures of the fixed views; the first and last step have one."""
    num_fixed_views: int = 3
    checkpoint_seconds: float = 60.0

    def __post_init__(self):
        """Refuses empty loops."""
        if min(self.log_every, self.image_every, self.num_fixed_views) < 1:
            raise ValueError("log_every, image_every and num_fixed_views must be at least 1")
        if not self.checkpoint_seconds > 0:
            raise ValueError("checkpoint_seconds must be positive")


@dataclasses.dataclass(frozen=True, kw_only=True)
class VoxelsJob:
    """One run."""

    job: Literal["voxels"] = "voxels"
    seed: int = 0
    world: WorldSource = WorldSource()
    guidance: GuidanceConfig = GuidanceConfig()
    sampler: SamplerConfig = SamplerConfig(name="views_rounds")
    views_per_step: int = 4
    wishes: Wishes = Wishes()
    train: TrainConfig
    loop: VoxelsLoop = VoxelsLoop()

    def __post_init__(self):
        """Refuses seeds and batches that do not fit."""
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be in [0, 2^31), got {self.seed}")
        if self.views_per_step < 1:
            raise ValueError(f"views_per_step must be at least 1, got {self.views_per_step}")
