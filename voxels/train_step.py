"""One step of shaping a world: draw cameras, render, ask the guide, pull back, update.

`train_step` is one pure function to be jitted with its state donated. Guides that are opaque to
JAX run between its two halves, `look` and `learn`, which are jitted on their own; both ways take
the same numbers in the same order. All randomness is fold_in(run_key, step), so a run continues
bit for bit from a saved state.
"""

import dataclasses
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from samplers.base import Draw, Feedback, Sampler
from scenes.cameras import Cameras

from .grid import VoxelGrid, bound_logits, temper
from .guidance.protocol import Guidance, Pull, Query
from .losses import LossWeights, Priors, grid_loss
from .optimizer import adam_per_cell
from .rendering.images import RenderConfig, render_views
from .schedules import geometric, linear


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a world is optimised.

    Attributes:
      render: what a training view is.
      num_steps: length of the run; schedules end there.
      restarts: shares of the run, rising, at which it begins anew from what it has found so far:
        logits are brought within `restart_logit` and the schedules here go back to their start;
        that of a guide's noise goes by the whole run.
      restart_logit: the doubt of a restart, as `max_logit`.
      learning_rate, final_learning_rate: Adam's, falling geometrically.
      temperature_start, temperature_end: logits are divided by this, changing geometrically.
      variance_start, variance_end: weight of the variance of a pixel, see `pixel_variance`,
        growing linearly. From about the weight of the guide's own loss on, a world of doubts
        cannot win over a decided one.
      max_gradient_norm: the gradient is scaled down to this L2 norm; 0 leaves it alone.
      max_logit: logits are kept within this of zero, so that none is out of reach of a gradient.
      losses: weights of the priors.
    """

    render: RenderConfig
    num_steps: int = 800
    restarts: tuple[float, ...] = ()
    restart_logit: float = 2.0
    learning_rate: float = 0.2
    final_learning_rate: float = 0.05
    temperature_start: float = 1.0
    temperature_end: float = 1.0
    variance_start: float = 0.0
    variance_end: float = 1.0
    max_gradient_norm: float = 0.0
    max_logit: float = 8.0
    losses: LossWeights = dataclasses.field(default_factory=LossWeights)

    def __post_init__(self) -> None:
        rates = (self.learning_rate, self.final_learning_rate)
        heats = (self.temperature_start, self.temperature_end)
        logits = (self.max_logit, self.restart_logit)
        if min(*rates, *heats, *logits) <= 0 or self.num_steps < 1:
            raise ValueError("learning rates, temperatures, logits and num_steps must be > 0")
        if self.render.backend == "splat":
            raise ValueError(
                "training marches: splatting needs room that changes with the world; it is for "
                "pictures, see rendering.planning.render_planned"
            )
        ends = (0.0, *self.restarts, 1.0)
        if any(b <= a for a, b in itertools.pairwise(ends)):
            raise ValueError(f"restarts must rise within (0, 1), got {self.restarts}")
        if min(self.max_gradient_norm, self.variance_start, self.variance_end) < 0:
            raise ValueError("needed max_gradient_norm and the weights of variance >= 0")


class World(NamedTuple):
    """What a step reads and does not change.

    Attributes:
      cameras: all cameras a sampler may draw.
      lit: colour of each material by face.
      sky: colour behind everything.
      priors: targets of the functional losses.
      guide: the arrays of the guide.
    """

    cameras: Cameras
    lit: Float[Array, "materials 6 3"]
    sky: Float[Array, " 3"]
    priors: Priors
    guide: Any


class TrainState(NamedTuple):
    """What a step changes."""

    grid: VoxelGrid
    optimizer: Any
    sampler: Any
    step: Int[Array, ""]


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Adam per cell with a geometrically falling rate, and clipping where asked for."""

    def rate(step: Any) -> Array:
        progress = since_restart(config, step)
        return geometric(config.learning_rate, config.final_learning_rate, progress)

    adam = adam_per_cell(rate)
    if not config.max_gradient_norm:
        return adam
    return optax.chain(optax.clip_by_global_norm(config.max_gradient_norm), adam)


