"""Images of a block world: cameras in metres in, colours and distances in metres out.

This is the door to the backends. Cameras are pinholes with OpenGL axes; lens distortion is
undone when `has_distortion` says there is some. Distances are metres along the unit ray.
"""

import dataclasses
import math
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from scenes.cameras import Cameras, select
from scenes.rays import view_rays

from ..block_map import origin
from ..grid import ActiveCells, active_cells
from . import numba_march
from .binning import Frame
from .crossings import AlphaMode, Composite, eye_cell, inverse_direction
from .first_hit import HitConfig, composite_hard
from .ray_march import MarchConfig, composite_march
from .splat import SplatConfig, composite_splat

_MIN_OPACITY = 1e-6
ON_ACCELERATORS: dict[str, Any] = {"tile": 0, "stride": 8}
"""How accelerators walk: the whole image at once, and seldom waiting for the host."""
_NOTHING = -1e4  # a logit whose sigmoid is zero in any precision


@dataclasses.dataclass(frozen=True, kw_only=True)
class RenderConfig:
    """What to render; everything here is fixed at compile time.

    Attributes:
      rows, cols: size of the image in pixels.
      shape: cells of the grid along x, y, z.
      scale: side of a cell in metres.
      alpha: how occupancy hides: `solid`, `beer` or `hard` (docs/voxels.md).
      near: metres along the ray before which nothing is seen.
      samples: rays per pixel along each axis; their images are averaged.
      is_eye_cell_skipped: the cell that holds the eye hides nothing.
      has_geometry: also make distance, median and normal; zero and infinite otherwise.
      threshold: cells with no more occupancy than this are empty: they hide nothing and get no
        gradient. Under `hard` it only says which empty cells get one. None: 0.01 under `hard`,
        0 otherwise.
      backend: how soft alpha is computed, see `planning`. `numba` is `march` with loops compiled
        by that package, on CPUs; `splat` needs pinholes.
      max_cells, max_pairs: room of `splat` for cells, and for (cell, tile) pairs.
      has_distortion: the cameras have lenses.
      device: "cpu" walks tiles one after another, "gpu" and "tpu" walk the whole image at once;
        None asks JAX which one it uses.
    """

    rows: int
    cols: int
    shape: tuple[int, int, int]
    scale: float = 1.0
    alpha: AlphaMode = "solid"
    near: float = 0.1
    samples: int = 1
    is_eye_cell_skipped: bool = False
    has_geometry: bool = True
    threshold: float | None = None
    backend: Literal["march", "numba", "splat"] = "march"
    max_cells: int = 0
    max_pairs: int = 0
    has_distortion: bool = False
    device: Literal["cpu", "gpu", "tpu"] | None = None

    def __post_init__(self) -> None:
        if min(self.rows, self.cols, self.samples, *self.shape) < 1:
            raise ValueError("rows, cols, samples and every axis of shape must be positive")
        if not (np.isfinite(self.scale) and self.scale > 0) or self.near < 0:
            raise ValueError(f"needed scale > 0 and near >= 0, got {self.scale} and {self.near}")
        if self.alpha not in ("solid", "beer", "hard"):
            raise ValueError(f'alpha is "solid", "beer" or "hard", got "{self.alpha}"')
        if self.threshold is not None and not 0 <= self.threshold <= 0.5:
            raise ValueError(f"threshold must lie in [0, 0.5], got {self.threshold}")
        if self.backend not in ("march", "numba", "splat"):
            raise ValueError(f'backend is "march", "numba" or "splat", got "{self.backend}"')
        if self.device not in (None, "cpu", "gpu", "tpu"):
            raise ValueError(f'device is "cpu", "gpu" or "tpu", got "{self.device}"')
        if self.backend == "splat":
            if self.near == 0:
                raise ValueError("splatting needs near > 0; march for near = 0")
            if self.has_distortion:
                raise ValueError("splatting needs pinhole cameras; march for lenses")
            if min(self.max_cells, self.max_pairs) < 1:
                raise ValueError("splatting needs max_cells and max_pairs; see planning.plan")

    @property
    def empty_below(self) -> float:
        """The threshold in force."""
        if self.threshold is not None:
            return self.threshold
        return 0.01 if self.alpha == "hard" else 0.0


