"""Images of a block world: cameras in metres in, colours and distances in metres out.

This is the door to the backends. Cameras are pinholes with OpenGL axes; lens distortion is
undone when `has_distortion` says there is some. Distances are metres along the unit ray.
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from scenes.cameras import Cameras, select
from scenes.rays import view_rays

from ..block_map import origin
from .crossings import AlphaMode, Composite, inverse_direction
from .first_hit import HitConfig, composite_hard
from .ray_march import MarchConfig, composite_march

_MIN_OPACITY = 1e-6


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
      threshold: occupancy above which an empty cell gets a gradient under `hard`.
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
    threshold: float = 0.01
    has_distortion: bool = False
    device: Literal["cpu", "gpu", "tpu"] | None = None

    def __post_init__(self) -> None:
        if min(self.rows, self.cols, self.samples, *self.shape) < 1:
            raise ValueError("rows, cols, samples and every axis of shape must be positive")
        if not (np.isfinite(self.scale) and self.scale > 0) or self.near < 0:
            raise ValueError(f"needed scale > 0 and near >= 0, got {self.scale} and {self.near}")
        if self.alpha not in ("solid", "beer", "hard"):
            raise ValueError(f'alpha is "solid", "beer" or "hard", got "{self.alpha}"')


class Image(NamedTuple):
    """One rendered view.

    Attributes:
      color: RGB over the sky.
      alpha: what hides the sky, 0 to 1.
      distance: metres along the ray to what is seen, averaged by how much of it is seen;
        infinite where nothing is.
      median: metres to where half is hidden; infinite where never. Not differentiable.
      normal: normal of what is seen, averaged likewise, of length at most 1; zero for sky.
    """

    color: Float[Array, "*views rows cols 3"]
    alpha: Float[Array, "*views rows cols"]
    distance: Float[Array, "*views rows cols"]
    median: Float[Array, "*views rows cols"]
    normal: Float[Array, "*views rows cols 3"]


class GridRays(NamedTuple):
    """The rays of a view in cell units."""

    eye: Float[Array, " 3"]
    directions: Float[Array, "rows cols 3"]


def grid_rays(config: RenderConfig, cameras: Cameras, view: Int[Array, ""] | int) -> GridRays:
    """Makes the rays of a view, `config.samples` per pixel and axis, in the grid's own units."""
    rows, cols = config.rows * config.samples, config.cols * config.samples
    camera = select(cameras, view)
    focal, principal = camera.focal * config.samples, camera.principal * config.samples
    if config.has_distortion:
        finer = cameras._replace(
            focal=jnp.asarray(cameras.focal) * config.samples,
            principal=jnp.asarray(cameras.principal) * config.samples,
        )
        directions = view_rays(finer, view, rows, cols).directions
    else:
        x = (jnp.arange(cols) + 0.5 - principal[0]) / focal[0]
        y = (jnp.arange(rows) + 0.5 - principal[1]) / focal[1]
        rotation = camera.camera_to_world[:3, :3]
        directions = (
            x[None, :, None] * rotation[:, 0] - y[:, None, None] * rotation[:, 1] - rotation[:, 2]
        )
        directions /= jnp.sqrt(jnp.sum(directions * directions, axis=-1, keepdims=True))
    corner = jnp.asarray(origin(config.shape, config.scale), directions.dtype)
    eye = (camera.camera_to_world[:3, 3] - corner) / config.scale
    return GridRays(eye, directions)


def render(
    config: RenderConfig,
    occupancy_logits: Float[Array, "x y z"],
    probs: Float[Array, "x y z materials"],
    lit: Float[Array, "materials 6 3"],
    sky: Float[Array, " 3"],
    cameras: Cameras,
    view: Int[Array, ""] | int,
) -> Image:
    """Renders one view.

    Args:
      occupancy_logits, probs: see `grid.temper` and `grid.harden`.
      lit: colour of each material by face, see `palette.lit_colors`.
      sky: colour behind everything.
      view: which of the cameras; out of range is clamped.
    """
    rays = grid_rays(config, cameras, view)
    gathered = composite(config, occupancy_logits, probs, lit, rays)
    return _finish(config, gathered, rays, sky)


