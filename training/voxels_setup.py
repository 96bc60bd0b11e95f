"""From a job to what its loop works on: world, cameras, pictures, guide, sampler, first grid."""

import dataclasses
import functools
import zlib
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8

from samplers import registry
from samplers.base import Sampler
from scenes.cameras import Cameras
from scenes.formats.pictures import read_image
from voxels.block_map import BlockMap, make_map, map_statistics
from voxels.formats.any_map import load_any_map
from voxels.formats.metadata_json import CapturedViews, load_views
from voxels.formats.palette_json import load_palette
from voxels.grid import InitialLogits, VoxelGrid, grid_from_map, uniform_grid
from voxels.guidance.mixture import mixture
from voxels.guidance.prompts import parse_prompt
from voxels.guidance.protocol import Guidance
from voxels.guidance.sdxl import sdxl
from voxels.guidance.target import target
from voxels.guidance.tiny import tiny
from voxels.losses import make_priors
from voxels.palette import Palette, daylight, lit_colors, terrain_palette
from voxels.procedural import WorldConfig, make_world, orbit_cameras
from voxels.rendering.images import RenderConfig, render_cells
from voxels.rendering.planning import seen_cells
from voxels.train_step import TrainState, World, init_state

from . import run_folder, sdxl_weights, tiny_guide
from .run_folder import RunFolder
from .voxels_config import GuidanceConfig, VoxelsJob, WorldSource

EXPORTED = "map_optimized.json"
_START_NOISE = 0.1
_FOG_LOGIT = -2.0  # thin, so that every cell on a ray is seen; thick fog freezes into floaters