class Image(NamedTuple):
    """One rendered view.

    Attributes:
      color: RGB over the sky, or whatever features were asked for.
      alpha: what hides the sky, 0 to 1.
      distance: metres along the ray to what is seen, averaged by how much of it is seen;
        infinite where nothing is.
      median: metres to where half is hidden; infinite where never. Not differentiable.
      normal: normal of what is seen, averaged likewise, of length at most 1; zero for sky.
      overflow: (cell, tile) pairs or cells that found no room; the image is right where it is 0.
    """

    color: Float[Array, "*views rows cols f"]
    alpha: Float[Array, "*views rows cols"]
    distance: Float[Array, "*views rows cols"]
    median: Float[Array, "*views rows cols"]
    normal: Float[Array, "*views rows cols 3"]
    overflow: Int[Array, "*views"]


class GridRays(NamedTuple):
    """The rays of a view in cell units, and the pinhole they come from."""

    eye: Float[Array, " 3"]
    directions: Float[Array, "rows cols 3"]
    frame: Frame


def grid_rays(config: RenderConfig, cameras: Cameras, view: Int[Array, ""] | int) -> GridRays:
    """Makes the rays of a view, `config.samples` per pixel and axis, in the grid's own units."""
    rows, cols = config.rows * config.samples, config.cols * config.samples
    camera = select(cameras, view)
    focal = jnp.asarray(camera.focal) * config.samples
    principal = jnp.asarray(camera.principal) * config.samples
    rotation = jnp.asarray(camera.camera_to_world)[:3, :3]
    if config.has_distortion:
        finer = cameras._replace(
            focal=jnp.asarray(cameras.focal) * config.samples,
            principal=jnp.asarray(cameras.principal) * config.samples,
        )
        directions = view_rays(finer, view, rows, cols).directions
    else:
        x = (jnp.arange(cols) + 0.5 - principal[0]) / focal[0]
        y = (jnp.arange(rows) + 0.5 - principal[1]) / focal[1]
        axes = [rotation[:, k].reshape(1, 1, 3) for k in range(3)]
        directions = x[None, :, None] * axes[0] - y[:, None, None] * axes[1] - axes[2]
        directions /= jnp.sqrt(jnp.sum(directions * directions, axis=-1, keepdims=True))
    corner = jnp.asarray(origin(config.shape, config.scale), directions.dtype)
    eye = jnp.asarray(camera.camera_to_world[:3, 3] - corner) / config.scale
    return GridRays(eye, directions, Frame(rotation, focal, principal))


def is_on_cpu(config: RenderConfig) -> bool:
    """Whether the form for CPUs is chosen."""
    return (config.device or jax.default_backend()) == "cpu"


def without_splatting(config: RenderConfig) -> RenderConfig:
    """The same picture by the march instead of `splat`, so that nothing can find no room."""
    if config.backend != "splat":
        return config
    return dataclasses.replace(config, backend="march", max_cells=0, max_pairs=0)


def listed_cells(
    config: RenderConfig,
    occupancy_logits: Float[Array, "x y z"],
    eye: Float[Array, " 3"],
    capacity: int,
) -> ActiveCells:
    """Lists the cells that splatting draws for an eye, in the grid's own units.

    Walled-in cells are left out, but not those near the eye, whose walls may be behind it, before
    `near` or skipped; and none under `beer`, where rays pass the corners of any wall.
    """
    if config.alpha == "beer":
        kept: Bool[Array, "x y z"] | bool = True
    else:
        reach = math.ceil(config.near / config.scale) + 1
        away = [
            jnp.abs(jnp.arange(size) - here) <= reach
            for size, here in zip(config.shape, eye_cell(eye), strict=True)
        ]
        kept = away[0][:, None, None] & away[1][None, :, None] & away[2][None, None, :]
    return active_cells(occupancy_logits, capacity, threshold=config.empty_below, kept=kept)


