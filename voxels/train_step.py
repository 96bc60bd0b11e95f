"""One step of shaping a world: draw cameras, render, ask the guide, pull back, update.

`train_step` is one pure function to be jitted with its state donated. Guides that are opaque to
JAX run between its two halves, `look` and `learn`, which are jitted on their own; both ways take
the same numbers in the same order. All randomness is fold_in(run_key, step), so a run continues
bit for bit from a saved state.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from samplers.base import Draw, Feedback, Sampler
from scenes.cameras import Cameras

from .grid import VoxelGrid, blend_hard, temper
from .guidance.protocol import Guidance, Pull, Query, ask
from .losses import LossWeights, Priors, grid_loss
from .rendering.images import RenderConfig, render_views
from .schedules import geometric, linear


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a world is optimised.

    Attributes:
      render: what a training view is.
      num_steps: length of the run; schedules end there.
      learning_rate, final_learning_rate: Adam's, falling geometrically.
      temperature_start, temperature_end: logits are divided by this, falling geometrically; low
        at the end, so that what was optimised is what is exported.
      material_temperature_end: the same for materials, which start at 1.
      hardness_end: share of the likeliest material alone in what is rendered, rising linearly
        from 0; gradients stay those of the softmax (straight-through).
      max_gradient_norm: the gradient is scaled down to this L2 norm; 0 leaves it alone.
      max_logit: logits are kept within this of zero, so that none is out of reach of a gradient.
      losses: weights of the priors.
    """

    render: RenderConfig
    num_steps: int = 1000
    learning_rate: float = 0.2
    final_learning_rate: float = 0.05
    temperature_start: float = 1.0
    temperature_end: float = 0.5
    material_temperature_end: float = 1.0
    hardness_end: float = 1.0
    max_gradient_norm: float = 0.0
    max_logit: float = 8.0
    losses: LossWeights = dataclasses.field(default_factory=LossWeights)

    def __post_init__(self) -> None:
        rates = (self.learning_rate, self.final_learning_rate)
        heats = (self.temperature_start, self.temperature_end, self.material_temperature_end)
        if min(*rates, *heats, self.max_logit) <= 0 or self.num_steps < 1:
            raise ValueError("learning rates, temperatures, max_logit and num_steps must be > 0")
        if self.max_gradient_norm < 0 or not 0 <= self.hardness_end <= 1:
            raise ValueError("needed max_gradient_norm >= 0 and hardness_end within [0, 1]")


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
    """Adam with a geometrically falling rate, and clipping where asked for."""

    def rate(step: Any) -> Array:
        progress = jnp.asarray(step) / config.num_steps
        return geometric(config.learning_rate, config.final_learning_rate, progress)

    adam = optax.adam(rate, b1=0.9, b2=0.99, eps=1e-15)
    if not config.max_gradient_norm:
        return adam
    return optax.chain(optax.clip_by_global_norm(config.max_gradient_norm), adam)


def init_state(
    config: TrainConfig, sampler: Sampler, key: Key[Array, ""], grid: VoxelGrid, *data: Any
) -> TrainState:
    """Starts a run at a grid; `data` is what the sampler's init needs."""
    optimizer = make_optimizer(config).init(grid)
    return TrainState(grid, optimizer, sampler.init(key, *data), jnp.zeros((), jnp.int32))


def temperature(
    config: TrainConfig, step: Int[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Temperatures of occupancy and of materials at a step."""
    progress = step / config.num_steps
    return (
        geometric(config.temperature_start, config.temperature_end, progress),
        geometric(1.0, config.material_temperature_end, progress),
    )


def render_at(
    config: TrainConfig,
    grid: VoxelGrid,
    world: World,
    views: Int[Array, " views"],
    step: Int[Array, ""],
) -> Float[Array, "views rows cols 3"]:
    """Colours of views at the temperatures of a step."""
    heat, material_heat = temperature(config, step)
    logits, _ = temper(grid, heat)
    _, probs = temper(grid, material_heat)
    if config.hardness_end:
        hardness = linear(0.0, config.hardness_end, step / config.num_steps)
        probs = blend_hard(probs, hardness)
    images = render_views(config.render, logits, probs, world.lit, world.sky, world.cameras, views)
    return images.color


def look(
    config: TrainConfig,
    sampler: Sampler,
    run_key: Key[Array, ""],
    state: TrainState,
    world: World,
) -> tuple[Draw, Query, Key[Array, ""]]:
    """Draws cameras and renders them.

    Returns:
      The draw, what to ask the guide, and the guide's key.
    """
    key_draw, key_guide = jax.random.split(jax.random.fold_in(run_key, state.step))
    draw = sampler.sample(key_draw, state.sampler)
    images = render_at(config, state.grid, world, draw.items, state.step)
    progress = state.step / jnp.float32(config.num_steps)
    return draw, Query(jax.lax.stop_gradient(images), draw.items, progress), key_guide


def learn(
    config: TrainConfig,
    sampler: Sampler,
    state: TrainState,
    world: World,
    draw: Draw,
    pull: Pull,
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """Pulls the guide's answer back through the renderer and takes a step.

    Cotangents that are not finite count as 0, and are counted in the metrics.
    """
    is_finite = jnp.isfinite(pull.gradient)
    cotangent = jnp.where(is_finite, pull.gradient, 0.0)
    cotangent *= (draw.weights / draw.weights.shape[0])[:, None, None, None]

    def images_of(grid: VoxelGrid) -> Array:
        return render_at(config, grid, world, draw.items, state.step)

    _, pull_back = jax.vjp(images_of, state.grid)
    (from_images,) = pull_back(cotangent)
    (prior, parts), from_priors = jax.value_and_grad(
        lambda grid: grid_loss(config.losses, grid, world.priors), has_aux=True
    )(state.grid)
    gradient = jax.tree.map(jnp.add, from_images, from_priors)
    updates, optimizer = make_optimizer(config).update(gradient, state.optimizer, state.grid)
    grid: VoxelGrid = jax.tree.map(
        lambda x, u: jnp.clip(x + u, -config.max_logit, config.max_logit), state.grid, updates
    )
    sampler_state = sampler.update(state.sampler, draw, Feedback(value=pull.value))
    heat, _ = temperature(config, state.step)
    metrics = {
        "guide": jnp.mean(pull.value),
        "prior": prior,
        "temperature": heat,
        "occupancy_gradient_norm": jnp.linalg.norm(gradient.occupancy_logits.reshape(-1)),
        "material_gradient_norm": jnp.linalg.norm(gradient.material_logits.reshape(-1)),
        "gradient_max": jnp.max(jnp.abs(gradient.occupancy_logits)),
        "num_bad_cotangents": jnp.sum(~is_finite).astype(jnp.float32),
        **pull.metrics,
        **parts,
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
    draw, query, key = look(config, sampler, run_key, state, world)
    pull = ask(guidance.pull, world.guide, key, query)
    return learn(config, sampler, state, world, draw, pull)
