"""Small control tasks in plain JAX, to learn without a robot."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from motion import ppo
from motion.ppo import Learner, PpoConfig, Rollout

LENGTH = 150
_DT = 0.05


class Pendulum(NamedTuple):
    """Angle from upright, angular velocity, steps since the start."""

    angle: Float[Array, " envs"]
    speed: Float[Array, " envs"]
    age: Int[Array, " envs"]


def observe(state: Pendulum) -> Float[Array, "envs 3"]:
    return jnp.stack([jnp.cos(state.angle), jnp.sin(state.angle), state.speed / 4], axis=1)


def hang(key: Key[Array, ""], envs: int) -> Pendulum:
    """Hanging down, nearly at rest, at any moment of an episode."""
    keys = jax.random.split(key, 2)
    angle = jnp.pi + 0.2 * jax.random.normal(keys[0], (envs,))
    age = jax.random.randint(keys[1], (envs,), 0, LENGTH)
    return Pendulum(angle, jnp.zeros(envs), age)


def swing(
    state: Pendulum, action: Float[Array, "envs 1"]
) -> tuple[Pendulum, Float[Array, " envs"]]:
    """One step; the motor is too weak to lift the weight directly. Reward 1 when upright."""
    torque = 2.0 * jnp.clip(action[:, 0], -1.0, 1.0)
    speed = state.speed + _DT * (15.0 * jnp.sin(state.angle) + 3.0 * torque)
    speed = jnp.clip(speed, -8.0, 8.0)
    angle = state.angle + _DT * speed
    effort = 0.01 * speed**2 + 0.01 * torque**2
    return Pendulum(angle, speed, state.age + 1), 0.1 * (1.0 + jnp.cos(angle) - effort)


def train_pendulum(
    config: PpoConfig, key: Key[Array, ""], *, envs: int, steps: int, iterations: int
) -> tuple[Learner, Float[Array, " iterations"]]:
    """Learns to swing up; gives the learner and the mean reward of every iteration."""
    keys = jax.random.split(key, 3)
    learner = ppo.init_learner(config, keys[0], actor_size=3, critic_size=3, num_actions=1)

    def step(carry, number):
        learner, state, key = carry
        seen = observe(state)
        noise = jax.random.normal(jax.random.fold_in(key, number), (envs, 1))
        action = ppo.act(config, noise, learner, seen)
        after, reward = swing(state, action.value)
        final = observe(after)
        is_over = after.age >= LENGTH
        fresh = hang(jax.random.fold_in(key, 1000 + number), envs)._replace(
            age=jnp.zeros(envs, jnp.int32)
        )
        after = jax.tree.map(lambda new, old: jnp.where(is_over, new, old), fresh, after)
        never = jnp.zeros(envs, bool)
        part = Rollout(
            seen,
            seen,
            action.value,
            action.log_prob,
            action.mean,
            reward,
            never,
            is_over,
            final,
        )
        return (learner, after, key), part

    def iterate(carry, number):
        learner, state = carry
        key = jax.random.fold_in(keys[1], number)
        (_, state, _), rollout = jax.lax.scan(step, (learner, state, key), jnp.arange(steps))
        learner, metrics = ppo.learn(config, jax.random.fold_in(key, 2000), learner, rollout)
        return (learner, state), metrics["reward"]

    first = (learner, hang(keys[2], envs))
    (learner, _), rewards = jax.lax.scan(iterate, first, jnp.arange(iterations))
    return learner, rewards


def play_pendulum(
    config: PpoConfig, learner: Learner, key: Key[Array, ""], envs: int
) -> Float[Array, "steps envs"]:
    """The cosine of the angle along one episode from hanging, without exploration."""
    state = hang(key, envs)

    def step(state, _):
        state, _ = swing(state, ppo.mean_action(config, learner, observe(state)))
        return state, jnp.cos(state.angle)

    return jax.lax.scan(step, state, None, length=LENGTH)[1]
