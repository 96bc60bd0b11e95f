"""The heart of the job: one jitted step that draws rays, renders them, learns, and updates grid and
sampler.

The step is a pure function of (state, data, run key). All randomness is folded from the run key and
the step's number, so a resumed run repeats the stream it would have had. The old state is donated.

A step whose loss or gradient is not finite changes nothing, not even the step's number: the
returned state is the one that produced the fault, `metrics.is_finite` says so, and running it again
reproduces it.

The file is long because the step is told in one piece.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Key

from samplers import corrections
from samplers import pixels as sampler_pixels
from samplers.base import Feedback, Sampler, multiply_high
from samplers.device_axis import ALONE, DeviceAxis, axis_of, jit_step
from samplers.pixels import PixelCoord
from samplers.threefry import unrolled
from scenes import backgrounds, posed_images
from scenes.backgrounds import Background
from scenes.posed_images import Pixels
from scenes.rays import camera_rays

from . import (
    depth,
    fields,
    importance,
    losses,
    marching,
    occupancy,
    optimizer,
    rendering,
    spaces,
    view_corrections,
    volume_rendering,
)
from .depth import DepthConfig
from .fields import FieldConfig
from .marching import MarchingConfig
from .occupancy import OccupancyConfig, OccupancyState
from .optimizer import OptimizerConfig
from .spaces import SceneBounds
from .view_corrections import CorrectionConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class NerfConfig:
    """Everything that shapes the compiled step."""

    field: FieldConfig = FieldConfig()
    occupancy: OccupancyConfig = OccupancyConfig()
    marching: MarchingConfig = MarchingConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    num_steps: int = 2000
    """Length of the run, which sets the pace at which the learning rate falls."""
    rays_per_step: int = 2048
    loss: Literal["huber", "squared"] = "huber"
    background: Background = "random"
    """Behind transparent pixels during training; images without alpha hide it."""
    opaque_background: Background | None = None
    """Behind rays that reach the far side, for images without alpha. None: random in unbounded
    scenes, black in others, see `behind_opaque`."""
    opacity_entropy_weight: float = 0.0
    distortion_weight: float = 0.0
    """Pulls the weights of each ray together, see `losses.distortion`."""
    depth: DepthConfig = DepthConfig()
    corrections: CorrectionConfig = CorrectionConfig()
    """Colours, appearance and poses of single photographs, see `view_corrections`."""
    occupancy_every: int = 16
    """Steps between two updates of the occupancy grid."""
    steps_per_call: int = 1
    """Steps in one jitted call; above 1 they run in a scan, which hides the host on an
    accelerator."""
    track_seen: bool = False
    """Remember which pixels were ever drawn, a byte for each."""

    def __post_init__(self):
        """Refuses empty runs."""
        for name in ("num_steps", "rays_per_step", "occupancy_every", "steps_per_call"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        num_rays = self.rays_per_step + self.depth.keypoint_rays
        if is_placed(self) and self.marching.budget < 4 * num_rays:
            raise ValueError(
                "samples that are placed need a marching budget of at least 4 per ray, "
                f"got {self.marching.budget} for {num_rays} rays"
            )

    @property
    def behind_opaque(self) -> Background:
        """What is put behind rays that reach the far side, for images without alpha.

        In an unbounded scene every ray ends at something. A background of one colour is one that
        the field gets for nothing: dark things become holes in a bright haze, and stay so. Behind
        random colours only what is opaque fits the photographs.
        """
        if self.opaque_background is not None:
            return self.opaque_background
        return "random" if self.marching.space == "unbounded" else "black"


class TrainState(NamedTuple):
    """All that the next step needs."""

    step: Int[Array, ""]
    params: Any
    optimizer: Any
    grid: OccupancyState
    step_scale: Float[Array, ""]
    """Width of a marching step over the shortest one."""
    run_length: Float[Array, ""]
    """Steps the run is planned to have, at whose end the learning rate is at its lowest; may be
    changed between steps."""
    sampler: Any
    seen: Any = ()
    """Pixels drawn so far, Bool[views rows cols], where the run tracks them."""


class TrainData(NamedTuple):
    """What is learned from; never changes during a run."""

    pixels: Pixels
    bounds: SceneBounds
    depth_pixels: Int[Array, " points"] | None = None
    """Flat indices of the pixels whose depth is known, where the job asks for rays through them."""


class StepMetrics(NamedTuple):
    """What one step tells."""

    loss: Float[Array, ""]
    mse: Float[Array, ""]
    """Plain mean squared error of the kept rays with the draw's weights: an estimate for the mean
    over all pixels, except with samplers that leave their preference in the loss."""
    is_finite: Bool[Array, ""]
    kept_rays: Int[Array, ""]
    needed_samples: Int[Array, ""]
    fill: Float[Array, ""]
    """Share of the sample budget that was used."""
    step_scale: Float[Array, ""]
    occupied: Float[Array, ""]
    """Share of the occupancy grid that is occupied."""
    depth_loss: Float[Array, ""]
    """What the depth of rays asks for, weighted, as it enters `loss`; 0 without."""
    effective_rays: Float[Array, ""]
    """(sum w)^2 / sum w^2 over the draw's weights: how many equal weights they are worth."""
    gradient_norm: Float[Array, ""]


