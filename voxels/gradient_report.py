"""Do gradients reach what a picture shows, and are they right? Numbers for a log or a test.

Two scores. The common one of nvdiffrast-style pipelines is kept for comparison: gradient g of
sum(RGB) + 0.1 sum(RGB alpha) with respect to the material logits of the blocks, half for the share
of blocks with a gradient above 1e-6 and half for the size of g,
  0.5 blocks_with_gradient / blocks + 0.5 m,  m = |g| / 100 below 100, else 1 - (|g| - 100) / 1000,
which depends on the resolution, counts blocks that no camera can see, and is 0 above |g| = 1100.
The corrected one asks only about cells the view shows, uses a mean loss, and checks the gradient
against a finite difference; it is coverage times (1 - relative error of that check).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from scenes.cameras import Cameras

from .grid import VoxelGrid, temper
from .rendering.images import (
    Image,
    RenderConfig,
    composite,
    grid_rays,
    render,
    without_splatting,
)

_EPSILON = 1e-6


class SizeReport(NamedTuple):
    """How large the entries of a gradient are."""

    norm_l1: Float[Array, ""]
    norm_l2: Float[Array, ""]
    smallest: Float[Array, ""]
    largest: Float[Array, ""]
    mean: Float[Array, ""]
    std: Float[Array, ""]


class GradientReport(NamedTuple):
    """What `gradient_report` finds; scalars unless said otherwise.

    Attributes:
      gradient_health_score: the common score, of the pixel-sum loss. Its blocks are the cells that
        are more there than not; in a fog, where there are none, all above an occupancy of 0.01.
      legacy_norm: its gradient's L2 norm.
      legacy_block_share: blocks with a gradient, over all blocks, hidden ones included.
      score: the corrected score, 0 to 1.
      num_visible: cells that hide at least 1e-3 of a pixel.
      material_coverage, occupancy_coverage: share of the visible cells that get a gradient.
      agreement_error: relative difference to central differences along a random direction; the
        larger of the two below.
      occupancy_agreement_error, material_agreement_error: when only these logits move.
      occupancy, material: sizes of the gradients of a mean loss.
      per_material: L2 norm of the gradient of each material's logits.
      num_nan, num_infinite: entries that are.
      overflow: that of the image, see `Image`; the report is right where it is 0.
      is_finite: no entry is NaN or infinite.
      is_differentiable: finite, not zero, something is visible, and everything found room.
    """

    gradient_health_score: Float[Array, ""]
    legacy_norm: Float[Array, ""]
    legacy_block_share: Float[Array, ""]
    score: Float[Array, ""]
    num_visible: Int[Array, ""]
    material_coverage: Float[Array, ""]
    occupancy_coverage: Float[Array, ""]
    agreement_error: Float[Array, ""]
    occupancy_agreement_error: Float[Array, ""]
    material_agreement_error: Float[Array, ""]
    occupancy: SizeReport
    material: SizeReport
    per_material: Float[Array, " materials"]
    num_nan: Int[Array, ""]
    num_infinite: Int[Array, ""]
    overflow: Int[Array, ""]
    is_finite: Bool[Array, ""]
    is_differentiable: Bool[Array, ""]


def cell_visibility(
    config: RenderConfig,
    occupancy_logits: Float[Array, "x y z"],
    cameras: Cameras,
    view: Int[Array, ""] | int,
) -> Float[Array, "x y z"]:
    """How many pixels' worth of a view each cell makes up; sums to the sum of alpha.

    Per cell the sum over pixels of its weight w (docs/voxels.md). It is the derivative of the
    view's alpha by what the cells show, so every backend has it; where `config` says `splat` it
    marches, so that there is no room to run out of.
    """
    config = without_splatting(config)
    rays = grid_rays(config, cameras, view)
    one = jnp.ones((1, 6, 1), occupancy_logits.dtype)

    def shown(amount: Array) -> Array:
        gathered, _ = composite(config, occupancy_logits, amount[..., None], one, rays)
        return jnp.sum(gathered.features) / config.samples**2

    return jax.grad(shown)(jnp.ones(occupancy_logits.shape, occupancy_logits.dtype))


def gradient_report(
    config: RenderConfig,
    key: Key[Array, ""],
    grid: VoxelGrid,
    lit: Float[Array, "materials 6 3"],
    sky: Float[Array, " 3"],
    cameras: Cameras,
    view: Int[Array, ""] | int,
    *,
    temperature: float | Float[Array, ""] = 1.0,
    step: float = 1e-2,
) -> GradientReport:
    """Differentiates one view and judges what comes back.

    Args:
      key: direction of the finite-difference check; it only moves visible cells.
      step: how far the check moves each way, in logits.
    """

    def picture(grid: VoxelGrid) -> Image:
        logits, probs = temper(grid, temperature)
        return render(config, logits, probs, lit, sky, cameras, view)

    def pixel_sum(grid: VoxelGrid) -> Array:
        image = picture(grid)
        return jnp.sum(image.color) + 0.1 * jnp.sum(image.color * image.alpha[..., None])

    def mean_loss(grid: VoxelGrid) -> tuple[Array, Array]:
        image = picture(grid)
        return jnp.mean(jnp.square(image.color - 0.5)), image.overflow

    is_block = grid.occupancy_logits > 0
    is_there = jax.nn.sigmoid(grid.occupancy_logits) > 0.01
    is_block = jnp.where(jnp.any(is_block), is_block, is_there)
    old = jax.grad(pixel_sum)(grid).material_logits * is_block[..., None]
    health, old_norm, share = _health(old, is_block)

    gradient, overflow = jax.grad(mean_loss, has_aux=True)(grid)
    seen = cell_visibility(config, grid.occupancy_logits / temperature, cameras, view) > 1e-3
    num_visible = jnp.sum(seen)
    per_cell = jnp.linalg.norm(gradient.material_logits, axis=-1)
    # a mean loss has gradients of the order of one over the pixels
    floor = _EPSILON / (config.rows * config.cols)
    at_least_one = jnp.maximum(num_visible, 1)
    material_coverage = jnp.sum(seen & (per_cell > floor)) / at_least_one
    reached = jnp.abs(gradient.occupancy_logits) > floor
    occupancy_coverage = jnp.sum(seen & reached) / at_least_one

    def disagreement(direction: VoxelGrid) -> Array:
        slope = _dot(gradient, direction)
        ahead, _ = mean_loss(jax.tree.map(lambda x, d: x + step * d, grid, direction))
        behind, _ = mean_loss(jax.tree.map(lambda x, d: x - step * d, grid, direction))
        difference = (ahead - behind) / (2 * step)
        size = jnp.maximum(jnp.abs(slope), jnp.abs(difference))
        # what float32 can tell from two losses
        noise = 4 * jnp.finfo(ahead.dtype).eps * ahead / step
        return jnp.abs(slope - difference) / jnp.maximum(size, jnp.maximum(noise, 1e-30))

    first, second = jax.random.split(key)
    still = jax.tree.map(jnp.zeros_like, grid)
    of_occupancy = disagreement(
        still._replace(occupancy_logits=jax.random.normal(first, grid.shape) * seen)
    )
    along = jax.random.normal(second, grid.material_logits.shape) * seen[..., None]
    of_materials = disagreement(still._replace(material_logits=along))
    error = jnp.maximum(of_occupancy, of_materials)
    leaves = jax.tree.leaves(gradient)
    num_nan = sum((jnp.sum(jnp.isnan(g)) for g in leaves), jnp.zeros((), jnp.int32))
    num_infinite = sum((jnp.sum(jnp.isinf(g)) for g in leaves), jnp.zeros((), jnp.int32))
    is_finite = num_nan + num_infinite == 0
    is_alive = jnp.max(jnp.array([jnp.max(jnp.abs(g)) for g in leaves])) > 0
    coverage = 0.5 * (material_coverage + occupancy_coverage)
    return GradientReport(
        gradient_health_score=health,
        legacy_norm=old_norm,
        legacy_block_share=share,
        score=jnp.where(is_finite, coverage * jnp.clip(1.0 - error, 0.0, 1.0), 0.0),
        num_visible=num_visible,
        material_coverage=material_coverage,
        occupancy_coverage=occupancy_coverage,
        agreement_error=error,
        occupancy_agreement_error=of_occupancy,
        material_agreement_error=of_materials,
        occupancy=_sizes(gradient.occupancy_logits),
        material=_sizes(gradient.material_logits),
        per_material=jnp.sqrt(jnp.sum(jnp.square(gradient.material_logits), axis=(0, 1, 2))),
        num_nan=num_nan,
        num_infinite=num_infinite,
        overflow=overflow,
        is_finite=is_finite,
        is_differentiable=is_finite & is_alive & (num_visible > 0) & (overflow == 0),
    )


def _health(
    gradient: Float[Array, "x y z materials"], is_block: Bool[Array, "x y z"]
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    norm = jnp.linalg.norm(gradient.reshape(-1))
    reached = jnp.sum(is_block & (jnp.linalg.norm(gradient, axis=-1) > _EPSILON))
    share = reached / jnp.maximum(jnp.sum(is_block), 1)
    size = jnp.where(norm < 100, jnp.minimum(1.0, norm / 100), jnp.maximum(0.0, 1.1 - norm / 1000))
    is_dead = ~(norm > _EPSILON) | ~jnp.isfinite(norm)
    return jnp.where(is_dead, 0.0, 0.5 * share + 0.5 * size), norm, share


def _sizes(gradient: Array) -> SizeReport:
    size = jnp.abs(gradient)
    return SizeReport(
        norm_l1=jnp.sum(size),
        norm_l2=jnp.linalg.norm(gradient.reshape(-1)),
        smallest=jnp.min(gradient),
        largest=jnp.max(gradient),
        mean=jnp.mean(gradient),
        std=jnp.std(gradient),
    )


def _dot(a: VoxelGrid, b: VoxelGrid) -> Float[Array, ""]:
    return sum(
        (jnp.sum(x * y) for x, y in zip(a, b, strict=True)), jnp.zeros((), a.occupancy_logits.dtype)
    )