class LoadedWorld(NamedTuple):
    """What a source holds.

    Attributes:
      block_map: the map of the file, or the procedural world to find again; empty where only
        pictures are known.
      palette: its materials.
      pictures: one per camera: of the files, or rendered from the map.
      known: what the map is: the "hidden" goal, the "initial" start, or "none".
      notes: what a reader mended.
      is_rendered: the pictures are not those of files, but made from the map.
    """

    block_map: BlockMap
    palette: Palette
    cameras: Cameras
    pictures: UInt8[np.ndarray, "views rows cols 3"]
    near: float
    known: Literal["hidden", "initial", "none"]
    notes: tuple[str, ...]
    is_rendered: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Cells along x, y, z."""
        x, y, z = self.block_map.materials.shape
        return x, y, z

    @property
    def scale(self) -> float:
        """Side of a cell in metres."""
        return self.block_map.scale

    @property
    def num_views(self) -> int:
        """Number of cameras."""
        return len(self.pictures)

    @property
    def rows(self) -> int:
        """Height of the pictures."""
        return self.pictures.shape[1]

    @property
    def cols(self) -> int:
        """Width of the pictures."""
        return self.pictures.shape[2]


class Setup(NamedTuple):
    """A job made ready."""

    job: VoxelsJob
    loaded: LoadedWorld
    world: World
    guide: Guidance
    sampler: Sampler
    start: VoxelGrid
    init_key: Key[Array, ""]
    run_key: Key[Array, ""]


def load(source: WorldSource) -> LoadedWorld:
    """Reads or makes the world, its cameras and its pictures.

    Raises:
      FileNotFoundError, ValueError: naming the file and field.
    """
    palette = palette_of(source)
    notes: list[str] = []
    if source.map is None and source.cameras is not None:
        empty = np.zeros(source.shape, np.int16)
        block_map, config = make_map(empty, palette.names, source.scale), WorldConfig()
    elif source.map is None:
        config = WorldConfig(shape=source.shape, scale=source.scale)
        block_map = make_world(config, source.seed)
    else:
        block_map, repairs = load_any_map(source.map, palette)
        if repairs:
            notes.append(f"{source.map}: {repairs.describe()}")
        x, y, z = block_map.materials.shape
        config = WorldConfig(
            shape=(max(x, 4), max(y, 4), max(z, 4)), scale=block_map.scale, num_houses=0
        )
    near, is_rendered = 0.1, True
    if source.cameras is None:
        cameras = orbit_cameras(config, source.num_views, source.size, source.size)
        pictures = render_map(block_map, cameras, source.size, source.size, near, palette)
    else:
        views = load_views(source.cameras)
        cameras, near = views.cameras, views.near
        if source.map is not None and not any(views.image_paths):
            notes.append(f"{source.cameras}: names no pictures; those of the map are used")
            pictures = render_map(block_map, cameras, views.rows, views.cols, near, palette)
        else:
            pictures = _read_pictures(source.cameras, views)
            is_rendered = False
    known = "hidden" if source.start == "fog" else "initial"
    if source.map is None and source.cameras is not None:
        known = "none"
    return LoadedWorld(
        block_map, palette, cameras, pictures, near, known, tuple(notes), is_rendered
    )


def prepare(job: VoxelsJob, loaded: LoadedWorld | None = None) -> Setup:
    """Makes guide, sampler and first grid.

    Raises:
      FileNotFoundError, ValueError: naming the file and field, the sampler or its option.
    """
    loaded = load(job.world) if loaded is None else loaded
    render_config = job.train.render
    for name, given, known in (
        ("shape", render_config.shape, loaded.shape),
        ("scale", render_config.scale, loaded.scale),
        ("rows", render_config.rows, loaded.rows),
        ("cols", render_config.cols, loaded.cols),
        ("near", render_config.near, loaded.near),
    ):
        if given != known:
            raise ValueError(
                f"render.{name} follows from the world and its pictures: {known}, got {given}"
            )
    if loaded.is_rendered and (render_config.samples > 1 or render_config.is_eye_cell_skipped):
        remade = render_map(
            loaded.block_map,
            loaded.cameras,
            loaded.rows,
            loaded.cols,
            loaded.near,
            loaded.palette,
            samples=render_config.samples,
            is_eye_cell_skipped=render_config.is_eye_cell_skipped,
        )
        loaded = loaded._replace(pictures=remade)
    names = loaded.palette.names
    wishes = job.wishes
    priors = make_priors(
        names,
        {wish.material: wish.share for wish in wishes.shares},
        {(wish.below, wish.above): wish.reward for wish in wishes.stackings},
        before=map_statistics(loaded.block_map).material_share
        if job.world.start == "map"
        else None,
    )
    lit, sky = lighting(loaded.palette)
    key = jax.random.key(job.seed)
    init_key, run_key, start_key = jax.random.split(key, 3)
    if job.world.start == "map":
        start = grid_from_map(loaded.block_map, InitialLogits(noise=_START_NOISE), key=start_key)
    else:
        start = uniform_grid(
            loaded.shape,
            len(names),
            occupancy_logit=_FOG_LOGIT,
            noise=_START_NOISE,
            key=start_key,
        )
    guide = make_guide(job.guidance, loaded.pictures)
    cameras = Cameras(*(jnp.asarray(field) for field in loaded.cameras))
    world = World(cameras, lit, sky, priors, guide.data)
    sampler = make_view_sampler(job, loaded.num_views)
    return Setup(job, loaded, world, guide, sampler, start, init_key, run_key)


def make_guide(
    config: GuidanceConfig, pictures: UInt8[np.ndarray, "views rows cols 3"]
) -> Guidance:
    """Makes the guide a job names; loads, or trains, its weights.

    Raises:
      FileNotFoundError, ValueError: naming weights, prompt or setting.
    """
    if config.name == "target":
        return target(jnp.asarray(pictures))
    if config.name == "mixture":
        modes = jnp.asarray(pictures)[None]
        return mixture(modes, spread=config.spread, config=config.distillation)
    if config.name == "tiny":
        words = parse_prompt(config.prompt)
        return tiny(tiny_guide.load_or_train(config.weights), words, config=config.distillation)
    steps = config.sdxl.lightning_steps
    asked = dataclasses.replace(config.sdxl, prompt=config.prompt)
    if config.unet is not None:
        asked = dataclasses.replace(asked, variant="residual")
    pipeline = sdxl_weights.load_pipeline(config.weights, unet=config.unet, num_steps=steps)
    return sdxl(pipeline, asked)


def make_view_sampler(job: VoxelsJob, num_views: int) -> Sampler:
    """Makes the camera sampler a job names: one of kind "views", or one over numbered items.

    Raises:
      ValueError: for an unknown name or setting, listing the known ones.
    """
    allowed = (*registry.names("views"), "uniform", "error_weighted")
    name = job.sampler.name
    if name not in allowed:
        raise ValueError(f"no camera sampler {name!r}; camera samplers: {', '.join(allowed)}")
    size = "num_views" if registry.ENTRIES[name].kind == "views" else "num_items"
    sizes = {size: num_views, "batch_size": job.views_per_step}
    return registry.make_sampler(name, {**job.sampler.as_dict(), **sizes})


def first_state(setup: Setup) -> TrainState:
    """The state of step 0."""
    needs = registry.ENTRIES[setup.job.sampler.name].needs
    centres = setup.world.cameras.camera_to_world[:, :3, 3]
    data = [centres for need in needs if need == "centres"]
    return init_state(setup.job.train, setup.sampler, setup.init_key, setup.start, *data)


def state_shapes(setup: Setup) -> TrainState:
    """The first state as shapes only."""
    return jax.eval_shape(lambda: first_state(setup))


def exported_map(folder: RunFolder) -> tuple[BlockMap, Palette]:
    """The map that a run wrote, and what it is made of.

    Raises:
      FileNotFoundError: when the run has not finished.
      ValueError: naming the file and what is wrong with it.
    """
    path = folder.path / EXPORTED
    if not path.is_file():
        raise FileNotFoundError(f"{path}: the run has not finished; resume it first")
    palette = palette_of(run_folder.read_job(folder, VoxelsJob).world)
    return load_any_map(path, palette)[0], palette


def palette_of(source: WorldSource) -> Palette:
    """The materials of a source's map."""
    return terrain_palette() if source.palette is None else load_palette(source.palette)