StepFn = Callable[[TrainState, TrainData, Key[Array, ""]], tuple[TrainState, StepMetrics]]


def init_state(
    config: NerfConfig,
    key: Key[Array, ""],
    sampler: Sampler,
    *sampler_data: Any,
    mask: Bool[Array, "..."] | None = None,
    image_shape: tuple[int, int, int] = (0, 0, 0),
) -> TrainState:
    """Draws a fresh field and sampler.

    Args:
      sampler_data: what the sampler's `init` takes after its key.
      mask: pixels that may be drawn, for samplers that know masks.
      image_shape: number, rows and columns of the training views, when their corrections are
        learned or the pixels drawn are tracked.
    """
    key_field, key_sampler = jax.random.split(key)
    params = {
        **fields.init(config.field, key_field),
        **view_corrections.init(config.corrections, image_shape[0], config.field.hidden_width),
    }
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        optimizer=optimizer.make_optimizer(config.optimizer, config.corrections).init(params),
        grid=occupancy.init(config.occupancy),
        step_scale=jnp.asarray(config.marching.max_step_scale, jnp.float32),
        run_length=jnp.asarray(config.num_steps, jnp.float32),
        sampler=sampler.plan(sampler.init(key_sampler, *sampler_data, mask=mask), config.num_steps),
        seen=jnp.zeros(image_shape, bool) if config.track_seen else (),
    )


def make_train_step(config: NerfConfig, sampler: Sampler, mesh: Mesh | None = None) -> StepFn:
    """Builds the jitted step: `steps_per_call` steps, the old state donated, metrics of each
    step stacked.

    Args:
      mesh: devices that share the work, see `samplers.device_axis`; state, data and metrics are
        the same on all of them. None: one device.
    Raises:
      ValueError: when the devices do not divide the rays or the sample budget.
    """
    axis = axis_of(mesh)
    check_shares(config, axis)

    def call(state: TrainState, data: TrainData, run_key: Key[Array, ""]):
        if config.steps_per_call == 1:
            return train_step(config, sampler, state, data, run_key, axis=axis)
        return jax.lax.scan(
            lambda carry, _: train_step(config, sampler, carry, data, run_key, axis=axis),
            state,
            length=config.steps_per_call,
        )

    return jit_step(call, mesh)


def check_shares(config: NerfConfig, axis: DeviceAxis) -> None:
    """Refuses settings that the devices do not divide.

    Raises:
      ValueError: naming the setting.
    """
    num_rays = config.rays_per_step + config.depth.keypoint_rays
    axis.share_of(num_rays, "rays per step (keypoint rays included)")
    axis.share_of(config.marching.budget, "samples (marching.budget)")


