"""From rays to colours: march, evaluate the field, composite.

Two ways through the same three steps. `render_packed` is the differentiable one of the train step:
one pack, rays that do not fit are reported. `render_rays` is for looking: it walks over as many
packs as the rays need, so nothing is left out, in memory that does not depend on the scene or the
image.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from scenes.rays import Rays

from . import marching, volume_rendering
from .fields import FieldSample
from .marching import MarchingConfig, PackedSamples
from .occupancy import OccupancyConfig, OccupancyState
from .volume_rendering import RenderedRays

FieldFn = Callable[[Any, Float[Array, "n 3"], Float[Array, "n 3"]], FieldSample]
"""(params, points of the unit cube, unit directions) -> density and colour; any field will do."""


class SceneBounds(NamedTuple):
    """Where there is something to see; arrays, so a new scene does not compile again."""

    aabb: Float[Array, "2 3"]
    near: Float[Array, ""]
    far: Float[Array, ""]


class PackedRender(NamedTuple):
    """A differentiable render and what the budget did to it."""

    rays: RenderedRays
    kept: Bool[Array, " rays"]
    """False: the ray did not fit; its colour, opacity and depth are those of the part that did."""
    needed: Int[Array, ""]
    """Slots all rays together asked for."""
    samples: PackedSamples
    weights: Float[Array, " budget"]


def render_packed(
    field_fn: FieldFn,
    config: MarchingConfig,
    grid_config: OccupancyConfig,
    params: Any,
    grid: OccupancyState,
    bounds: SceneBounds,
    rays: Rays,
    *,
    step: Float[Array, ""],
    offset: Float[Array, " rays"],
) -> PackedRender:
    """Renders rays through one pack of samples.

    Differentiable in the parameters and, through sample positions and directions, in the rays; not
    in the occupancy grid, nor in the number and length of the samples.
    """
    candidates = marching.find_candidates(
        config,
        grid_config,
        grid,
        bounds.aabb,
        jax.lax.stop_gradient(rays),
        near=bounds.near,
        far=bounds.far,
        step=step,
        offset=offset,
    )
    samples = marching.pack(config, candidates)
    values = _evaluate(field_fn, params, bounds, rays, samples)
    weights = volume_rendering.weights_packed(
        values.density * samples.length, samples.ray, longest=config.num_candidates
    )
    rendered = volume_rendering.composite_packed(
        weights, values.color, samples.distance, samples.ray, num_rays=rays.origins.shape[0]
    )
    return PackedRender(
        rays=rendered,
        kept=marching.kept_rays(config, candidates),
        needed=marching.num_needed(candidates),
        samples=samples,
        weights=weights,
    )


def render_rays(
    field_fn: FieldFn,
    config: MarchingConfig,
    grid_config: OccupancyConfig,
    params: Any,
    grid: OccupancyState,
    bounds: SceneBounds,
    rays: Rays,
    *,
    step: Float[Array, ""] | float,
) -> RenderedRays:
    """Renders rays completely, however many samples they need. Not differentiable.

    Every pack continues the rays the previous one cut: a ray's running transmittance multiplies
    what later packs add.
    """
    num_rays = rays.origins.shape[0]
    candidates = marching.find_candidates(
        config,
        grid_config,
        grid,
        bounds.aabb,
        rays,
        near=bounds.near,
        far=bounds.far,
        step=step,
        offset=jnp.full((num_rays,), 0.5),
    )
    needed = marching.num_needed(candidates)

    def body(carry):
        first, color, opacity, moment = carry
        samples = marching.pack(config, candidates, first=first)
        values = _evaluate(field_fn, params, bounds, rays, samples)
        weights = volume_rendering.weights_packed(
            values.density * samples.length, samples.ray, longest=config.num_candidates
        )
        weights = weights * (1.0 - opacity)[samples.ray]
        columns = jnp.concatenate(
            [values.color, samples.distance[:, None], jnp.ones((config.budget, 1))], axis=-1
        )
        sums = jax.ops.segment_sum(
            weights[:, None] * columns, samples.ray, num_segments=num_rays, indices_are_sorted=True
        )
        return first + config.budget, color + sums[:, :3], opacity + sums[:, 4], moment + sums[:, 3]

    zeros = jnp.zeros((num_rays,))
    start = (jnp.zeros((), jnp.int32), jnp.zeros((num_rays, 3)), zeros, zeros)
    _, color, opacity, moment = jax.lax.while_loop(lambda carry: carry[0] < needed, body, start)
    seen = opacity > 1e-10
    return RenderedRays(
        color=color,
        opacity=opacity,
        depth=jnp.where(seen, moment / jnp.where(seen, opacity, 1.0), 0.0),
    )


def _evaluate(
    field_fn: FieldFn, params: Any, bounds: SceneBounds, rays: Rays, samples: PackedSamples
) -> FieldSample:
    origins, directions = rays.origins[samples.ray], rays.directions[samples.ray]
    points = origins + samples.distance[:, None] * directions
    unit = marching.to_unit(bounds.aabb, points)
    return field_fn(params, unit, directions)