def fingerprint(loaded: LoadedWorld) -> dict[str, Any]:
    """Sizes and a checksum, to tell whether a resumed run sees the same world and pictures."""
    checksum = zlib.crc32(loaded.block_map.materials.tobytes())
    checksum = zlib.crc32(np.ascontiguousarray(loaded.pictures).tobytes(), checksum)
    poses = np.asarray(loaded.cameras.camera_to_world)
    return {"shape": list(loaded.shape), "crc32": zlib.crc32(poses.tobytes(), checksum)}


def lighting(palette: Palette) -> tuple[Float[Array, "materials 6 3"], Float[Array, " 3"]]:
    """Lit colours of a palette by day, and the sky."""
    light = daylight()
    return lit_colors(palette, light), jnp.asarray(light.sky)


def render_map(
    block_map: BlockMap,
    cameras: Cameras,
    rows: int,
    cols: int,
    near: float,
    palette: Palette,
    views: Sequence[int] | None = None,
    *,
    samples: int = 1,
    is_eye_cell_skipped: bool = False,
) -> UInt8[np.ndarray, "views rows cols 3"]:
    """Exact pictures of a map from every camera, or from some.

    Args:
      samples, is_eye_cell_skipped: as of `RenderConfig`.
    """
    lit, sky = lighting(palette)
    x, y, z = block_map.materials.shape
    config = RenderConfig(
        rows=rows,
        cols=cols,
        shape=(x, y, z),
        scale=block_map.scale,
        alpha="hard",
        near=near,
        samples=samples,
        is_eye_cell_skipped=is_eye_cell_skipped,
    )
    asked = list(range(len(cameras.focal)) if views is None else views)
    flat = seen_cells(config, block_map, cameras, asked)
    is_cell = flat < block_map.materials.size
    number = np.where(is_cell, block_map.materials.reshape(-1)[np.where(is_cell, flat, 0)], 0)
    probs = jax.nn.one_hot(number - 1, len(block_map.names))
    cells = jnp.asarray(flat), jnp.where(number > 0, 5.0, -5.0), probs
    shown = [_exact(config, *cells, lit, sky, cameras, view) for view in asked]
    return np.round(255 * np.clip(shown, 0, 1)).astype(np.uint8)


@functools.partial(jax.jit, static_argnums=0)
def _exact(config: RenderConfig, flat, logits, probs, lit, sky, cameras, view) -> Array:
    return render_cells(config, flat, logits, probs, lit, sky, cameras, view).color


def _read_pictures(source: str, views: CapturedViews) -> UInt8[np.ndarray, "v r c 3"]:
    pictures = []
    for name, path in zip(views.names, views.image_paths, strict=True):
        if path is None:
            raise ValueError(f"{source}: view {name} names no picture (rgbPath)")
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such picture; view {name} of {source} names it")
        picture = read_image(path)
        if picture.shape[:2] != (views.rows, views.cols):
            size = "{1} x {0}".format(*picture.shape)
            raise ValueError(f"{path}: must be {views.cols} x {views.rows} pixels, got {size}")
        pictures.append(picture[..., :3])
    return np.stack(pictures)