def train_step(
    config: NerfConfig,
    sampler: Sampler,
    state: TrainState,
    data: TrainData,
    run_key: Key[Array, ""],
    *,
    axis: DeviceAxis = ALONE,
) -> tuple[TrainState, StepMetrics]:
    """Does one step. Pure; `make_train_step` jits it.

    Args:
      axis: the mapped axis of devices it runs under. All draw the same rays, and each renders its
        own of them with its share of the sample budget; gradients and metrics are added up.
    """
    march = dataclasses.replace(
        config.marching, budget=axis.share_of(config.marching.budget, "samples")
    )
    key = unrolled(jax.random.fold_in(run_key, state.step))
    key_draw, key_turn, key_offset, key_background, key_grid, key_guide, key_points = (
        jax.random.split(key, 7)
    )
    shortest = marching.shortest_step(config.marching, data.bounds)

    draw = axis.from_first(sampler.sample(key_draw, state.sampler))
    pixels = data.pixels
    rows, cols = pixels.images.shape[1:3]
    # walkers count as the pixel they stand on: photographs say nothing about places between
    drawn = sampler_pixels.pixel_indices(draw.items, rows, cols)
    view, xy = sampler_pixels.pixel_centres(drawn, rows, cols)
    num_drawn = view.shape[0]
    if config.depth.keypoint_rays:
        view, xy = _with_keypoints(config, key_points, data, view, xy)
    num_rays = view.shape[0]
    view, xy = axis.own((view, xy))
    # samplers that move through the images learn from the slope of the loss by the place
    is_moving = isinstance(draw.items, PixelCoord)
    policy = config.background if pixels.images.shape[-1] == 4 else config.behind_opaque
    behind = axis.own(backgrounds.background_colors(policy, key_background, num_rays))
    counted = axis.own(jnp.arange(num_rays) < num_drawn)
    if pixels.masks is not None:
        counted = counted & posed_images.gather_at(pixels.masks, view, xy)
    # A ray that does not fit the budget is left out, and it is always a late one. Draws may be
    # ordered (strata), so rays are turned by a random amount while they are packed: every ray is
    # equally likely to be late.
    turn = multiply_high(jax.random.bits(key_turn), np.uint32(num_rays)).astype(jnp.int32)
    offset = _offsets(axis, key_offset, num_rays, turn)
    known = _known_depth(config, data, view, xy, turn)

    def loss_fn(params, xy):
        rays = camera_rays(pixels.cameras, view, xy)
        rays = view_corrections.move_rays(config.corrections, params, view, rays, data.bounds)
        target = _target(pixels, view, xy, behind, is_moving)
        bias = view_corrections.color_bias(config.corrections, params, view)
        render = rendering.render_packed(
            functools.partial(fields.evaluate, config.field),
            march,
            config.occupancy,
            params,
            state.grid,
            data.bounds,
            jax.tree.map(lambda leaf: jnp.roll(leaf, turn, axis=0), rays),
            step=shortest if is_placed(config) else shortest * state.step_scale,
            offset=offset,
            place_fn=_placing(
                config, march, axis.own_key(key_guide), params, data.bounds, rays, turn, known
            ),
            ray_inputs=None if bias is None else jnp.roll(bias, turn, axis=0),
        )
        rendered = jax.tree.map(lambda leaf: jnp.roll(leaf, -turn, axis=0), render.rays)
        rendered = view_corrections.recolor(config.corrections, params, view, rendered)
        color = volume_rendering.over_background(rendered, behind)
        per_ray = (losses.huber if config.loss == "huber" else losses.squared_error)(color, target)
        used = jnp.roll(render.kept, -turn) & counted
        weights = draw.weights
        if sampler.reweigh is not None:
            errors = jax.lax.stop_gradient(jnp.mean(jnp.abs(color - target), axis=-1))
            weights = sampler.reweigh(state.sampler, draw, axis.whole(errors)[:num_drawn])
        row_weights = axis.own(jnp.pad(weights, (0, num_rays - num_drawn)))
        share = jnp.where(used, row_weights, 0.0) / jnp.maximum(axis.sum(jnp.sum(used)), 1)
        regular = _regularisers(config, data.bounds, render, rendered, turn)
        total = jnp.sum(share * (per_ray if regular is None else per_ray + regular))
        from_depth = jnp.zeros(())
        if known is not None:
            by_depth = depth.loss(config.depth, render.weights, render.samples, known)
            informed = axis.sum(jnp.sum(known.mask & render.kept))
            # rays through keypoints are no part of the draw
            drawn_for = jnp.pad(weights, (0, num_rays - num_drawn), constant_values=1.0)
            by_depth = by_depth * jnp.roll(axis.own(drawn_for), turn)
            from_depth = jnp.sum(jnp.where(render.kept, by_depth, 0.0)) / jnp.maximum(informed, 1)
            total = total + from_depth
        total = total + axis.once(view_corrections.penalty(config.corrections, params))
        squared = losses.squared_error(color, target)
        mse = jnp.sum(share * squared)
        return total, (per_ray, mse, from_depth, used, share, weights, render)

    differentiate = jax.value_and_grad(loss_fn, argnums=(0, 1) if is_moving else (0,), has_aux=True)
    (loss, aside), (grads, *moves) = differentiate(state.params, xy)
    per_ray, mse, from_depth, used, share, weights, render = aside
    loss, mse, from_depth, grads = axis.sum((loss, mse, from_depth, grads))
    norm = optax.tree.norm(grads)
    is_finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    adam = optimizer.make_optimizer(config.optimizer, config.corrections)
    updates, moments = adam.update(grads, state.optimizer, state.params)
    # a run of another length goes through the same rates, faster or more slowly
    rate_at = optimizer.learning_rate(config.optimizer, config.num_steps)
    rate = rate_at(state.step * (config.num_steps / state.run_length))
    params = optax.apply_updates(state.params, optax.tree.scale(rate, updates))

    def keep_if_faulty(after, before):
        return jax.tree.map(lambda new, old: jnp.where(is_finite, new, old), after, before)

    params = keep_if_faulty(params, state.params)  # before anything reads them: they exist once
    density = functools.partial(
        axis.spread, functools.partial(fields.density, config.field, params)
    )
    grid = jax.lax.cond(
        is_finite & (state.step % config.occupancy_every == config.occupancy_every - 1),
        lambda grid: occupancy.update(config.occupancy, key_grid, grid, density, step=shortest),
        lambda grid: grid,
        state.grid,
    )
    feedback = Feedback(
        value=axis.whole(jax.lax.stop_gradient(per_ray))[:num_drawn],
        valid=axis.whole(used)[:num_drawn],
        grad=axis.whole(_slopes(moves[0], share, rows, cols))[:num_drawn] if is_moving else None,
    )
    new_sampler = jax.lax.cond(
        is_finite,
        lambda sampler_state: sampler.update(sampler_state, draw, feedback),
        lambda sampler_state: sampler_state,
        state.sampler,
    )

    seen = state.seen
    if config.track_seen:
        seen = seen.at[drawn.view, drawn.row, drawn.col].max(is_finite)

    needed = axis.sum(render.needed)
    step_scale = _next_step_scale(config, state.step_scale, needed)
    new = TrainState(
        step=keep_if_faulty(state.step + 1, state.step),
        params=params,
        optimizer=keep_if_faulty(moments, state.optimizer),
        grid=grid,
        step_scale=keep_if_faulty(step_scale, state.step_scale),
        run_length=state.run_length,
        sampler=new_sampler,
        seen=seen,
    )
    metrics = StepMetrics(
        loss=loss,
        mse=mse,
        is_finite=is_finite,
        kept_rays=axis.sum(jnp.sum(used)),
        needed_samples=needed,
        fill=axis.mean(jnp.mean(render.samples.valid.astype(jnp.float32))),
        step_scale=state.step_scale,
        occupied=occupancy.occupied_fraction(state.grid),
        depth_loss=from_depth,
        effective_rays=corrections.effective_sample_size(weights),
        gradient_norm=norm,
    )
    return new, metrics


