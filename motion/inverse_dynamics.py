"""Torques that follow a clip: inverse dynamics, with the floor's forces found by least squares.

A clip says how every body moves, so the sum of all forces is known: `mj_inverse`. Motors cannot
move the root; what it needs comes from the floor, through the lowest points of the feet. Their
forces are the smallest ones inside the friction pyramid that give the root what it needs; points
that are high over the floor or slide over it count as costly. Where a clip asks for the
impossible, such as standing beside its feet, a rest is left that nobody supplies.

Source: contact forces by non-negative least squares over the edges of linearised friction cones are
the usual form (Stewart and Trinkle 1996; Kuindersma et al. 2016); SciPy solves them.
"""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled names have no stubs)

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Float
from scipy.ndimage import uniform_filter1d
from scipy.optimize import nnls

from . import resampling
from .clips import Clip, ClipBank, clip_states
from .robots import Robot, contacts

SMOOTHED = 3
"""Control steps over which accelerations and torques are averaged: positions differentiated twice
are noisy."""
_FREE = mujoco.mjtDisableBit.mjDSBL_CONTACT | mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
_REACH = 0.06
"""Metres over the floor below which a point of a foot may push."""
_HIGH, _FAST = 0.003, 0.1
"""Metres over the floor and metres per second at which a force has twice the price it has at rest
there."""
_FRICTION = 0.8
"""Less than the floor's, so that a foot is not asked to hold at the edge of sliding."""
_ARM = 0.5
"""Metres: turns forces into moments, to compare both."""
_TORQUE_COST, _FORCE_COST = 3e-3, 1e-3
"""Prices of a motor's full torque and of a push as large as the weight; that of such a force which
the root lacks is 1. Squares of prices are summed."""


class ClipForces(NamedTuple):
    """What moves a robot along a clip, at the control rate.

    Attributes:
      torque: of the motors, Nm; not limited to what they have.
      missing: force (world, N) and moment (the root's frame, Nm) on the root that neither motors
        nor floor supply.
    """

    torque: Float[np.ndarray, "frames joints"]
    missing: Float[np.ndarray, "frames 6"]


def clip_forces(
    robot: Robot, clip: Clip, *, on_frame: Callable[[], None] | None = None
) -> ClipForces:
    """Computes what moves a robot along a clip; about a millisecond per control step.

    Args:
      clip: with the robot's joints, see `fit_to_robot`; it should stand on the floor.
      on_frame: called after each control step, for progress bars.
    Raises:
      ValueError: where SciPy finds no forces, naming clip and moment.
    """
    qpos, qvel = clip_states(clip, robot.control_rate)
    acceleration = _smooth(resampling.central_differences(qvel, robot.control_rate))
    needed = _inverse(robot, qpos, qvel, acceleration)
    feet = _Feet(robot)
    weight = 9.81 * mujoco.mj_getTotalmass(robot.model)
    limit = np.minimum(np.asarray(robot.effort_limit), weight * _ARM)
    cost = np.concatenate((np.ones(3) / weight, np.ones(3) / (weight * _ARM), _TORQUE_COST / limit))
    for frame in range(len(qpos)):
        edges, price = feet.push(qpos[frame], qvel[frame])
        if price.size:
            system = np.concatenate((cost[:, None] * edges * weight, np.diag(price)))
            wanted = np.concatenate((cost * needed[frame], np.zeros(price.size)))
            try:
                pushes = nnls(system, wanted)[0]
            except RuntimeError as error:
                moment = frame / robot.control_rate
                raise ValueError(f"{clip.name}: no forces found at {moment:.2f} s") from error
            needed[frame] -= edges @ pushes * weight
        if on_frame is not None:
            on_frame()
    return ClipForces(_smooth(needed[:, 6:]), needed[:, :6])