def render(
    config: RenderConfig,
    occupancy_logits: Float[Array, "x y z"],
    probs: Float[Array, "x y z materials"],
    lit: Float[Array, "materials 6 f"],
    sky: Float[Array, " f"],
    cameras: Cameras,
    view: Int[Array, ""] | int,
) -> Image:
    """Renders one view.

    Args:
      occupancy_logits, probs: see `grid.temper` and `grid.harden`.
      lit: colour of each material by face, see `palette.lit_colors`; or any other features.
      sky: the colour, or those features, behind everything.
      view: which of the cameras; out of range is clamped.
    """
    rays = grid_rays(config, cameras, view)
    gathered, overflow = composite(config, occupancy_logits, probs, lit, rays)
    return _finish(config, gathered, rays, sky, overflow)


def render_cells(
    config: RenderConfig,
    flat: Int[Array, " cells"],
    logits: Float[Array, " cells"],
    probs: Float[Array, "cells materials"],
    lit: Float[Array, "materials 6 f"],
    sky: Float[Array, " f"],
    cameras: Cameras,
    view: Int[Array, ""] | int,
) -> Image:
    """Renders listed cells of a grid that is empty elsewhere, with parameters for these only.

    For worlds whose materials would not fit into memory cell by cell.

    Args:
      flat: C-order index of each cell, at most once; see `planning.seen_cells`. Indices outside the
        grid are padding.
    Raises:
      ValueError: for another alpha than `hard`.
    """
    if config.alpha != "hard":
        raise ValueError(f'cells are listed for "hard" alpha, got "{config.alpha}"')
    rays = grid_rays(config, cameras, view)
    gathered = _first_cells(config, flat, logits, probs, lit, rays)
    return _finish(config, gathered, rays, sky, jnp.zeros((), jnp.int32))


def render_views(
    config: RenderConfig,
    occupancy_logits: Float[Array, "x y z"],
    probs: Float[Array, "x y z materials"],
    lit: Float[Array, "materials 6 f"],
    sky: Float[Array, " f"],
    cameras: Cameras,
    views: Int[Array, " views"],
) -> Image:
    """Renders several views: one after another on a CPU, side by side elsewhere."""

    def one(view: Array) -> Image:
        return render(config, occupancy_logits, probs, lit, sky, cameras, view)

    return jax.lax.map(one, views) if is_on_cpu(config) else jax.vmap(one)(views)


def material_image(
    config: RenderConfig,
    occupancy_logits: Float[Array, "x y z"],
    probs: Float[Array, "x y z materials"],
    cameras: Cameras,
    view: Int[Array, ""] | int,
) -> Float[Array, "rows cols materials"]:
    """Share of each material in what a pixel sees; what is missing to 1 is sky.

    Where `config` says `splat` it marches: there is no room to run out of.
    """
    config = without_splatting(config)
    materials = probs.shape[-1]
    each = jnp.broadcast_to(
        jnp.eye(materials, dtype=probs.dtype)[:, None], (materials, 6, materials)
    )
    rays = grid_rays(config, cameras, view)
    gathered, _ = composite(config, occupancy_logits, probs, each, rays)
    return _average(config, gathered.features)


