"""Proximal policy optimisation over a batch of environments.

Notation: T steps of E environments make a rollout; r rewards, V values, A advantages, γ discount,
λ the trace's decay. `learn` turns one rollout into a better policy: generalised advantages, then
epochs of minibatches with the clipped surrogate, the clipped value loss, an entropy bonus, and a
learning rate that follows the Kullback-Leibler divergence between old and new policy.

Values of states after a time-out count, those after a failure do not; that needs the critic's
observation of the state a step led to (`final_critic`), before the environment began anew.

Source: Schulman et al. 2016, 2017; the learning rate's rule, clipped values and defaults as in
rsl_rl (Rudin et al. 2022).
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Key

from samplers.device_axis import ALONE, DeviceAxis

from . import networks
from .networks import NetworkConfig, Params
from .normalisation import Moments, init_moments, merge, normalise


@dataclasses.dataclass(frozen=True, kw_only=True)
class PpoConfig:
    """Settings of learning.

    Attributes:
      num_epochs: passes over a rollout.
      num_minibatches: parts of a rollout per pass.
      learning_rate: Adam's, at the start.
      least_learning_rate, largest_learning_rate: where the rule keeps it.
      desired_kl: divergence per update the rate aims at; None: the rate stays.
      clip: how far the ratio of probabilities may be rewarded to go.
      value_weight: of the value loss.
      is_value_clipped: values may move by `clip` per rollout only.
      entropy_weight: of the entropy bonus.
      discount: γ.
      trace_decay: λ.
      max_gradient_norm: gradients are scaled down to this L2 norm.
      least_std: the standard deviation of actions does not fall below it.
      noise_steps: control steps that share exploration noise, see `exploration`; 1: each has its
        own.
      network: sizes of policy and value function.
    """

    num_epochs: int = 5
    num_minibatches: int = 4
    learning_rate: float = 1e-3
    least_learning_rate: float = 1e-5
    largest_learning_rate: float = 1e-2
    desired_kl: float | None = 0.01
    clip: float = 0.2
    value_weight: float = 1.0
    is_value_clipped: bool = True
    entropy_weight: float = 0.005
    discount: float = 0.99
    trace_decay: float = 0.95
    max_gradient_norm: float = 1.0
    least_std: float = 0.02
    noise_steps: int = dataclasses.field(default=1, metadata={"before": 1})
    network: NetworkConfig = NetworkConfig()

    def __post_init__(self) -> None:
        for name in ("num_epochs", "num_minibatches", "noise_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        rates = (self.least_learning_rate, self.learning_rate, self.largest_learning_rate)
        if not 0 < rates[0] <= rates[1] <= rates[2]:
            raise ValueError(f"needed 0 < least <= learning_rate <= largest, got {rates}")
        for name in ("discount", "trace_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("clip", "max_gradient_norm", "least_std"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.desired_kl is not None and not self.desired_kl > 0:
            raise ValueError(f"desired_kl must be positive, got {self.desired_kl}")


class Learner(NamedTuple):
    """Everything learning changes.

    Attributes:
      params: policy and value function.
      optimizer: Adam's moments.
      actor, critic: moments of the observations; used as they were when the rollout began.
      learning_rate: of the next update.
    """

    params: Params
    optimizer: Any
    actor: Moments
    critic: Moments
    learning_rate: Float[Array, ""]


class Action(NamedTuple):
    """What the policy chose.

    Attributes:
      value: the action.
      log_prob: of it.
      mean: of the policy.
    """

    value: Float[Array, "envs actions"]
    log_prob: Float[Array, " envs"]
    mean: Float[Array, "envs actions"]


class Rollout(NamedTuple):
    """What happened, steps first.

    Attributes:
      actor, critic: observations acted on.
      action, log_prob, mean: what was chosen.
      reward: of the step.
      terminated: the episode failed in this step.
      is_over: the episode ended in this step, for whatever reason.
      final_critic: the critic's observation of the state the step led to.
    """

    actor: Float[Array, "steps envs actor"]
    critic: Float[Array, "steps envs critic"]
    action: Float[Array, "steps envs actions"]
    log_prob: Float[Array, "steps envs"]
    mean: Float[Array, "steps envs actions"]
    reward: Float[Array, "steps envs"]
    terminated: Bool[Array, "steps envs"]
    is_over: Bool[Array, "steps envs"]
    final_critic: Float[Array, "steps envs critic"]


class _Batch(NamedTuple):
    actor: Array
    critic: Array
    action: Array
    log_prob: Array
    mean: Array
    old_value: Array
    advantage: Array
    target: Array


def init_learner(
    config: PpoConfig,
    key: Key[Array, ""],
    *,
    actor_size: int,
    critic_size: int,
    num_actions: int,
) -> Learner:
    """Starts learning."""
    params = networks.init_params(
        config.network,
        key,
        actor_size=actor_size,
        critic_size=critic_size,
        num_actions=num_actions,
    )
    return Learner(
        params=params,
        optimizer=_optimizer(config).init(params),
        actor=init_moments(actor_size),
        critic=init_moments(critic_size),
        learning_rate=jnp.float32(config.learning_rate),
    )


def act(
    config: PpoConfig,
    noise: Float[Array, "envs actions"],
    learner: Learner,
    seen: Float[Array, "envs actor"],
) -> Action:
    """Adds exploration noise to the policy's actions.

    Args:
      noise: standard normal numbers, independent of one another within the step.
    """
    mean = mean_action(config, learner, seen)
    chosen = mean + jnp.exp(learner.params.log_std)[None] * noise
    return Action(chosen, _log_prob(chosen, mean, learner.params.log_std), mean)


def mean_action(
    config: PpoConfig, learner: Learner, seen: Float[Array, "envs actor"]
) -> Float[Array, "envs actions"]:
    """The policy without noise, for evaluation."""
    return networks.action_mean(config.network, learner.params, normalise(learner.actor, seen))


def advantages(
    config: PpoConfig,
    value: Float[Array, "steps envs"],
    next_value: Float[Array, "steps envs"],
    reward: Float[Array, "steps envs"],
    terminated: Bool[Array, "steps envs"],
    is_over: Bool[Array, "steps envs"],
) -> Float[Array, "steps envs"]:
    """Generalised advantages.

    A_t = δ_t + γ λ A_{t+1} with δ_t = r_t + γ V(s'_t) - V(s_t), where V(s') counts 0 after a
    failure and A_{t+1} counts 0 after the end of an episode.

    Args:
      next_value: of the state each step led to, before a new episode began.
    """
    delta = reward + config.discount * jnp.where(terminated, 0.0, next_value) - value
    keep = jnp.where(is_over, 0.0, config.discount * config.trace_decay)

    def back(later: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        here = now[0] + now[1] * later
        return here, here

    return jax.lax.scan(back, jnp.zeros_like(delta[0]), (delta, keep), reverse=True)[1]


def learn(
    config: PpoConfig,
    key: Key[Array, ""],
    learner: Learner,
    rollout: Rollout,
    *,
    axis: DeviceAxis = ALONE,
) -> tuple[Learner, dict[str, Float[Array, ""]]]:
    """Improves policy and value function on one rollout, then adds it to the moments.

    Args:
      axis: devices that each have a part of the environments. They mix their own rows into
        minibatches; advantages are normalised, gradients averaged and moments taken over all.

    Returns:
      The learner, and means over all updates: policy_loss, value_loss, entropy, kl, clipped (share
      of ratios beyond the clip), gradient_norm (of the updates made; NaN if there was none) and
      updates_left_out (a share); then learning_rate, std, mean reward and explained_variance (of
      the targets, by the value function before: 1 where it hit them all, 0 where a constant does as
      well).
    Raises:
      ValueError: when traced with a rollout that does not divide into the minibatches.
    Bad input: updates whose gradient is not finite are left out.
    """
    steps, envs = rollout.reward.shape
    if steps * envs % config.num_minibatches:
        raise ValueError(
            f"a rollout of {steps} steps of {envs} environments does not divide into "
            f"{config.num_minibatches} minibatches"
            + (f" on each of {axis.size} devices" if axis.size > 1 else "")
        )
    actor = normalise(learner.actor, rollout.actor)
    critic = normalise(learner.critic, rollout.critic)
    after = normalise(learner.critic, rollout.final_critic)
    old_value = networks.value(config.network, learner.params, critic)
    next_value = networks.value(config.network, learner.params, after)
    advantage = advantages(
        config, old_value, next_value, rollout.reward, rollout.terminated, rollout.is_over
    )
    target = advantage + old_value
    middle, spread = _mean_and_std(axis, advantage)
    scaled = (advantage - middle) / (spread + 1e-8)
    batch = _Batch(
        actor,
        critic,
        rollout.action,
        rollout.log_prob,
        rollout.mean,
        old_value,
        scaled,
        target,
    )
    flat = jax.tree.map(lambda x: x.reshape(steps * envs, *x.shape[2:]), batch)
    old_log_std = learner.params.log_std
    keys = jax.random.split(axis.own_key(key), config.num_epochs)
    order = jax.vmap(lambda k: jax.random.permutation(k, steps * envs))(keys)
    order = order.reshape(config.num_epochs * config.num_minibatches, -1)

    def update(carry: Any, rows: Array) -> tuple[Any, dict[str, Array]]:
        params, optimizer, rate = carry
        part = jax.tree.map(lambda x: x[rows], flat)
        return _update(config, params, optimizer, rate, part, old_log_std, axis)

    first = (learner.params, learner.optimizer, learner.learning_rate)
    (params, optimizer, rate), parts = jax.lax.scan(update, first, order)
    good = parts.pop("is_good")
    metrics = {name: jnp.mean(values) for name, values in parts.items()}
    metrics["gradient_norm"] = jnp.sum(parts["gradient_norm"]) / jnp.sum(good)
    metrics["updates_left_out"] = 1.0 - jnp.mean(good)
    metrics["learning_rate"] = rate
    metrics["std"] = jnp.mean(jnp.exp(params.log_std))
    metrics["reward"] = axis.mean(jnp.mean(rollout.reward))
    metrics["explained_variance"] = 1.0 - _variance(axis, advantage) / (
        _variance(axis, target) + 1e-8
    )
    after_learning = Learner(
        params=params,
        optimizer=optimizer,
        actor=merge(learner.actor, rollout.actor, axis=axis),
        critic=merge(learner.critic, rollout.critic, axis=axis),
        learning_rate=rate,
    )
    return after_learning, metrics


def _update(
    config: PpoConfig,
    params: Params,
    optimizer: Any,
    rate: Float[Array, ""],
    part: _Batch,
    old_log_std: Float[Array, " actions"],
    axis: DeviceAxis,
) -> tuple[tuple[Params, Any, Float[Array, ""]], dict[str, Array]]:
    (_, terms), gradient = jax.value_and_grad(_loss, argnums=1, has_aux=True)(
        config, params, part, old_log_std
    )
    terms, gradient = axis.mean((terms, gradient))
    if config.desired_kl is not None:
        kl = terms["kl"]
        factor = jnp.where(kl > 2.0 * config.desired_kl, 1 / 1.5, 1.0)
        factor = jnp.where((kl < 0.5 * config.desired_kl) & (kl > 0.0), 1.5, factor)
        rate = jnp.clip(rate * factor, config.least_learning_rate, config.largest_learning_rate)
    norm = jnp.sqrt(sum(jnp.sum(part**2) for part in jax.tree.leaves(gradient)))
    is_good = jnp.isfinite(norm)
    gradient = jax.tree.map(lambda g: jnp.where(is_good, g, 0.0), gradient)
    steps, moved = _optimizer(config).update(gradient, optimizer, params)
    new = jax.tree.map(lambda p, s: p - jnp.where(is_good, rate * s, 0.0), params, steps)
    new = new._replace(log_std=jnp.maximum(new.log_std, math.log(config.least_std)))
    moved = jax.tree.map(lambda a, b: jnp.where(is_good, a, b), moved, optimizer)
    told = {"gradient_norm": jnp.where(is_good, norm, 0.0), "is_good": is_good.astype(jnp.float32)}
    return (new, moved, rate), {**terms, **told}


def _loss(
    config: PpoConfig, params: Params, part: _Batch, old_log_std: Float[Array, " actions"]
) -> tuple[Float[Array, ""], dict[str, Array]]:
    mean = networks.action_mean(config.network, params, part.actor)
    log_ratio = _log_prob(part.action, mean, params.log_std) - part.log_prob
    ratio = jnp.exp(jnp.clip(log_ratio, -20.0, 20.0))
    limited = jnp.clip(ratio, 1.0 - config.clip, 1.0 + config.clip)
    policy = -jnp.mean(jnp.minimum(ratio * part.advantage, limited * part.advantage))
    value = networks.value(config.network, params, part.critic)
    error = (value - part.target) ** 2
    if config.is_value_clipped:
        near = part.old_value + jnp.clip(value - part.old_value, -config.clip, config.clip)
        error = jnp.maximum(error, (near - part.target) ** 2)
    value_loss = jnp.mean(error)
    entropy = jnp.sum(params.log_std + 0.5 * math.log(2 * math.pi * math.e))
    old_std, std = jnp.exp(old_log_std), jnp.exp(params.log_std)
    kl = jnp.sum(
        (params.log_std - old_log_std)[None]
        + ((old_std**2)[None] + (part.mean - mean) ** 2) / (2.0 * std**2)[None]
        - 0.5,
        axis=1,
    )
    loss = policy + config.value_weight * value_loss - config.entropy_weight * entropy
    return loss, {
        "policy_loss": policy,
        "value_loss": value_loss,
        "entropy": entropy,
        "kl": jax.lax.stop_gradient(jnp.mean(kl)),
        "clipped": jnp.mean((jnp.abs(ratio - 1.0) > config.clip).astype(jnp.float32)),
    }


def _mean_and_std(axis: DeviceAxis, values: Array) -> tuple[Array, Array]:
    if axis.name is None:
        spread = jnp.std(values)
        return jnp.mean(values), spread
    return axis.mean(jnp.mean(values)), jnp.sqrt(_variance(axis, values))


def _variance(axis: DeviceAxis, values: Array) -> Array:
    if axis.name is None:
        return jnp.var(values)
    return axis.mean(jnp.mean(jnp.square(values - axis.mean(jnp.mean(values)))))


def _log_prob(
    action: Float[Array, "n actions"],
    mean: Float[Array, "n actions"],
    log_std: Float[Array, " actions"],
) -> Float[Array, " n"]:
    scaled = (action - mean) * jnp.exp(-log_std)[None]
    normaliser = jnp.sum(log_std) + 0.5 * math.log(2 * math.pi) * log_std.shape[0]
    return -0.5 * jnp.sum(scaled**2, axis=-1) - normaliser


def _optimizer(config: PpoConfig) -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(config.max_gradient_norm), optax.scale_by_adam(eps=1e-8)
    )
