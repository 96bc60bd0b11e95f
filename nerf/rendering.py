"""From rays to colours: march, evaluate the field, composite.

Three ways through the same three steps. `render_packed` is the differentiable one of the train
step: one pack, rays that do not fit are reported. Two are for looking, in memory that does not
depend on the scene or the image: `render_rays` marches on, pack after pack, so nothing is left out;
`render_placed` gives every ray the same number of samples, where the field absorbs light.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from samplers.in_halves import in_halves
from scenes.rays import Rays

from . import importance, marching, spaces, volume_rendering
from .fields import FieldSample
from .marching import Candidates, MarchingConfig, PackedSamples
from .occupancy import OccupancyConfig, OccupancyState
from .spaces import SceneBounds
from .volume_rendering import RenderedRays

_OPAQUE = 1e-4

FieldFn = Callable[..., FieldSample]
"""(params, points of the unit cube, unit directions) -> density and colour; any field will do.
Where rays have inputs of their own, those of each point's ray come last."""


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
    place_fn: Callable[[Candidates], PackedSamples] | None = None,
    ray_inputs: Float[Array, "rays inputs"] | None = None,
) -> PackedRender:
    """Renders rays through one pack of samples.

    Args:
      ray_inputs: what the field is told of each ray besides its direction.
      place_fn: puts samples on the occupied parts of every ray; None takes the candidates
        themselves, as many as fit.

    Differentiable in the parameters (by scaled slopes, where the config says so) and, through
    sample positions and directions, in the rays; not in the occupancy grid, nor in the number and
    length of the samples.
    """
    candidates = marching.find_candidates(
        config,
        grid_config,
        grid,
        bounds,
        jax.lax.stop_gradient(rays),
        step=step,
        offset=offset,
    )
    if place_fn is None:
        samples, kept = (
            marching.pack(config, candidates, bounds),
            marching.kept_rays(config, candidates),
        )
    else:
        samples, kept = place_fn(candidates), jnp.ones(rays.origins.shape[:1], bool)
    values = _evaluate(field_fn, config, params, bounds, rays, samples, ray_inputs)
    if config.near_gradients and config.space == "unbounded":
        full_at = config.near_gradients * spaces.knee(config.space, bounds)
        values = scale_gradients(values, jnp.minimum(jnp.square(samples.distance / full_at), 1.0))
    num_rays = rays.origins.shape[0]
    weights = volume_rendering.weights_packed(
        values.density * samples.length,
        samples.ray,
        longest=longest_ray(config, samples.ray.shape[0], num_rays),
    )
    rendered = volume_rendering.composite_packed(
        weights, values.color, samples.distance, samples.ray, num_rays=num_rays
    )
    return PackedRender(
        rays=rendered,
        kept=kept,
        needed=marching.num_needed(candidates),
        samples=samples,
        weights=weights,
    )