def composite(
    config: RenderConfig,
    occupancy_logits: Float[Array, "x y z"],
    probs: Float[Array, "x y z materials"],
    lit: Float[Array, "materials 6 f"],
    rays: GridRays,
) -> tuple[Composite, Int[Array, ""]]:
    """Runs the backend that `config` names, in cell units.

    Returns:
      What the rays gather, and how many pairs or cells found no room (0: it is right).
    Raises:
      ValueError: the grid's shape is not `config.shape`, or numba is asked for without the
        package or on an accelerator.
    """
    if occupancy_logits.shape != config.shape:
        raise ValueError(f"config is for {config.shape}, the grid has {occupancy_logits.shape}")
    near, is_cpu = config.near / config.scale, is_on_cpu(config)
    flat_probs = probs.reshape(-1, probs.shape[-1])
    fits = jnp.zeros((), jnp.int32)
    if config.alpha == "hard":
        logits = occupancy_logits.reshape(-1)
        return _first_cells(config, None, logits, flat_probs, lit, rays), fits
    stop = 1e-7 if occupancy_logits.dtype == jnp.float32 else 1e-15
    if config.empty_below > 0:
        is_empty = jax.nn.sigmoid(occupancy_logits) <= config.empty_below
        occupancy_logits = jnp.where(is_empty, _NOTHING, occupancy_logits)
    if config.backend == "splat":
        splat_config = SplatConfig(
            shape=config.shape,
            max_pairs=config.max_pairs,
            mode=config.alpha,
            near=near,
            stop=stop,
            is_eye_cell_skipped=config.is_eye_cell_skipped,
        )
        listed = listed_cells(config, occupancy_logits, rays.eye, config.max_cells)
        splat: Any = composite_splat(
            splat_config,
            listed.flat,
            occupancy_logits.reshape(-1).at[listed.flat].get(mode="fill", fill_value=_NOTHING),
            flat_probs.at[listed.flat].get(mode="fill", fill_value=0.0),
            lit,
            rays.eye,
            rays.frame,
            rays.directions,
        )
        overflow = jnp.maximum(splat.num_pairs - config.max_pairs, 0) + listed.num_dropped
        return splat.composite, overflow
    march_config = MarchConfig(
        mode=config.alpha,
        near=near,
        stop=stop,
        is_eye_cell_skipped=config.is_eye_cell_skipped,
        has_geometry=config.has_geometry,
        **({} if is_cpu else ON_ACCELERATORS),
    )
    if config.backend == "numba" and not is_cpu:
        raise ValueError('backend "numba" is for CPUs; use "march"')
    walk = numba_march.composite_numba if config.backend == "numba" else composite_march
    out = walk(march_config, occupancy_logits, probs, lit, rays.eye, rays.directions)
    return cast(Composite, out), fits


def _first_cells(
    config: RenderConfig,
    flat: Array | None,
    logits: Array,
    probs: Array,
    lit: Array,
    rays: GridRays,
) -> Composite:
    hits = HitConfig(
        shape=config.shape,
        near=config.near / config.scale,
        threshold=config.empty_below,
        is_eye_cell_skipped=config.is_eye_cell_skipped,
        **({} if is_on_cpu(config) else ON_ACCELERATORS),
    )
    out = composite_hard(hits, flat, logits, probs, lit, rays.eye, rays.directions)
    return cast(Composite, out)


def _finish(
    config: RenderConfig, gathered: Composite, rays: GridRays, sky: Array, overflow: Array
) -> Image:
    facing = jnp.where(inverse_direction(rays.directions) > 0, -1.0, 1.0)
    color = gathered.features + gathered.transmittance[..., None] * jnp.asarray(sky).reshape(
        1, 1, -1
    )
    alpha = _average(config, 1.0 - gathered.transmittance)
    weight = _average(config, jnp.sum(gathered.axis_weight, axis=-1))
    is_seen = weight > _MIN_OPACITY
    safe = jnp.where(is_seen, weight, 1.0)
    distance = _average(config, gathered.depth) / safe * config.scale
    normal = _average(config, gathered.axis_weight * facing)
    median = gathered.median if config.samples == 1 else _least(config, gathered.median)
    return Image(
        color=_average(config, color),
        alpha=alpha,
        distance=jnp.where(is_seen, distance, jnp.inf),
        median=jax.lax.stop_gradient(median * config.scale),
        normal=jnp.where(is_seen[..., None], normal / safe[..., None], 0.0),
        overflow=overflow,
    )


def _average(config: RenderConfig, values: Array) -> Array:
    return values if config.samples == 1 else _blocks(config, values).mean(axis=(1, 3))


def _least(config: RenderConfig, values: Array) -> Array:
    return _blocks(config, values).min(axis=(1, 3))


def _blocks(config: RenderConfig, values: Array) -> Array:
    k = config.samples
    return values.reshape(config.rows, k, config.cols, k, *values.shape[2:])
