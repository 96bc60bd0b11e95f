"""The tracking environment: many copies of a robot that follow moments of clips.

    env = make_env(robot, num_envs=256, physics="c")
    state = env.reset(bank, key, starts)                    # starts: MotionTime, one per copy
    state, output = env.step(bank, state, action, starts, key)

`starts` are drawn afresh by the caller's sampler before every step; copies whose episode ends in
this step begin anew there, within the step, so `state.observation` is always that of a living
episode. `output.final_critic` is the critic's observation before that, for bootstrapping.

Time: `state.frame` is the frame the robot should be at now. An observation shows the reference one
frame later, which is what the reward of the coming step compares with.

With physics "mjx" and "warp" `reset` and `step` are pure and may be traced, vmapped over nothing,
scanned and donated. With "c" they run on the host with three small compiled programs between the
simulator's calls; the signatures are the same and the states can be kept, but only one caller may
use an environment at a time.

The task is BeyondMimic's (Liao et al. 2025); the parts that differ say so where they are. The file
is long because all simulators go through one reset and one step, told here whole.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from samplers.motion_bins import MotionTime

from . import errors, observations, perturbations, rewards, terminations, tracking
from .clips import ClipBank
from .perturbations import Randomisation
from .physics import Physics, PhysicsName, make_physics
from .robots import Robot
from .tracking import Physical, Tracking

_NO_LIMIT = 1e6
"""Seconds no clip lasts."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnvConfig:
    """Settings of the environment.

    Attributes:
      action_centre: what an action of 0 asks of the joints: the "reference" of the coming step,
        the robot's "default" pose, or "feedforward": such angles that the motors give the torques
        of the coming step when the robot is where it should be (`inverse_dynamics`).
      action_scale: radians per unit of action; None: the robot's own, a quarter of effort over
        stiffness.
      episode_seconds: limit of an episode; a time-out, like the end of the clip.
      observation_noise: scale of the measurements' noise.
      start_noise: scale of the perturbation of starts.
      randomisation: scale of the differences between copies of the robot.
      push_seconds: shortest and longest time between pushes; None: no pushes.
      reward_terms: what is paid for.
      termination_terms: when an episode has failed; none: when its state is not finite.
      actor_terms: what the policy observes.
      critic_terms: what the value function observes.
    """

    action_centre: Literal["reference", "default", "feedforward"] = "reference"
    action_scale: float | None = 0.25
    episode_seconds: float = 10.0
    observation_noise: float = 1.0
    start_noise: float = 1.0
    randomisation: float = 1.0
    push_seconds: tuple[float, float] | None = (1.0, 3.0)
    reward_terms: tuple[rewards.RewardTerm, ...] = rewards.REWARDS
    termination_terms: tuple[terminations.TerminationTerm, ...] = terminations.TERMINATIONS
    actor_terms: tuple[observations.ObservationTerm, ...] = observations.ACTOR
    critic_terms: tuple[observations.ObservationTerm, ...] = observations.CRITIC

    def __post_init__(self) -> None:
        if self.action_centre not in ("reference", "default", "feedforward"):
            raise ValueError(
                "action_centre must be reference, default or feedforward, "
                f"got {self.action_centre!r}"
            )
        for name in ("observation_noise", "start_noise", "randomisation"):
            if not 0 <= getattr(self, name) <= 10:
                raise ValueError(f"{name} must be in [0, 10], got {getattr(self, name)}")
        if self.action_scale is not None and not 0 < self.action_scale <= 10:
            raise ValueError(f"action_scale must be in (0, 10], got {self.action_scale}")
        if not self.episode_seconds > 0:
            raise ValueError(f"episode_seconds must be positive, got {self.episode_seconds}")
        if self.push_seconds is not None and not 0 < self.push_seconds[0] <= self.push_seconds[1]:
            raise ValueError(f"push_seconds must be 0 < low <= high, got {self.push_seconds}")
        if not (self.reward_terms and self.actor_terms and self.critic_terms):
            raise ValueError("needs at least one reward and one observation for actor and critic")

    def episode_steps(self, control_rate: float) -> int:
        """Gives the limit of an episode in control steps."""
        return max(1, round(self.episode_seconds * control_rate))

    def calm(self) -> "EnvConfig":
        """Gives the same task for evaluation: without noise, pushes and randomisation, with
        episodes that end at the end of their clip only, and with the published limits of failure,
        whatever limits training has."""
        return dataclasses.replace(
            self,
            observation_noise=0.0,
            start_noise=0.0,
            randomisation=0.0,
            push_seconds=None,
            episode_seconds=_NO_LIMIT,
            termination_terms=terminations.TERMINATIONS,
        )


