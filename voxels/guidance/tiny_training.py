"""How the small denoiser learns: pictures of procedural worlds, and one step of denoising.

With v = sqrt(abar) eps - sqrt(1 - abar) x_0 the loss is the mean squared error of v at noise
levels drawn evenly; one prompt in ten is withheld, so that the denoiser also knows worlds as such.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, UInt8

from ..block_map import BlockMap
from ..procedural import WorldConfig, make_world
from .distillation import DistillationConfig, signal_shares
from .prompts import WORDS, world_with
from .tiny import SIDE, TinyUNet


@dataclasses.dataclass(frozen=True, kw_only=True)
class TinyTrainingConfig:
    """How the denoiser is trained.

    Attributes:
      num_worlds, views_per_world: how many pictures there are.
      batch_size, num_steps, learning_rate: of Adam; the rate falls to zero along a cosine.
      average: weights handed out are an exponential average with this memory.
      withheld: share of prompts withheld.
    """

    num_worlds: int = 400
    views_per_world: int = 6
    batch_size: int = 32
    num_steps: int = 800
    learning_rate: float = 2e-3
    average: float = 0.99
    withheld: float = 0.1

    def __post_init__(self) -> None:
        sizes = (self.num_worlds, self.views_per_world, self.batch_size, self.num_steps)
        if min(sizes) < 1 or self.learning_rate <= 0:
            raise ValueError("sizes and learning_rate must be positive")
        if not (0 <= self.average < 1 and 0 <= self.withheld < 1):
            raise ValueError("average and withheld are shares below 1")


class TinyState(NamedTuple):
    """Weights, their average, the optimiser's state, the step."""

    params: Any
    average: Any
    optimizer: Any
    step: Int[Array, ""]


class Pictures(NamedTuple):
    """What the denoiser learns from; prompts hold 1 for each word that is true."""

    images: UInt8[Array, "pictures 32 32 3"]
    prompts: Float[Array, "pictures words"]


def sample_worlds(
    base: WorldConfig, count: int, seed: int
) -> tuple[list[BlockMap], Float[np.ndarray, "worlds words"]]:
    """Random worlds and the words that are true of them, each word in about half of the worlds.

    A lake can drown all that snow would fall on, so these two are read off the world.
    """
    random = np.random.default_rng(seed)
    has = (random.random((count, len(WORDS))) < 0.5).astype(np.float32)
    worlds = []
    for row in has:
        world = make_world(world_with(base, row, random), int(random.integers(2**31)))
        for word, material in (("lake", "Water"), ("snow", "Snow")):
            number = 1 + world.names.index(material)
            row[WORDS.index(word)] = (world.materials == number).any()
        worlds.append(world)
    return worlds, has


def init_tiny(config: TinyTrainingConfig, key: Key[Array, ""]) -> TinyState:
    """Fresh weights."""
    params = TinyUNet().init(
        key, jnp.zeros((1, SIDE, SIDE, 3)), jnp.full(1, 0.5), jnp.zeros((1, len(WORDS)))
    )["params"]
    optimizer = _optimizer(config).init(params)
    return TinyState(params, params, optimizer, jnp.zeros((), jnp.int32))


def tiny_step(
    config: TinyTrainingConfig, key: Key[Array, ""], state: TinyState, pictures: Pictures
) -> tuple[TinyState, Float[Array, ""]]:
    """One step on a random batch; jit it with the state donated."""
    picks, levels, noises, dropped = jax.random.split(jax.random.fold_in(key, state.step), 4)
    size = config.batch_size
    index = jax.random.randint(picks, (size,), 0, pictures.images.shape[0])
    clean = 2.0 * (pictures.images[index].astype(jnp.float32) / 255.0) - 1.0
    is_withheld = jax.random.bernoulli(dropped, config.withheld, (size, 1))
    prompt = jnp.where(is_withheld, jnp.nan, pictures.prompts[index])
    table = signal_shares(DistillationConfig())
    abar = table[jax.random.randint(levels, (size,), 0, len(table))]
    noise = jax.random.normal(noises, clean.shape)
    signal, sigma = jnp.sqrt(abar)[:, None, None, None], jnp.sqrt(1.0 - abar)[:, None, None, None]
    wanted = signal * noise - sigma * clean

    def loss_of(params: Any) -> Array:
        noisy = signal * clean + sigma * noise
        guess = jnp.asarray(TinyUNet().apply({"params": params}, noisy, abar, prompt))
        return jnp.mean(jnp.square(guess - wanted))

    loss, gradient = jax.value_and_grad(loss_of)(state.params)
    updates, optimizer = _optimizer(config).update(gradient, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    # early on the average is that of all steps so far, so the fresh weights are soon forgotten
    memory = jnp.minimum(config.average, state.step / (state.step + 1.0))
    average = jax.tree.map(lambda a, p: memory * a + (1 - memory) * p, state.average, params)
    return TinyState(params, average, optimizer, state.step + 1), loss


def _optimizer(config: TinyTrainingConfig) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.num_steps))
