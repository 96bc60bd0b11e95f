"""The heart of the job: one jitted step that draws rays, renders them, learns, and updates grid and
sampler.

The step is a pure function of (state, data, run key). All randomness is folded from the run key and
the step's number, so a resumed run repeats the stream it would have had. The old state is donated.

A step whose loss or gradient is not finite changes nothing, not even the step's number: the
returned state is the one that produced the fault, `metrics.is_finite` says so, and running it again
reproduces it.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from samplers import pixels as sampler_pixels
from samplers.base import Feedback, Sampler
from scenes import backgrounds, posed_images
from scenes.backgrounds import Background
from scenes.posed_images import Pixels
from scenes.rays import camera_rays

from . import fields, losses, marching, occupancy, rendering
from .fields import FieldConfig
from .marching import MarchingConfig
from .occupancy import OccupancyConfig, OccupancyState
from .spaces import SceneBounds


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Adam with a warm-up and an exponential fall of the learning rate over the last part of the
    run."""

    learning_rate: float = 1e-2
    final_fraction: float = 0.03
    """Learning rate at the last step, as a share of the peak."""
    decay_start: float = 0.3
    """Share of the run after which the learning rate begins to fall."""
    warmup_steps: int = 20
    beta2: float = 0.99
    epsilon: float = 1e-15
    network_weight_decay: float = 1e-6

    def __post_init__(self):
        """Refuses rates that cannot train."""
        if not 0.0 < self.learning_rate <= 1.0:
            raise ValueError(f"learning_rate must lie in (0, 1], got {self.learning_rate}")
        if not 0.0 < self.final_fraction <= 1.0 or not 0.0 <= self.decay_start < 1.0:
            raise ValueError(
                "final_fraction must lie in (0, 1] and decay_start in [0, 1), "
                f"got {self.final_fraction} and {self.decay_start}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NerfConfig:
    """Everything that shapes the compiled step."""

    field: FieldConfig = FieldConfig()
    occupancy: OccupancyConfig = OccupancyConfig()
    marching: MarchingConfig = MarchingConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    num_steps: int = 2000
    rays_per_step: int = 2048
    loss: Literal["huber", "squared"] = "huber"
    background: Background = "random"
    """Behind transparent pixels during training; images without alpha hide it."""
    opaque_background: Background = "black"
    """Behind rays that reach the far side, for images without alpha."""
    opacity_entropy_weight: float = 0.0
    occupancy_every: int = 16
    """Steps between two updates of the occupancy grid."""
    steps_per_call: int = 1
    """Steps in one jitted call; above 1 they run in a scan, which hides the host on an
    accelerator."""

    def __post_init__(self):
        """Refuses empty runs."""
        for name in ("num_steps", "rays_per_step", "occupancy_every", "steps_per_call"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


class TrainState(NamedTuple):
    """All that the next step needs."""

    step: Int[Array, ""]
    params: Any
    optimizer: Any
    grid: OccupancyState
    step_scale: Float[Array, ""]
    """Width of a marching step over the shortest one."""
    sampler: Any


class TrainData(NamedTuple):
    """What is learned from; never changes during a run."""

    pixels: Pixels
    bounds: SceneBounds


class StepMetrics(NamedTuple):
    """What one step tells."""

    loss: Float[Array, ""]
    mse: Float[Array, ""]
    """Plain mean squared error of the kept rays, estimated for the mean over all pixels."""
    is_finite: Bool[Array, ""]
    kept_rays: Int[Array, ""]
    needed_samples: Int[Array, ""]
    fill: Float[Array, ""]
    """Share of the sample budget that was used."""
    step_scale: Float[Array, ""]
    occupied: Float[Array, ""]
    """Share of the occupancy grid that is occupied."""
    effective_rays: Float[Array, ""]
    """(sum w)^2 / sum w^2 over the draw's weights: how many equal weights they are worth."""
    gradient_norm: Float[Array, ""]


StepFn = Callable[[TrainState, TrainData, Key[Array, ""]], tuple[TrainState, StepMetrics]]


def learning_rate(config: NerfConfig) -> optax.Schedule:
    """Builds the rate over the run: linear warm-up, flat, exponential fall."""
    settings = config.optimizer
    peak, final = settings.learning_rate, settings.learning_rate * settings.final_fraction
    flat = max(1, int(config.num_steps * settings.decay_start))
    warmup = max(1, min(settings.warmup_steps, flat))
    return optax.join_schedules(
        [
            optax.linear_schedule(0.1 * peak, peak, warmup),
            optax.constant_schedule(peak),
            optax.exponential_decay(
                peak, max(1, config.num_steps - flat), final / peak, end_value=final
            ),
        ],
        [warmup, flat],
    )


def make_optimizer(config: NerfConfig) -> optax.GradientTransformation:
    """Builds Adam with the run's learning rate; weight decay touches the networks only."""
    settings = config.optimizer

    def is_network(params):
        return jax.tree_util.tree_map_with_path(
            lambda path, _: "tables" not in jax.tree_util.keystr(path), params
        )

    return optax.chain(
        optax.add_decayed_weights(settings.network_weight_decay, mask=is_network),
        optax.adam(learning_rate(config), b2=settings.beta2, eps=settings.epsilon),
    )


def init_state(
    config: NerfConfig, key: Key[Array, ""], sampler: Sampler, *sampler_data: Any
) -> TrainState:
    """Draws a fresh field and sampler."""
    key_field, key_sampler = jax.random.split(key)
    params = fields.init(config.field, key_field)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        optimizer=make_optimizer(config).init(params),
        grid=occupancy.init(config.occupancy),
        step_scale=jnp.asarray(config.marching.max_step_scale, jnp.float32),
        sampler=sampler.init(key_sampler, *sampler_data),
    )


def make_train_step(config: NerfConfig, sampler: Sampler) -> StepFn:
    """Builds the jitted step: `steps_per_call` steps, the old state donated, metrics of each
    step stacked."""

    def call(state: TrainState, data: TrainData, run_key: Key[Array, ""]):
        if config.steps_per_call == 1:
            return train_step(config, sampler, state, data, run_key)
        return jax.lax.scan(
            lambda carry, _: train_step(config, sampler, carry, data, run_key),
            state,
            length=config.steps_per_call,
        )

    return jax.jit(call, donate_argnums=0)


def train_step(
    config: NerfConfig,
    sampler: Sampler,
    state: TrainState,
    data: TrainData,
    run_key: Key[Array, ""],
) -> tuple[TrainState, StepMetrics]:
    """Does one step. Pure; `make_train_step` jits it."""
    key = jax.random.fold_in(run_key, state.step)
    key_draw, key_turn, key_offset, key_background, key_grid = jax.random.split(key, 5)
    shortest = marching.shortest_step(config.marching, data.bounds)

    # A ray that does not fit the budget is left out, and it is always a late one. Draws may be
    # ordered (strata), so they are first turned by a random amount: every ray is equally likely to
    # be late.
    draw = sampler.sample(key_draw, state.sampler)
    turn = jax.random.randint(key_turn, (), 0, draw.weights.shape[0])
    draw = jax.tree.map(lambda leaf: jnp.roll(leaf, turn, axis=0), draw)

    rows, cols = data.pixels.images.shape[1:3]
    view, xy = sampler_pixels.pixel_centres(draw.items, rows, cols)
    rays = camera_rays(data.pixels.cameras, view, xy)
    stored = posed_images.gather_at(data.pixels.images, view, xy)
    has_alpha = data.pixels.images.shape[-1] == 4
    policy = config.background if has_alpha else config.opaque_background
    behind = backgrounds.background_colors(policy, key_background, xy.shape[0])
    target = backgrounds.composite(stored, behind)
    counted = jnp.ones(xy.shape[:1], bool)
    if data.pixels.masks is not None:
        counted = posed_images.gather_at(data.pixels.masks, view, xy)
    offset = jax.random.uniform(key_offset, xy.shape[:1])

    def loss_fn(params):
        render = rendering.render_packed(
            functools.partial(fields.evaluate, config.field),
            config.marching,
            config.occupancy,
            params,
            state.grid,
            data.bounds,
            rays,
            step=shortest * state.step_scale,
            offset=offset,
        )
        color = rendering.volume_rendering.over_background(render.rays, behind)
        per_ray = (losses.huber if config.loss == "huber" else losses.squared_error)(color, target)
        if config.opacity_entropy_weight > 0.0:
            entropy = losses.opacity_entropy(render.rays.opacity)
            per_ray = per_ray + config.opacity_entropy_weight * entropy
        used = render.kept & counted
        share = jnp.where(used, draw.weights, 0.0) / jnp.maximum(jnp.sum(used), 1)
        squared = losses.squared_error(color, target)
        return jnp.sum(share * per_ray), (per_ray, jnp.sum(share * squared), used, render)

    (loss, (per_ray, mse, used, render)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
        state.params
    )
    norm = optax.tree.norm(grads)
    is_finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    updates, optimizer = make_optimizer(config).update(grads, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)

    density = functools.partial(fields.density, config.field, params)
    grid = jax.lax.cond(
        is_finite & (state.step % config.occupancy_every == config.occupancy_every - 1),
        lambda grid: occupancy.update(config.occupancy, key_grid, grid, density, step=shortest),
        lambda grid: grid,
        state.grid,
    )
    feedback = Feedback(value=jax.lax.stop_gradient(per_ray), valid=used)
    new_sampler = jax.lax.cond(
        is_finite,
        lambda sampler_state: sampler.update(sampler_state, draw, feedback),
        lambda sampler_state: sampler_state,
        state.sampler,
    )

    def keep_if_faulty(after, before):
        return jax.tree.map(lambda new, old: jnp.where(is_finite, new, old), after, before)

    step_scale = marching.next_step_scale(config.marching, state.step_scale, render.needed)
    new = TrainState(
        step=keep_if_faulty(state.step + 1, state.step),
        params=keep_if_faulty(params, state.params),
        optimizer=keep_if_faulty(optimizer, state.optimizer),
        grid=grid,
        step_scale=keep_if_faulty(step_scale, state.step_scale),
        sampler=new_sampler,
    )
    metrics = StepMetrics(
        loss=loss,
        mse=mse,
        is_finite=is_finite,
        kept_rays=jnp.sum(used),
        needed_samples=render.needed,
        fill=jnp.mean(render.samples.valid.astype(jnp.float32)),
        step_scale=state.step_scale,
        occupied=occupancy.occupied_fraction(state.grid),
        effective_rays=jnp.square(jnp.sum(draw.weights)) / jnp.sum(jnp.square(draw.weights)),
        gradient_norm=norm,
    )
    return new, metrics