class Observation(NamedTuple):
    """What policy and value function see of every copy."""

    actor: Float[Array, "envs actor"]
    critic: Float[Array, "envs critic"]


class EnvState(NamedTuple):
    """Every copy, between two steps.

    Attributes:
      physics: the back-end's state.
      now: positions, velocities and kinematics of `physics`.
      clip: the clip each copy follows.
      frame: where in it the copy should be now.
      start_frame: where its episode began.
      age: control steps since then.
      action: the last one; 0 at the start of an episode.
      push_in: control steps before the one that begins with a push.
      randomisation: how each copy of the robot differs.
      observation: what to act on.
    """

    physics: Any
    now: Physical
    clip: Int[Array, " envs"]
    frame: Int[Array, " envs"]
    start_frame: Int[Array, " envs"]
    age: Int[Array, " envs"]
    action: Float[Array, "envs joints"]
    push_in: Int[Array, " envs"]
    randomisation: Randomisation
    observation: Observation


class StepOutput(NamedTuple):
    """What one step showed, all of it from before any copy began anew.

    Attributes:
      reward: sum of the terms.
      reward_terms: in the order of the table, weighted, times the control step.
      terminated: the episode failed here.
      timed_out: it reached its limit or the end of its clip; never together with `terminated`.
      final_critic: the critic's observation of the state the step led to.
      here: the moment compared with, which is where a failure happened.
      start: where the episode began.
      age: its control steps, this one included.
      errors: how far the robot was from the reference.
    """

    reward: Float[Array, " envs"]
    reward_terms: Float[Array, "envs terms"]
    terminated: Bool[Array, " envs"]
    timed_out: Bool[Array, " envs"]
    final_critic: Float[Array, "envs critic"]
    here: MotionTime
    start: MotionTime
    age: Int[Array, " envs"]
    errors: errors.TrackingErrors


@dataclasses.dataclass(frozen=True, eq=False)
class Env:
    """The environment of one robot; see the module.

    Attributes:
      num_actions: joints.
      actor_size: numbers in the policy's observation.
      critic_size: numbers in the critic's.
    """

    robot: Robot
    config: EnvConfig
    num_envs: int
    physics: Physics
    num_actions: int
    actor_size: int
    critic_size: int
    _act: Callable[..., Any]
    _start: Callable[..., Any]
    _judge: Callable[..., Any]
    _observe: Callable[..., Any]

    @property
    def is_jittable(self) -> bool:
        """Whether `reset` and `step` may be traced."""
        return self.physics.is_jittable

    def reset(self, bank: ClipBank, key: Key[Array, ""], starts: MotionTime) -> EnvState:
        """Starts all copies at the given moments, as new robots.

        No two parts of the state share memory, so it may be donated.
        """
        return self._compiled_reset(bank, key, starts)

    @functools.cached_property
    def _compiled_reset(self) -> Callable[..., EnvState]:
        return jax.jit(self._reset) if self.is_jittable else self._reset

    def _reset(self, bank: ClipBank, key: Key[Array, ""], starts: MotionTime) -> EnvState:
        starts = jax.tree.map(jnp.copy, starts)
        parts, qpos, qvel = self._start(bank, key, starts)
        physics, now = self.physics.init(qpos, qvel, parts["randomisation"])
        observation = self._observe(bank, key, now, parts)
        return EnvState(physics=physics, now=now, observation=observation, **parts)

    def step(
        self,
        bank: ClipBank,
        state: EnvState,
        action: Float[Array, "envs joints"],
        starts: MotionTime,
        key: Key[Array, ""],
        *,
        leniency: Float[Array, ""] | float = 1.0,
    ) -> tuple[EnvState, StepOutput]:
        """Acts for one control step; copies whose episode ends begin anew at `starts`.

        Args:
          leniency: limits of failure are this many times as wide as the table has them.

        Bad input: actions that are not finite count as 0.
        """
        parts = {name: getattr(state, name) for name in _TASK_FIELDS}
        action, control, push, push_in = self._act(bank, key, state.now, parts, action)
        physics, now = self.physics.advance(state.physics, control, push, state.randomisation)
        output, is_over, after, qpos, qvel = self._judge(
            bank, key, now, {**parts, "push_in": push_in}, action, starts, leniency
        )
        physics, now = self.physics.place(physics, is_over, qpos, qvel, state.randomisation)
        # The same object, so that the simulator need not be told again.
        after["randomisation"] = state.randomisation
        observation = self._observe(bank, key, now, after)
        return EnvState(physics=physics, now=now, observation=observation, **after), output


