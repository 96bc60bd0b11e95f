"""MJX: MuJoCo in JAX, so that a whole train step is one program.

The state is positions, velocities and the solver's warm start; everything else follows from them.

MJX keeps the damping of a motor that is at its effort limit in the implicit integrator; the C
engine does not, since the torque no longer depends on the velocity. Here such a motor is given a
target that asks for just its limit, and no damping, which is what the C engine computes.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jaxlib
from jaxtyping import Array, Bool, Float
from mujoco import mjx

from motion.perturbations import Randomisation
from motion.robots import Robot
from motion.tracking import Physical
from motion.tree_kinematics import bodies_at, tree_of


@contextlib.contextmanager
def _as_mjx_wants() -> Iterator[None]:
    """Lets shapes broadcast, and computes matrix products in float32.

    Accelerators otherwise keep 8 to 11 bits of the factors.
    """
    with jax.numpy_rank_promotion("allow"), jax.default_matmul_precision("highest"):
        yield


def refuse_waiting_for_ever(robot: Robot, num_envs: int) -> None:
    """Refuses as many copies as may hang on a CPU.

    Before jaxlib 0.12 the Cholesky factorisation of a batch, from about 2e5 operations on, is split
    among the threads of XLA's pool and waited for on one of them. When all of them wait, on two
    cores two factorisations at once, nothing goes on. A pool of one thread does not split.

    Raises:
      ValueError: saying what to do instead.
    """
    is_split = num_envs * robot.model.nv**3 / 3 >= 2e5
    is_pool = all(os.environ.get(name) != "1" for name in ("NPROC", "PJRT_NPROC"))
    is_old = tuple(map(int, jaxlib.__version__.split(".")[:2])) < (0, 12)
    if is_split and is_pool and is_old and jax.default_backend() == "cpu":
        raise ValueError(
            f"physics mjx with {num_envs} copies can wait for ever on a CPU with jaxlib "
            f"{jaxlib.__version__}: take physics c, jaxlib 0.12 or later, or set "
            "PJRT_NPROC=1 in the environment"
        )


class MjxState(NamedTuple):
    """What the future of every copy depends on."""

    qpos: Float[Array, "envs nq"]
    qvel: Float[Array, "envs nv"]
    warm_start: Float[Array, "envs nv"]


class MjxEngine:
    """The back-end "mjx"; see `Physics`."""

    name = "mjx"
    is_jittable = True

    def __init__(self, robot: Robot):
        self._robot = robot
        self._tree = tree_of(robot)
        self._model, self._data = mjx.put_model(robot.model), mjx.make_data(robot.model)

    def init(
        self,
        qpos: Float[Array, "envs nq"],
        qvel: Float[Array, "envs nv"],
        randomisation: Randomisation,
    ) -> tuple[MjxState, Physical]:
        """Starts all environments."""
        state = MjxState(qpos, qvel, jnp.zeros_like(qvel))
        return state, self._tell(state)

    def place(
        self,
        state: MjxState,
        mask: Bool[Array, " envs"],
        qpos: Float[Array, "envs nq"],
        qvel: Float[Array, "envs nv"],
        randomisation: Randomisation,
    ) -> tuple[MjxState, Physical]:
        """Moves the environments of `mask`; kinematics are computed for all."""
        moved = mask[:, None]
        state = MjxState(
            jnp.where(moved, qpos, state.qpos),
            jnp.where(moved, qvel, state.qvel),
            jnp.where(moved, 0.0, state.warm_start),
        )
        return state, self._tell(state)

    def advance(
        self,
        state: MjxState,
        control: Float[Array, "envs joints"],
        push: Float[Array, "envs 6"],
        randomisation: Randomisation,
    ) -> tuple[MjxState, Physical]:
        """Adds `push` to the root's velocity, then simulates one control step."""
        qvel = state.qvel.at[:, :6].add(push)
        with _as_mjx_wants():
            state = jax.vmap(self._substeps)(state._replace(qvel=qvel), control, randomisation)
        return state, self._tell(state)

    def _substeps(
        self, state: MjxState, control: Float[Array, " joints"], randomisation: Randomisation
    ) -> MjxState:
        model = self._randomised(self._model, randomisation)
        stiffness, damping, effort = (
            jnp.asarray(part, control.dtype)
            for part in (self._robot.stiffness, self._robot.damping, self._robot.effort_limit)
        )

        def substep(state: MjxState, _: None) -> tuple[MjxState, None]:
            angle, speed = state.qpos[7:], state.qvel[6:]
            torque = stiffness * (control - angle) - damping * speed
            is_at_limit = jnp.abs(torque) >= effort
            limit = angle + jnp.clip(torque, -effort, effort) / stiffness
            slope = jnp.where(is_at_limit, 0.0, -damping)
            data = self._data.replace(
                qpos=state.qpos,
                qvel=state.qvel,
                qacc_warmstart=state.warm_start,
                ctrl=jnp.where(is_at_limit, limit, control),
            )
            biasprm = model.actuator_biasprm.at[:, 2].set(slope)
            data = mjx.step(model.replace(actuator_biasprm=biasprm), data)
            return MjxState(data.qpos, data.qvel, data.qacc_warmstart), None

        return jax.lax.scan(substep, state, None, length=self._robot.num_substeps)[0]

    def _randomised(self, model: mjx.Model, randomisation: Randomisation) -> mjx.Model:
        anchor = self._robot.tracked_ids[self._robot.anchor]
        com = model.body_ipos.at[anchor].add(randomisation.anchor_com)
        friction = model.pair_friction
        if self._robot.pair_ids:
            friction = friction.at[:, :2].set(randomisation.friction)
        return model.replace(body_ipos=com, pair_friction=friction)

    def _tell(self, state: MjxState) -> Physical:
        bodies = bodies_at(self._tree, state.qpos, state.qvel)
        return Physical(state.qpos, state.qvel, bodies)