def joint_targets(
    robot: Robot, clip: Clip, *, on_frame: Callable[[], None] | None = None
) -> Float[np.ndarray, "frames joints"]:
    """Gives the angles to ask of the joints for the motors to give a clip's torques.

    That is, as far as the motors have them, at the moment where the robot is and moves as the clip
    does. At the control rate; a step from one frame to the next asks for those of the next.
    """
    qpos, qvel = clip_states(clip, robot.control_rate)
    limit = np.asarray(robot.effort_limit)
    torque = np.clip(clip_forces(robot, clip, on_frame=on_frame).torque, -limit, limit)
    return qpos[:, 7:] + (torque + robot.damping * qvel[:, 6:]) / robot.stiffness


def with_targets(
    robot: Robot,
    bank: ClipBank,
    clips: Sequence[Clip],
    *,
    on_frame: Callable[[], None] | None = None,
) -> ClipBank:
    """Adds `joint_targets` to a bank.

    Args:
      clips: those the bank was built of.
      on_frame: see `clip_forces`.
    Raises:
      ValueError: for a bank of other clips.
    """
    target = np.concatenate([joint_targets(robot, clip, on_frame=on_frame) for clip in clips])
    if target.shape != (len(bank.qpos), robot.num_joints):
        raise ValueError(f"the bank has {len(bank.qpos)} frames, the clips have {len(target)}")
    return bank._replace(target=jnp.asarray(target, jnp.float32))


def free_torques(robot: Robot, clip: Clip) -> Float[np.ndarray, "frames joints"]:
    """Computes torques as if nothing touched the robot: right for joints that carry no foot."""
    qpos, qvel = clip_states(clip, robot.control_rate)
    acceleration = resampling.central_differences(qvel, robot.control_rate)
    return _inverse(robot, qpos, qvel, acceleration)[:, 6:]


def _smooth(values: np.ndarray) -> np.ndarray:
    return uniform_filter1d(values, SMOOTHED, axis=0, mode="nearest")


def _inverse(robot: Robot, qpos: np.ndarray, qvel: np.ndarray, qacc: np.ndarray) -> np.ndarray:
    model = copy.copy(robot.model)
    model.opt.disableflags |= int(_FREE)
    data = mujoco.MjData(model)
    forces = np.zeros_like(qvel)
    for frame in range(len(qpos)):
        data.qpos, data.qvel, data.qacc = qpos[frame], qvel[frame], qacc[frame]
        mujoco.mj_inverse(model, data)
        forces[frame] = data.qfrc_inverse
    return forces


class _Feet:
    """The points of the feet that may touch the floor."""

    def __init__(self, robot: Robot):
        self._model, self._data = robot.model, mujoco.MjData(robot.model)
        ids = [robot.tracked_ids[place] for place in robot.feet]
        body, self._offset, self._radius = contacts.spheres_of(self._model, list(enumerate(ids)))
        self._ids = np.asarray(ids)[body]
        angles = np.arange(4) * np.pi / 2
        self._edges = np.stack((_FRICTION * np.cos(angles), _FRICTION * np.sin(angles), np.ones(4)))

    def push(self, qpos: np.ndarray, qvel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gives generalized forces of unit pushes along the edges of the friction pyramids, as
        columns, and the cost of each."""
        model, data = self._model, self._data
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        matrices = data.xmat[self._ids].reshape(-1, 3, 3)
        points = data.xpos[self._ids] + np.einsum("nij,nj->ni", matrices, self._offset)
        points[:, 2] -= self._radius
        columns, prices = [np.zeros((model.nv, 0))], [np.zeros(0)]
        for body, point in zip(self._ids, points, strict=True):
            if point[2] > _REACH:
                continue
            jacobian = np.zeros((3, model.nv))
            mujoco.mj_jac(model, data, jacobian, None, point, body)
            speed = np.linalg.norm(jacobian @ qvel)
            price = _FORCE_COST * (1 + (max(point[2], 0.0) / _HIGH) ** 2 + (speed / _FAST) ** 2)
            columns.append(jacobian.T @ self._edges)
            prices.append(np.full(4, float(price)))
        return np.concatenate(columns, axis=1), np.concatenate(prices)
