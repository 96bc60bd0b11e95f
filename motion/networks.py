"""The policy and the value function: multilayer perceptrons over normalised observations.

flax lives here; elsewhere parameters are plain nested dictionaries.
"""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Sizes.

    Attributes:
      hidden: widths of the hidden layers of both networks.
      initial_std: standard deviation of actions at the start, the same for all.
    """

    hidden: tuple[int, ...] = (256, 128)
    initial_std: float = 1.0

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden must be widths of at least 1, got {self.hidden}")
        if not 0 < self.initial_std <= 10:
            raise ValueError(f"initial_std must be in (0, 10], got {self.initial_std}")


class Params(NamedTuple):
    """What is learned.

    Attributes:
      policy: of the mean of actions.
      value: of the value function.
      log_std: logarithm of the standard deviation of actions.
    """

    policy: Any
    value: Any
    log_std: Float[Array, " actions"]


class Perceptron(nn.Module):
    """Dense layers with ELU between them.

    Attributes:
      hidden: widths between input and output.
      num_outputs: width of the output.
      output_scale: how large the first outputs are.
    """

    hidden: tuple[int, ...]
    num_outputs: int
    output_scale: float

    @nn.compact
    def __call__(self, x: Float[Array, "*n inputs"]) -> Float[Array, "*n outputs"]:
        """Computes the outputs."""
        for width in self.hidden:
            x = nn.elu(nn.Dense(width, kernel_init=nn.initializers.orthogonal(2**0.5))(x))
        last = nn.initializers.orthogonal(self.output_scale)
        return nn.Dense(self.num_outputs, kernel_init=last)(x)


def init_params(
    config: NetworkConfig,
    key: Key[Array, ""],
    *,
    actor_size: int,
    critic_size: int,
    num_actions: int,
) -> Params:
    """Draws first parameters: mean actions and values near 0."""
    policy_key, value_key = jax.random.split(key)
    policy = Perceptron(config.hidden, num_actions, 0.01)
    value = Perceptron(config.hidden, 1, 1.0)
    return Params(
        policy=policy.init(policy_key, jnp.zeros((1, actor_size)))["params"],
        value=value.init(value_key, jnp.zeros((1, critic_size)))["params"],
        log_std=jnp.full((num_actions,), jnp.log(config.initial_std), jnp.float32),
    )


def action_mean(
    config: NetworkConfig, params: Params, seen: Float[Array, "*n actor"]
) -> Float[Array, "*n actions"]:
    """The policy's mean action for a normalised observation."""
    policy = Perceptron(config.hidden, params.log_std.shape[0], 0.01)
    return policy.apply({"params": params.policy}, seen)  # type: ignore[return-value]


def value(
    config: NetworkConfig, params: Params, seen: Float[Array, "*n critic"]
) -> Float[Array, " *n"]:
    """The value of a normalised observation."""
    network = Perceptron(config.hidden, 1, 1.0)
    return network.apply({"params": params.value}, seen)[..., 0]  # type: ignore[index]