def _offsets(axis, key, num_rays, turn):
    """Where in a step each ray is sampled first, in the order rays are packed in; the same for each
    ray on any number of devices."""
    offset = jax.random.uniform(key, (num_rays,))
    if axis.name is None:
        return offset
    return jnp.roll(axis.own(jnp.roll(offset, -turn)), turn)


def _with_keypoints(config, key, data, view, xy):
    """Adds rays through pixels whose depth is known."""
    if data.depth_pixels is None:
        raise ValueError("depth.keypoint_rays needs TrainData.depth_pixels")
    rows, cols = data.pixels.images.shape[1:3]
    chosen = depth.keypoints(key, data.depth_pixels, config.depth.keypoint_rays)
    more_view, more_xy = sampler_pixels.pixel_centres(chosen, rows, cols)
    return jnp.concatenate([view, more_view]), jnp.concatenate([xy, more_xy])


def _known_depth(config, data, view, xy, turn):
    """The known depth of the rays in the order they are packed in; None where none is used."""
    if not config.depth.is_used:
        return None
    if data.pixels.depth is None:
        raise ValueError("training with depth needs TrainData.pixels.depth")
    distance = jnp.roll(posed_images.gather_at(data.pixels.depth, view, xy), turn)
    mask = jnp.isfinite(distance) & (distance > 0)
    x = spaces.coordinate(config.marching.space, data.bounds, jnp.where(mask, distance, 0.0))
    return depth.Known(x=x, mask=mask)


