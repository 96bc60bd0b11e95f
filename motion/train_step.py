"""One iteration of training: roll out, count outcomes, draw starts, learn.

`make_train_step` gives one function for every physics. With MJX and Warp it is one compiled program
with its state donated; with the C engine the rollout is driven from the host between compiled
programs. All take the same keys in the same order: all randomness is fold_in(run_key, iteration),
then the step; only noise that steps share is drawn by the step counted over the whole run.

The sampler learns from training rollouts only; evaluation has an environment of its own and never
touches it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key

from samplers.base import Sampler
from samplers.device_axis import ALONE, SAME, SPLIT, DeviceAxis, axis_of, jit_step
from samplers.motion_bins import MotionTime

from . import exploration, ppo
from .clips import ClipBank
from .env import Env, EnvState, Observation, StepOutput
from .ppo import Action, Learner, PpoConfig, Rollout
from .starts import count_outcomes, uniform_over_frames

Metrics = dict[str, Float[Array, ""]]

_NOISE = 2**31 - 1
"""Folded into the run's key for noise that steps share; no iteration gets so far."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of an iteration.

    Attributes:
      num_steps: control steps per iteration, of every environment.
      start_iteration: the sampler decides from here on; before, starts are uniform.
      handback_iteration: starts are uniform again from here on; None: never.
      first_leniency: limits of failure are this many times as wide in the first iteration, and
        narrow evenly to what the task has. Evaluation always has the published ones.
      lenient_iterations: iterations until the limits are the task's.
      ppo: how to learn.
    """

    num_steps: int = 24
    start_iteration: int = 0
    handback_iteration: int | None = dataclasses.field(default=None, metadata={"before": None})
    first_leniency: float = dataclasses.field(default=1.0, metadata={"before": 1.0})
    lenient_iterations: int = dataclasses.field(default=0, metadata={"before": 0})
    ppo: PpoConfig = PpoConfig()

    def __post_init__(self) -> None:
        if self.num_steps < 1 or self.start_iteration < 0:
            raise ValueError("needed num_steps >= 1 and start_iteration >= 0")
        if self.handback_iteration is not None and self.handback_iteration <= self.start_iteration:
            raise ValueError(
                "handback_iteration must come after start_iteration "
                f"({self.start_iteration}), got {self.handback_iteration}"
            )
        if self.first_leniency < 1 or self.lenient_iterations < 0:
            raise ValueError("needed first_leniency >= 1 and lenient_iterations >= 0")
        if (self.first_leniency > 1) != (self.lenient_iterations > 0):
            raise ValueError(
                "first_leniency above 1 and lenient_iterations above 0 go together, got "
                f"{self.first_leniency} and {self.lenient_iterations}"
            )

    def leniency(self, iteration: Int[Array, ""]) -> Float[Array, ""]:
        """Gives what limits of failure are multiplied by."""
        passed = iteration / max(self.lenient_iterations, 1)
        return self.first_leniency + (1.0 - self.first_leniency) * jnp.minimum(passed, 1.0)


class TrainState(NamedTuple):
    """What an iteration changes."""

    learner: Learner
    sampler: Any
    env: EnvState
    iteration: Int[Array, ""]


STATE_SPECS = TrainState(learner=SAME, sampler=SAME, env=SPLIT, iteration=SAME)  # pyright: ignore
"""How a state lies on several devices: each has environments of its own."""


class Chosen(NamedTuple):
    """What a control step begins with.

    Attributes:
      action: of every environment.
      starts: where episodes that end in the step begin anew.
      key: of the environment.
      leniency: see `Env.step`.
    """

    action: Action
    starts: MotionTime
    key: Key[Array, ""]
    leniency: Float[Array, ""]


class _Step(NamedTuple):
    """One control step of a rollout."""

    seen: Observation
    action: Action
    output: StepOutput


def init_state(
    config: TrainConfig, env: Env, sampler: Sampler, key: Key[Array, ""], bank: ClipBank
) -> TrainState:
    """The state before the first iteration; starts are uniform, or as given by hand."""
    keys = jax.random.split(key, 4)
    state = sampler.init(keys[0])
    starts = uniform_over_frames(sampler).sample(keys[1], state).items
    world = env.reset(bank, keys[2], starts)
    learner = ppo.init_learner(
        config.ppo,
        keys[3],
        actor_size=env.actor_size,
        critic_size=env.critic_size,
        num_actions=env.num_actions,
    )
    return TrainState(learner, state, world, jnp.zeros((), jnp.int32))


def make_train_step(
    config: TrainConfig,
    env: Env,
    sampler: Sampler,
    rows: Literal["steps", "episodes"],
    mesh: Mesh | None = None,
) -> Callable[[Key[Array, ""], ClipBank, TrainState], tuple[TrainState, Metrics]]:
    """Makes the function that does one iteration and uses up the state it is given.

    Args:
      rows: what the sampler counts, see `starts.rows_of`.
      mesh: devices that share the environments, see `STATE_SPECS`; None: one device.
    Raises:
      ValueError: when the devices do not divide the environments, the physics runs on the host,
        or the sampler does not sum its counts over the devices.
    """
    axis = axis_of(mesh)
    parts = Parts(config, env, sampler, rows, axis)
    if mesh is not None:
        axis.share_of(env.num_envs, "environments")
        if not env.is_jittable:
            raise ValueError(f"physics {env.physics.name} runs on the host and uses one device")
        if sampler.config.axis_name != axis.name:
            raise ValueError(f"the sampler's axis_name must be {axis.name!r}")
    if env.is_jittable:
        return jit_step(
            parts.whole,
            mesh,
            in_specs=(SAME, SAME, STATE_SPECS),
            out_specs=(STATE_SPECS, SAME),
            donate_argnums=2,
        )
    return on_host(
        config.num_steps,
        choose=jax.jit(parts.choose),
        step=env.step,
        count=jax.jit(parts.count),
        learn=jax.jit(parts.learn, donate_argnums=2),
    )


class Parts:
    """The parts of an iteration, each one program or part of one."""

    def __init__(
        self,
        config: TrainConfig,
        env: Env,
        sampler: Sampler,
        rows: Literal["steps", "episodes"],
        axis: DeviceAxis = ALONE,
    ):
        self.config, self.env, self.sampler, self.rows = config, env, sampler, rows
        self.axis = axis

    def whole(
        self, run_key: Key[Array, ""], bank: ClipBank, state: TrainState
    ) -> tuple[TrainState, Metrics]:
        """One iteration, to be traced."""
        learner, iteration = state.learner, state.iteration

        def advance(carry: Any, step: Array) -> tuple[Any, _Step]:
            sampled, world = carry
            chosen = self.choose(run_key, iteration, step, learner, sampled, world.observation)
            after, output = _take(self.env.step, bank, world, chosen)
            taken = _Step(world.observation, chosen.action, output)
            return (self.count(sampled, output), after), taken

        steps = jnp.arange(self.config.num_steps)
        (sampled, world), taken = jax.lax.scan(advance, (state.sampler, state.env), steps)
        learner, metrics = self.learn(run_key, iteration, learner, sampled, taken)
        return TrainState(learner, sampled, world, iteration + 1), metrics

    def choose(
        self,
        run_key: Key[Array, ""],
        iteration: Int[Array, ""],
        step: Int[Array, ""],
        learner: Learner,
        sampled: Any,
        seen: Observation,
    ) -> Chosen:
        """Chooses actions of this step, and where episodes that end in it begin anew."""
        key = jax.random.fold_in(jax.random.fold_in(run_key, iteration), step)
        act_key, start_key, env_key = jax.random.split(key, 3)
        shape = (seen.actor.shape[0], self.env.num_actions)
        noise = self._noise(run_key, act_key, iteration * self.config.num_steps + step, shape)
        action = ppo.act(self.config.ppo, noise, learner, seen.actor)
        starts = self.sampler.sample(start_key, sampled).items
        first, last = self.config.start_iteration, self.config.handback_iteration
        if first > 0 or last is not None:
            even = uniform_over_frames(self.sampler).sample(start_key, sampled).items
            is_even = iteration < first
            if last is not None:
                is_even = is_even | (iteration >= last)
            starts = jax.tree.map(lambda a, b: jnp.where(is_even, a, b), even, starts)
        leniency = self.config.leniency(iteration)
        return Chosen(action, self.axis.own(starts), self.axis.own_key(env_key), leniency)

    def _noise(
        self,
        run_key: Key[Array, ""],
        act_key: Key[Array, ""],
        place: Int[Array, ""],
        shape: tuple[int, int],
    ) -> Float[Array, "envs actions"]:
        window = self.config.ppo.noise_steps
        if window == 1:
            return jax.random.normal(self.axis.own_key(act_key), shape)
        key = self.axis.own_key(jax.random.fold_in(run_key, _NOISE))
        return exploration.shared_normal(key, place, shape, window)

    def count(self, sampled: Any, output: StepOutput) -> Any:
        """Tells the sampler what the step showed."""
        return count_outcomes(
            self.sampler,
            self.rows,  # pyright: ignore[reportArgumentType]
            sampled,
            here=output.here,
            start=output.start,
            failed=output.terminated,
            is_over=output.terminated | output.timed_out,
        )

    def learn(
        self,
        run_key: Key[Array, ""],
        iteration: Int[Array, ""],
        learner: Learner,
        sampled: Any,
        taken: _Step,
    ) -> tuple[Learner, Metrics]:
        """Learns from the rollout; the metrics of the iteration."""
        key = jax.random.fold_in(jax.random.fold_in(run_key, iteration), self.config.num_steps)
        output = taken.output
        is_over = output.terminated | output.timed_out
        rollout = Rollout(
            actor=taken.seen.actor,
            critic=taken.seen.critic,
            action=taken.action.value,
            log_prob=taken.action.log_prob,
            mean=taken.action.mean,
            reward=output.reward,
            terminated=output.terminated,
            is_over=is_over,
            final_critic=output.final_critic,
        )
        axis = self.axis
        learner, metrics = ppo.learn(self.config.ppo, key, learner, rollout, axis=axis)
        ended = axis.sum(jnp.sum(is_over))
        some = jnp.maximum(ended, 1)
        metrics["episodes"] = ended.astype(jnp.float32)
        metrics["failed_share"] = axis.sum(jnp.sum(output.terminated)) / some
        metrics["episode_steps"] = axis.sum(jnp.sum(jnp.where(is_over, output.age, 0))) / some
        for name, values in output.errors._asdict().items():
            finite = jnp.isfinite(values)
            total = axis.sum(jnp.sum(jnp.where(finite, values, 0.0)))
            metrics[f"error_{name}"] = total / jnp.maximum(axis.sum(jnp.sum(finite)), 1)
        for place, term in enumerate(self.env.config.reward_terms):
            metrics[f"reward_{term.name}"] = axis.mean(jnp.mean(output.reward_terms[..., place]))
        metrics.update(sampler_statistics(self.sampler, sampled))
        return learner, metrics


def _take(
    step: Callable[..., tuple[EnvState, StepOutput]],
    bank: ClipBank,
    world: EnvState,
    chosen: Chosen,
) -> tuple[EnvState, StepOutput]:
    action, starts, key, leniency = chosen
    return step(bank, world, action.value, starts, key, leniency=leniency)


def sampler_statistics(sampler: Sampler, state: Any) -> Metrics:
    """How concentrated starts are: entropy over the bins that may be started in (1: all alike),
    effective bins, the likeliest bin."""
    assert sampler.probabilities is not None
    probs = sampler.probabilities(state)
    num_open = jnp.sum(state.valid)
    safe = jnp.where(probs > 0, probs, 1.0)
    entropy = -jnp.sum(probs * jnp.log(safe)) / jnp.log(jnp.maximum(num_open, 2))
    return {
        "starts_entropy": jnp.where(num_open > 1, entropy, 1.0),
        "starts_effective_bins": 1.0 / jnp.sum(probs**2),
        "starts_top_probability": jnp.max(probs),
        "starts_top_bin": jnp.argmax(probs).astype(jnp.float32),
    }


def on_host(
    num_steps: int,
    *,
    choose: Callable[..., Chosen],
    step: Callable[..., tuple[Any, StepOutput]],
    count: Callable[..., Any],
    learn: Callable[..., tuple[Learner, Metrics]],
) -> Callable[[Key[Array, ""], ClipBank, TrainState], tuple[TrainState, Metrics]]:
    """Puts an iteration together from compiled parts, for physics that no program can hold.

    Args:
      choose, count, learn: of `Parts`.
      step: of the environment.
    """
    stack = jax.jit(lambda steps: jax.tree.map(lambda *leaves: jnp.stack(leaves), *steps))

    def train_step(
        run_key: Key[Array, ""], bank: ClipBank, state: TrainState
    ) -> tuple[TrainState, Metrics]:
        sampled, world, taken = state.sampler, state.env, []
        for number in range(num_steps):
            seen = world.observation
            chosen = choose(run_key, state.iteration, number, state.learner, sampled, seen)
            world, output = _take(step, bank, world, chosen)
            sampled = count(sampled, output)
            taken.append(_Step(seen, chosen.action, output))
        learner, metrics = learn(run_key, state.iteration, state.learner, sampled, stack(taken))
        return TrainState(learner, sampled, world, state.iteration + 1), metrics

    return train_step