_TASK_FIELDS = ("clip", "frame", "start_frame", "age", "action", "push_in", "randomisation")


def make_env(
    robot: Robot,
    config: EnvConfig | None = None,
    *,
    num_envs: int,
    physics: PhysicsName | Physics = "c",
) -> Env:
    """Makes an environment.

    Args:
      num_envs: copies of the robot.
      physics: "c" for MuJoCo's C engine, "mjx" for MJX, "warp" for MuJoCo Warp, or a back-end.
    Raises:
      ValueError: for another physics, a robot it cannot simulate, a missing package, or fewer than
        one copy.
    """
    config = config or EnvConfig()
    if num_envs < 1:
        raise ValueError(f"num_envs must be at least 1, got {num_envs}")
    engine = make_physics(physics, robot, num_envs) if isinstance(physics, str) else physics
    task = _Task(robot, config)
    functions = (task.act, task.start, task.judge, task.observe)
    if not engine.is_jittable:
        functions = tuple(jax.jit(function) for function in functions)
    return Env(
        robot,
        config,
        num_envs,
        engine,
        robot.num_joints,
        sum(observations.term_sizes(config.actor_terms, robot)),
        sum(observations.term_sizes(config.critic_terms, robot)),
        *functions,
    )


class _Task:
    """The parts of a step between the physics, each one program."""

    def __init__(self, robot: Robot, config: EnvConfig):
        self.robot, self.config = robot, config
        self.max_age = config.episode_steps(robot.control_rate)

    def start(self, bank: ClipBank, key: Key[Array, ""], starts: MotionTime):
        """New robots, and where they begin."""
        config, robot = self.config, self.robot
        envs = starts.clip.shape[0]
        constants = tracking.constants_of(robot)
        keys = jax.random.split(key, 3)
        reference = tracking.reference_at(bank, starts.clip, starts.frame)
        qpos, qvel = perturbations.perturb_start(keys[0], constants, reference, config.start_noise)
        parts = {
            "clip": starts.clip,
            "frame": starts.frame,
            "start_frame": jnp.copy(starts.frame),
            "age": jnp.zeros(envs, jnp.int32),
            "action": jnp.zeros((envs, robot.num_joints)),
            "push_in": self._push_times(keys[1], envs),
            "randomisation": perturbations.draw_randomisation(
                keys[2], envs, robot.num_joints, config.randomisation
            ),
        }
        return parts, qpos, qvel

    def act(self, bank: ClipBank, key: Key[Array, ""], now: Physical, parts: dict, action):
        """From actions to target angles, and the pushes that are due."""
        config, constants = self.config, tracking.constants_of(self.robot)
        action = jnp.where(jnp.isfinite(action), action, 0.0)
        moment = parts["clip"], parts["frame"] + 1
        if config.action_centre == "feedforward":
            centre = tracking.targets_at(bank, *moment)
        elif config.action_centre == "reference":
            centre = tracking.reference_at(bank, *moment).qpos[:, 7:]
        else:
            centre = constants.default_joint_position[None]
        scale = constants.action_scale[None]
        if config.action_scale is not None:
            scale = jnp.full_like(scale, config.action_scale)
        control = centre + parts["randomisation"].joint_offset + scale * action
        envs = action.shape[0]
        if config.push_seconds is None:
            return action, control, jnp.zeros((envs, 6)), parts["push_in"]
        keys = jax.random.split(jax.random.fold_in(key, 1))
        is_due = parts["push_in"] <= 0
        push = perturbations.push(keys[0], now.qpos[:, 3:7]) * is_due[:, None]
        later = self._push_times(keys[1], envs)
        return action, control, push, jnp.where(is_due, later, parts["push_in"]) - 1

    def judge(
        self,
        bank: ClipBank,
        key: Key[Array, ""],
        now: Physical,
        parts: dict,
        action: Float[Array, "envs joints"],
        starts: MotionTime,
        leniency: Float[Array, ""] | float,
    ):
        """Rewards and ends of the step just made, and where ended episodes begin anew."""
        robot, config = self.robot, self.config
        clip, frame, age = parts["clip"], parts["frame"] + 1, parts["age"] + 1
        reference = tracking.reference_at(bank, clip, frame)
        moment = self._track(now, reference, action, parts["action"], parts["randomisation"])
        failed = jax.vmap(
            lambda one: terminations.has_failed(
                config.termination_terms, robot, one, leniency=leniency
            ),
            in_axes=(_TRACKING_AXES,),
        )(moment)
        terms = jax.vmap(
            lambda one: rewards.reward_terms(config.reward_terms, robot, one),
            in_axes=(_TRACKING_AXES,),
        )(moment)
        terms = jnp.where(jnp.isfinite(terms), terms, 0.0)
        is_at_end = frame >= bank.clip_length[clip] - 1
        timed_out = ~failed & ((age >= self.max_age) | is_at_end)
        is_over = failed | timed_out
        here = MotionTime(clip, jnp.minimum(frame, bank.clip_length[clip] - 1))
        shown = {**parts, "frame": frame, "action": action}
        output = StepOutput(
            reward=jnp.sum(terms, axis=1),
            reward_terms=terms,
            terminated=failed,
            timed_out=timed_out,
            final_critic=self._look(bank, now, shown, config.critic_terms),
            here=here,
            start=MotionTime(clip, parts["start_frame"]),
            age=age,
            errors=errors.tracking_errors(robot, moment),
        )
        keys = jax.random.split(jax.random.fold_in(key, 2))
        constants = tracking.constants_of(robot)
        begin = tracking.reference_at(bank, starts.clip, starts.frame)
        qpos, qvel = perturbations.perturb_start(keys[0], constants, begin, config.start_noise)
        after = {
            "clip": jnp.where(is_over, starts.clip, clip),
            "frame": jnp.where(is_over, starts.frame, frame),
            "start_frame": jnp.where(is_over, starts.frame, parts["start_frame"]),
            "age": jnp.where(is_over, 0, age),
            "action": jnp.where(is_over[:, None], 0.0, action),
            "push_in": jnp.where(
                is_over, self._push_times(keys[1], frame.shape[0]), parts["push_in"]
            ),
            "randomisation": parts["randomisation"],
        }
        return output, is_over, after, qpos, qvel

    def observe(
        self, bank: ClipBank, key: Key[Array, ""], now: Physical, parts: dict
    ) -> Observation:
        """What the policy sees, with noise, and the critic, without."""
        config = self.config
        actor = self._look(bank, now, parts, config.actor_terms)
        if config.observation_noise > 0:
            size = observations.noise_amplitudes(config.actor_terms, self.robot)
            noise = jax.random.uniform(
                jax.random.fold_in(key, 3), actor.shape, minval=-1.0, maxval=1.0
            )
            actor = actor + config.observation_noise * jnp.asarray(size)[None] * noise
        return Observation(actor, self._look(bank, now, parts, config.critic_terms))

    def _look(
        self,
        bank: ClipBank,
        now: Physical,
        parts: dict,
        table: tuple[observations.ObservationTerm, ...],
    ) -> Float[Array, "envs size"]:
        reference = tracking.reference_at(bank, parts["clip"], parts["frame"] + 1)
        action = parts["action"]
        moment = self._track(now, reference, action, action, parts["randomisation"])
        seen = jax.vmap(
            lambda one: observations.observe(table, self.robot, one), in_axes=(_TRACKING_AXES,)
        )(moment)
        return jnp.nan_to_num(jnp.clip(seen, -1e4, 1e4), nan=0.0)

    def _track(
        self,
        now: Physical,
        reference: Physical,
        action: Float[Array, "envs joints"],
        last_action: Float[Array, "envs joints"],
        randomisation: Randomisation,
    ) -> Tracking:
        constants = tracking.constants_of(self.robot)

        def one(now, reference, action, last_action, joint_offset):
            return tracking.compare(
                self.robot,
                constants,
                now,
                reference,
                action=action,
                last_action=last_action,
                joint_offset=joint_offset,
            )

        return jax.vmap(one, out_axes=_TRACKING_AXES)(
            now, reference, action, last_action, randomisation.joint_offset
        )

    def _push_times(self, key: Key[Array, ""], envs: int) -> Int[Array, " envs"]:
        if self.config.push_seconds is None:
            return jnp.zeros(envs, jnp.int32)
        low, high = (round(s * self.robot.control_rate) for s in self.config.push_seconds)
        return jax.random.randint(key, (envs,), low, high + 1)


_TRACKING_AXES = Tracking(0, 0, 0, 0, 0, 0, 0, None)  # pyright: ignore[reportArgumentType]