def is_placed(config: NerfConfig) -> bool:
    """Says whether samples are placed by what is known of a ray, not in even steps."""
    return config.depth.is_guided or config.marching.num_coarse > 0


def _placing(config, march, key, params, bounds, rays, turn, known):
    """How samples are placed on rays, which are packed `turn` places later; None: evenly."""
    if not is_placed(config):
        return None
    packed = jax.lax.stop_gradient(jax.tree.map(lambda leaf: jnp.roll(leaf, turn, axis=0), rays))
    density = functools.partial(fields.density, config.field, jax.lax.stop_gradient(params))
    depth_fn = functools.partial(rendering.optical_depth, density, march, bounds, packed)
    num_samples = max(1, march.budget // rays.origins.shape[0])

    def place(candidates):
        if not config.depth.is_guided:
            return importance.place(
                march, key, candidates, bounds, depth_fn, num_samples=num_samples
            )
        key_look, key_place = jax.random.split(key)
        edges = None
        if march.num_coarse:
            edges = importance.look(march, key_look, candidates, bounds, depth_fn)
        return depth.guided_samples(
            config.depth, march, key_place, candidates, bounds, known, edges
        )

    return place


def _target(pixels, view, xy, behind, is_moving):
    if not is_moving:
        return backgrounds.composite(posed_images.gather_at(pixels.images, view, xy), behind)
    return backgrounds.compose(posed_images.gather_sloped(pixels.images, view, xy), behind)


def _regularisers(config, bounds, render, rendered, turn):
    """What is asked of a ray beside its colour; None when nothing is."""
    total = None
    if config.opacity_entropy_weight > 0.0:
        total = config.opacity_entropy_weight * losses.opacity_entropy(rendered.opacity)
    if config.distortion_weight > 0.0:
        scale = spaces.longest_march(config.marching.space, bounds)
        spread = losses.distortion(
            render.weights,
            render.samples.place / scale,
            render.samples.width / scale,
            render.samples.ray,
            num_rays=rendered.opacity.shape[0],
            longest=rendering.longest_ray(
                config.marching, render.weights.shape[0], rendered.opacity.shape[0]
            ),
        )
        spread = config.distortion_weight * jnp.roll(spread, -turn)
        total = spread if total is None else total + spread
    return total


def _slopes(move, share, rows, cols):
    """Derivative of each ray's own loss by its place in the image (uv), from that of the mean."""
    own = move / jnp.where(share > 0.0, share, 1.0)[:, None]
    return own * jnp.array([[cols, rows]], own.dtype)


def _next_step_scale(config, scale, needed):
    if config.depth.is_guided:
        # samples are placed, not marched: their typical width is what pictures should know
        width = needed / config.marching.budget
        return jnp.clip(width, 1.0, config.marching.max_step_scale)
    if config.marching.num_coarse:
        return jnp.ones_like(scale)
    return marching.next_step_scale(config.marching, scale, needed)