def render_views(
    config: RenderConfig,
    occupancy_logits: Float[Array, "x y z"],
    probs: Float[Array, "x y z materials"],
    lit: Float[Array, "materials 6 3"],
    sky: Float[Array, " 3"],
    cameras: Cameras,
    views: Int[Array, " views"],
) -> Image:
    """Renders several views: one after another on a CPU, side by side elsewhere."""

    def one(view: Array) -> Image:
        return render(config, occupancy_logits, probs, lit, sky, cameras, view)

    return jax.lax.map(one, views) if _is_cpu(config) else jax.vmap(one)(views)


def material_image(
    config: RenderConfig,
    occupancy_logits: Float[Array, "x y z"],
    probs: Float[Array, "x y z materials"],
    cameras: Cameras,
    view: Int[Array, ""] | int,
) -> Float[Array, "rows cols materials"]:
    """Share of each material in what a pixel sees; what is missing to 1 is sky."""
    materials = probs.shape[-1]
    each = jnp.broadcast_to(
        jnp.eye(materials, dtype=probs.dtype)[:, None], (materials, 6, materials)
    )
    rays = grid_rays(config, cameras, view)
    gathered = composite(config, occupancy_logits, probs, each, rays)
    return _average(config, gathered.features)


def composite(
    config: RenderConfig,
    occupancy_logits: Float[Array, "x y z"],
    probs: Float[Array, "x y z materials"],
    lit: Float[Array, "materials 6 f"],
    rays: GridRays,
) -> Composite:
    """Runs the backend that `config.alpha` asks for, in cell units.

    Raises:
      ValueError: the grid's shape is not `config.shape`.
    """
    if occupancy_logits.shape != config.shape:
        raise ValueError(f"config is for {config.shape}, the grid has {occupancy_logits.shape}")
    near = config.near / config.scale
    is_cpu = _is_cpu(config)
    if config.alpha == "hard":
        hit_config = HitConfig(
            shape=config.shape,
            near=near,
            threshold=config.threshold,
            is_eye_cell_skipped=config.is_eye_cell_skipped,
            tile=32 if is_cpu else 0,
        )
        logits, flat_probs = occupancy_logits.reshape(-1), probs.reshape(-1, probs.shape[-1])
        return composite_hard(hit_config, None, logits, flat_probs, lit, *rays)
    march_config = MarchConfig(
        mode=config.alpha,
        near=near,
        stop=1e-7 if occupancy_logits.dtype == jnp.float32 else 1e-15,
        is_eye_cell_skipped=config.is_eye_cell_skipped,
        has_geometry=config.has_geometry,
        tile=64 if is_cpu else 0,
    )
    return composite_march(march_config, occupancy_logits, probs, lit, *rays)


def _finish(config: RenderConfig, gathered: Composite, rays: GridRays, sky: Array) -> Image:
    facing = jnp.where(inverse_direction(rays.directions) > 0, -1.0, 1.0)
    color = gathered.features + gathered.transmittance[..., None] * jnp.asarray(sky)
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
    )


def _average(config: RenderConfig, values: Array) -> Array:
    return values if config.samples == 1 else _blocks(config, values).mean(axis=(1, 3))


def _least(config: RenderConfig, values: Array) -> Array:
    return _blocks(config, values).min(axis=(1, 3))


def _blocks(config: RenderConfig, values: Array) -> Array:
    k = config.samples
    return values.reshape(config.rows, k, config.cols, k, *values.shape[2:])


def _is_cpu(config: RenderConfig) -> bool:
    return (config.device or jax.default_backend()) == "cpu"