def longest_ray(config: MarchingConfig, num_slots: int, num_rays: int) -> int:
    """Bound on the samples of one ray in a pack: few rays get more placed samples each than there
    are candidates."""
    return max(config.num_candidates, -(-num_slots // num_rays))


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

    Pack after pack takes the next samples of every ray that can still show something; a ray whose
    transmittance has fallen below 1e-4 is done.
    """
    num_rays = rays.origins.shape[0]
    candidates = marching.find_candidates(
        config,
        grid_config,
        grid,
        bounds,
        rays,
        step=step,
        offset=jnp.full((num_rays,), 0.5),
    )
    counts = marching.num_samples(candidates)

    def is_alive(carry):
        return (carry.taken < counts) & (carry.opacity < 1.0 - _OPAQUE)

    def body(carry):
        samples, taken = marching.pack_next(
            config, candidates, bounds, carry.taken, is_alive(carry)
        )
        values = _evaluate(field_fn, config, params, bounds, rays, samples)
        weights = volume_rendering.weights_packed(
            values.density * samples.length, samples.ray, longest=config.num_candidates
        )
        weights = weights * (1.0 - carry.opacity)[samples.ray]
        columns = jnp.concatenate(
            [values.color, samples.distance[:, None], jnp.ones((config.budget, 1))], axis=-1
        )
        sums = jax.ops.segment_sum(
            weights[:, None] * columns, samples.ray, num_segments=num_rays, indices_are_sorted=True
        )
        return _Progress(
            taken=taken,
            color=carry.color + sums[:, :3],
            opacity=carry.opacity + sums[:, 4],
            moment=carry.moment + sums[:, 3],
        )

    zeros = jnp.zeros((num_rays,))
    start = _Progress(jnp.zeros((num_rays,), jnp.int32), jnp.zeros((num_rays, 3)), zeros, zeros)
    end = jax.lax.while_loop(lambda carry: jnp.any(is_alive(carry)), body, start)
    seen = end.opacity > 1e-10
    return RenderedRays(
        color=end.color,
        opacity=end.opacity,
        depth=jnp.where(seen, end.moment / jnp.where(seen, end.opacity, 1.0), 0.0),
    )


def render_placed(
    field_fn: FieldFn,
    density_fn: Callable[[Any, Float[Array, "n 3"]], Float[Array, " n"]],
    config: MarchingConfig,
    grid_config: OccupancyConfig,
    params: Any,
    grid: OccupancyState,
    bounds: SceneBounds,
    rays: Rays,
    *,
    num_samples: int,
) -> RenderedRays:
    """Renders rays with samples where the field absorbs light, see `importance`, for looking.

    Rays are taken in blocks of as many as the sample budget holds.
    """
    num_rays = rays.origins.shape[0]
    block = min(max(1, config.budget // num_samples), num_rays)
    step = marching.shortest_step(config, bounds)

    def render(rays):
        depth_fn = functools.partial(
            optical_depth, functools.partial(density_fn, params), config, bounds, rays
        )
        return render_packed(
            field_fn,
            config,
            grid_config,
            params,
            grid,
            bounds,
            rays,
            step=step,
            offset=jnp.full((block,), 0.5),
            place_fn=lambda candidates: importance.place(
                config, None, candidates, bounds, depth_fn, num_samples=num_samples
            ),
        ).rays

    padding = -num_rays % block
    blocks = jax.tree.map(
        lambda leaf: jnp.pad(leaf, ((0, padding), (0, 0)), "edge").reshape(-1, block, 3), rays
    )
    rendered = jax.lax.map(render, blocks)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:num_rays], rendered)


class _Progress(NamedTuple):
    """How far rays have been rendered: samples taken, and the sums over them."""

    taken: Int[Array, " rays"]
    color: Float[Array, "rays 3"]
    opacity: Float[Array, " rays"]
    moment: Float[Array, " rays"]


def scale_gradients(values: FieldSample, share: Float[Array, " n"]) -> FieldSample:
    """Leaves a field's values as they are and takes a share of the slopes back through them.

    A camera's rays crowd in front of it: by the square of the distance more of them pass a point
    near it than one far from it, so fog there is learned before the scene is. Source: Philip and
    Deschaintre 2023 (Floaters No More), section 4.
    """
    share = jax.lax.stop_gradient(share)

    def scale(value, share):
        return share * value + jax.lax.stop_gradient((1.0 - share) * value)

    return FieldSample(
        density=scale(values.density, share), color=scale(values.color, share[:, None])
    )


def optical_depth(
    density_fn: Callable[[Float[Array, "n 3"]], Float[Array, " n"]],
    config: MarchingConfig,
    bounds: SceneBounds,
    rays: Rays,
    samples: PackedSamples,
) -> Float[Array, " n"]:
    """Density times length of samples, by a function of points of the unit cube."""
    unit, _, shrinking = _places(config, bounds, rays, samples)
    density = density_fn(unit)
    return samples.length * (density if shrinking is None else density * shrinking)


def _evaluate(
    field_fn: FieldFn,
    config: MarchingConfig,
    params: Any,
    bounds: SceneBounds,
    rays: Rays,
    samples: PackedSamples,
    ray_inputs: Float[Array, "rays inputs"] | None = None,
) -> FieldSample:
    """Evaluates the field at samples; density comes back per scene unit."""
    unit, directions, shrinking = _places(config, bounds, rays, samples)
    more = () if ray_inputs is None else (ray_inputs[samples.ray],)
    values = field_fn(params, unit, directions, *more)
    if shrinking is None:
        return values
    return values._replace(density=values.density * shrinking)


def _places(config: MarchingConfig, bounds: SceneBounds, rays: Rays, samples: PackedSamples) -> Any:
    """Where samples lie in the unit cube, from where they are seen, and how much space shrinks."""

    def place(ray, distance):
        directions = rays.directions[ray]
        points = rays.origins[ray] + distance[:, None] * directions
        unit = spaces.to_unit(config.space, bounds, points)
        if config.space == "bounded":
            return unit, directions, None
        return unit, directions, spaces.shrinking(config.space, bounds, points)

    return in_halves(place, samples.ray, samples.distance)