def init_state(
    config: TrainConfig, sampler: Sampler, key: Key[Array, ""], grid: VoxelGrid, *data: Any
) -> TrainState:
    """Starts a run at a grid; `data` is what the sampler's init needs."""
    optimizer = make_optimizer(config).init(grid)
    return TrainState(grid, optimizer, sampler.init(key, *data), jnp.zeros((), jnp.int32))


def since_restart(config: TrainConfig, step: Int[Array, ""] | int) -> Float[Array, ""]:
    """Progress at a step, 0 to 1, of the stretch between two restarts that it lies in."""
    firsts = jnp.asarray(_stretches(config), jnp.float32)
    step = jnp.clip(jnp.asarray(step, jnp.float32), 0.0, firsts[-1])
    at = jnp.clip(jnp.sum(step >= firsts) - 1, 0, firsts.size - 2)
    return (step - firsts[at]) / (firsts[at + 1] - firsts[at])


def _stretches(config: TrainConfig) -> tuple[int, ...]:
    """First step of each stretch between restarts, and the number of steps."""
    inner = (max(1, round(share * config.num_steps)) for share in config.restarts)
    return tuple(sorted({0, *(s for s in inner if s < config.num_steps), config.num_steps}))


def temperature(config: TrainConfig, step: Int[Array, ""]) -> Float[Array, ""]:
    """What logits are divided by at a step."""
    progress = since_restart(config, step)
    return geometric(config.temperature_start, config.temperature_end, progress)


def render_at(
    config: TrainConfig,
    grid: VoxelGrid,
    world: World,
    views: Int[Array, " views"],
    step: Int[Array, ""],
) -> Float[Array, "views rows cols 3"]:
    """Colours of views at the temperatures of a step."""
    return render_moments(config, grid, world, views, step)[..., :3]


def render_moments(
    config: TrainConfig,
    grid: VoxelGrid,
    world: World,
    views: Int[Array, " views"],
    step: Int[Array, ""],
) -> Float[Array, "views rows cols 4"]:
    """Colours of views, and the mean squared length of the colours they are mixed from."""
    logits, probs = temper(grid, temperature(config, step))
    lit, sky = (
        jnp.concatenate([color, jnp.sum(jnp.square(color), axis=-1, keepdims=True)], axis=-1)
        for color in (world.lit, world.sky)
    )
    return render_views(config.render, logits, probs, lit, sky, world.cameras, views).color


def pixel_variance(
    moments: Float[Array, "views rows cols 4"],
) -> Float[Array, "views rows cols"]:
    """Variance of each pixel over the worlds that a grid stands for, mean of the channels.

    Read each occupancy and each material as the chance of a block: a picture (of `solid` alpha)
    is then the mean of the pictures of all those worlds, and mean squared error plus variance is
    the mean of their squared errors. That is linear in every single chance, so its minima are
    worlds without doubts; a mixture of colours that only looks right on average is none.
    Source: the identity behind Zhang et al. 2025, "Radiance Surfaces", which moves the loss inside
    the rendering integral; here for occupancy and materials at once and any guide.
    """
    return (moments[..., 3] - jnp.sum(jnp.square(moments[..., :3]), axis=-1)) / 3.0


class Look(NamedTuple):
    """What a step saw.

    Attributes:
      draw: the cameras drawn.
      query: what to ask the guide.
      key: the guide's key.
      moments: see `render_moments`.
      pull_back: takes cotangents of `moments` to the grid.
    """

    draw: Draw
    query: Query
    key: Key[Array, ""]
    moments: Float[Array, "views rows cols 4"]
    pull_back: Any


