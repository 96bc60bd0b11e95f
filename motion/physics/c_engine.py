"""MuJoCo's C engine, many copies on a thread pool; nothing to compile.

The state of a copy is its row of MuJoCo's integration state (positions, velocities, controls, warm
start), so results are bit-identical for any number of threads and after a resume.
"""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled names have no stubs)

from typing import NamedTuple

import mujoco
import numpy as np
from jaxtyping import Array, Bool, Float
from mujoco.batch import Batch

from motion.kinematics import body_motion
from motion.perturbations import Randomisation
from motion.robots import Robot
from motion.tracking import Bodies, Physical
from scenes.cores import cores

_STAGE = int(mujoco.mjtStage.mjSTAGE_VEL)
_FIELDS = ("xpos", "xquat", "cvel", "subtree_com")


class CState(NamedTuple):
    """MuJoCo's integration state of every copy, in float64."""

    rows: Float[np.ndarray, "envs nstate"]


class CEngine:
    """The back-end "c"; see `Physics`.

    One simulator serves every state it is given: rows that are not the ones it returned last are
    loaded first.
    """

    name = "c"
    is_jittable = False

    def __init__(self, robot: Robot, num_envs: int, num_threads: int | None = None):
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        threads = num_threads or len(cores())
        self._robot = robot
        self._batch = Batch(robot.model, num_envs, min(threads, num_envs), persistent=True)
        self._fields = [self._batch.bind(name) for name in _FIELDS]
        self._qpos, self._qvel = self._batch.bind("qpos"), self._batch.bind("qvel")
        self._control = self._batch.bind("ctrl")
        self._warm = self._batch.bind("qacc_warmstart")
        self._time = self._batch.bind("time")
        self._friction = self._batch.expand("pair_friction") if robot.pair_ids else None
        self._com = self._batch.expand("body_ipos")
        self._rows: Float[np.ndarray, "envs nstate"] | None = None
        self._randomisation: Randomisation | None = None

    def init(
        self,
        qpos: Float[Array, "envs nq"],
        qvel: Float[Array, "envs nv"],
        randomisation: Randomisation,
    ) -> tuple[CState, Physical]:
        """Starts all environments."""
        state = CState(np.zeros_like(self._batch.state))
        self._batch.reset(stage=int(mujoco.mjtStage.mjSTAGE_NONE))
        self._rows = state.rows
        everyone = np.ones(self._batch.nsim, bool)
        return self.place(state, everyone, qpos, qvel, randomisation)

    def place(
        self,
        state: CState,
        mask: Bool[Array | np.ndarray, " envs"],
        qpos: Float[Array, "envs nq"],
        qvel: Float[Array, "envs nv"],
        randomisation: Randomisation,
    ) -> tuple[CState, Physical]:
        """Moves the environments of `mask`; only these are computed anew."""
        is_loaded = self._load(state, randomisation)
        moved = np.asarray(mask)
        if moved.any():
            self._qpos[moved] = np.asarray(qpos)[moved]
            self._qvel[moved] = np.asarray(qvel)[moved]
            self._warm[moved] = 0.0
            self._control[moved] = np.asarray(qpos)[moved, 7:]
            self._time[moved] = 0.0
        self._batch.forward(None if is_loaded else moved, stage=_STAGE)
        return self._save()

    def advance(
        self,
        state: CState,
        control: Float[Array, "envs joints"],
        push: Float[Array, "envs 6"],
        randomisation: Randomisation,
    ) -> tuple[CState, Physical]:
        """Adds `push` to the root's velocity, then simulates one control step."""
        self._load(state, randomisation)
        self._control[:] = np.asarray(control)
        self._qvel[:, :6] += np.asarray(push)
        self._batch.step(nstep=self._robot.num_substeps, stage=_STAGE)
        return self._save()

    def _load(self, state: CState, randomisation: Randomisation) -> bool:
        """Puts a state into the simulator unless it is there; says whether it had to."""
        is_foreign = state.rows is not self._rows
        if is_foreign:
            self._batch.state[:] = state.rows
        if randomisation is not self._randomisation:
            if self._friction is not None:
                friction = np.asarray(randomisation.friction)[:, None, None]
                self._friction[:, :, :2] = friction
            model = self._robot.model
            anchor = self._robot.tracked_ids[self._robot.anchor]
            shift = np.asarray(randomisation.anchor_com)
            self._com[:, anchor] = model.body_ipos[anchor] + shift
            self._randomisation = randomisation
            is_foreign = True
        return is_foreign

    def _save(self) -> tuple[CState, Physical]:
        self._rows = self._batch.state.copy()
        bodies = body_motion(self._robot, *self._fields)
        single = [np.asarray(part, np.float32) for part in (self._qpos, self._qvel, *bodies)]
        return CState(self._rows), Physical(single[0], single[1], Bodies(*single[2:]))  # pyright: ignore[reportArgumentType]