def look(
    config: TrainConfig,
    sampler: Sampler,
    run_key: Key[Array, ""],
    state: TrainState,
    world: World,
) -> Look:
    """Draws cameras and renders them."""
    key_draw, key_guide = jax.random.split(jax.random.fold_in(run_key, state.step))
    draw = sampler.sample(key_draw, state.sampler)

    def moments_of(grid: VoxelGrid) -> Array:
        return render_moments(config, grid, world, draw.items, state.step)

    moments, pull_back = jax.vjp(moments_of, state.grid)
    progress = state.step / jnp.float32(config.num_steps)
    query = Query(jax.lax.stop_gradient(moments[..., :3]), draw.items, progress)
    return Look(draw, query, key_guide, moments, pull_back)


def learn(
    config: TrainConfig,
    sampler: Sampler,
    state: TrainState,
    world: World,
    seen: Look,
    pull: Pull,
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """Pulls the guide's answer back through the renderer and takes a step.

    Cotangents that are not finite count as 0, and are counted in the metrics. Their `loss` is what
    guide, variance and priors add up to; only guides that report a loss make it one that falls.
    """
    draw = seen.draw
    is_finite = jnp.isfinite(pull.gradient)
    cotangent = jnp.where(is_finite, pull.gradient, 0.0)
    progress = since_restart(config, state.step)
    weight = linear(config.variance_start, config.variance_end, progress)
    variance, pull_variance = jax.vjp(pixel_variance, seen.moments)
    num_pixels = config.render.rows * config.render.cols
    (from_variance,) = pull_variance(jnp.full_like(variance, weight / num_pixels))
    cotangent = from_variance.at[..., :3].add(cotangent)
    cotangent *= (draw.weights / draw.weights.shape[0])[:, None, None, None]
    (from_images,) = seen.pull_back(cotangent)
    (prior, parts), from_priors = jax.value_and_grad(
        lambda grid: grid_loss(config.losses, grid, world.priors), has_aux=True
    )(state.grid)
    gradient = jax.tree.map(jnp.add, from_images, from_priors)
    updates, optimizer = make_optimizer(config).update(gradient, state.optimizer, state.grid)
    is_restart = jnp.isin(state.step + 1, jnp.asarray(_stretches(config)[1:-1], jnp.int32))
    limit = jnp.where(is_restart, config.restart_logit, config.max_logit)
    grid = bound_logits(optax.apply_updates(state.grid, updates), limit)  # pyright: ignore[reportArgumentType]
    sampler_state = sampler.update(state.sampler, draw, Feedback(value=pull.value))
    views = draw.items.shape[0]
    metrics = {
        "loss": jnp.mean(pull.value) + weight * jnp.mean(variance) + prior,
        "guide": jnp.mean(pull.value),
        "variance": jnp.mean(variance),
        "prior": prior,
        "temperature": temperature(config, state.step),
        "occupancy_gradient_norm": jnp.linalg.norm(gradient.occupancy_logits.reshape(-1)),
        "material_gradient_norm": jnp.linalg.norm(gradient.material_logits.reshape(-1)),
        "gradient_max": jnp.maximum(*(jnp.max(jnp.abs(part)) for part in gradient)),
        "num_bad_cotangents": jnp.sum(~is_finite).astype(jnp.float32),
        **{f"camera_{i}": draw.items[i].astype(jnp.float32) for i in range(views)},
        **pull.metrics,
        **{f"prior_{name}": value for name, value in parts.items()},
    }
    return TrainState(grid, optimizer, sampler_state, state.step + 1), metrics


def train_step(
    config: TrainConfig,
    sampler: Sampler,
    guidance: Guidance,
    run_key: Key[Array, ""],
    state: TrainState,
    world: World,
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """One whole step with a guide that can be traced; bind the first three and jit.

    Raises:
      ValueError: when traced with an opaque guide; use `look` and `learn` around it.
    """
    if not guidance.is_traceable:
        raise ValueError(f'guidance "{guidance.name}" runs outside jit; use look and learn')
    seen = look(config, sampler, run_key, state, world)
    pull = guidance.pull(world.guide, seen.key, seen.query)
    return learn(config, sampler, state, world, seen, pull)
