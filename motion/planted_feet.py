"""Inverse kinematics that keeps feet where they are told while the body moves above them.

Per frame the legs' joints and the root's place over the floor are solved, by damped least squares
from the frame before, so that each foot has its target pose and the centre of mass its target over
the floor. Root height, root rotation and all other joints are given.
"""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled names have no stubs)

from typing import NamedTuple

import mujoco
import numpy as np
from jaxtyping import Float

from .robots import Robot

_ITERATIONS = 30
_DAMPING = 1e-6
_TOLERANCE = 1e-5
_OFFSETS = tuple(0.005 * step for step in range(8))
"""Metres before the ankles tried for the centre of mass."""
_PATIENCE = 3.0
_LEG_WORDS = ("hip", "knee", "ankle")


class Wish(NamedTuple):
    """What a program of motion asks for, frame by frame.

    Attributes:
      height: of the root.
      rotation: of the root, quaternion.
      centre: of mass, over the floor.
      foot_position: of the feet's bodies, in the order of `Robot.feet`.
      joints: of the whole robot; those of the legs are where the search begins.
    """

    height: Float[np.ndarray, " frames"]
    rotation: Float[np.ndarray, "frames 4"]
    centre: Float[np.ndarray, "frames 2"]
    foot_position: Float[np.ndarray, "frames feet 3"]
    joints: Float[np.ndarray, "frames joints"]


class Stance(NamedTuple):
    """The robot standing in its default pose.

    Attributes:
      centre: of mass, over the floor.
      foot_position: of the feet's bodies.
      foot_matrix: their rotations.
    """

    centre: Float[np.ndarray, " 2"]
    foot_position: Float[np.ndarray, "feet 3"]
    foot_matrix: Float[np.ndarray, "feet 3 3"]


def default_stance(robot: Robot) -> Stance:
    """Where feet and centre of mass are in the default pose."""
    data = mujoco.MjData(robot.model)
    data.qpos[:] = robot.default_qpos
    _kinematics(robot, data)
    ids = _foot_ids(robot)
    return Stance(
        data.subtree_com[robot.tracked_ids[0], :2].copy(),
        data.xpos[ids].copy(),
        data.xmat[ids].reshape(-1, 3, 3).copy(),
    )


def balanced_stance(robot: Robot) -> Stance:
    """The default stance with the centre of mass moved to where the robot stands longest by itself.

    Motors that hold angles give way under load, so a robot whose weight is not right over its
    ankles leans ever further; where it does so slowest is found by trying.
    """
    stance = default_stance(robot)
    ankle = float(np.mean(stance.foot_position[:, 0]))
    best, longest = stance, -1.0
    for offset in _OFFSETS:
        tried = stance._replace(centre=np.array([ankle + offset, stance.centre[1]]))
        wish = Wish(
            height=np.array([robot.default_root_height]),
            rotation=np.array([[1.0, 0.0, 0.0, 0.0]]),
            centre=tried.centre[None],
            foot_position=stance.foot_position[None],
            joints=np.asarray(robot.default_joint_position, float)[None],
        )
        seconds = _standing_seconds(robot, solve(robot, wish)[0])
        if seconds > longest + 1e-9:
            best, longest = tried, seconds
    return best


def leg_joints(robot: Robot) -> tuple[int, ...]:
    """Places in `joint_names` of hips, knees and ankles.

    Raises:
      ValueError: when there are not six per foot.
    """
    found = tuple(
        place
        for place, name in enumerate(robot.joint_names)
        if any(word in name for word in _LEG_WORDS)
    )
    if len(found) != 6 * len(robot.feet):
        raise ValueError(
            f"{robot.name}: needs six joints per leg, named after hip, knee and ankle, for feet "
            f"that stay on the floor; found {len(found)}"
        )
    return found


def solve(robot: Robot, wish: Wish) -> Float[np.ndarray, "frames nq"]:
    """Finds the positions of every frame.

    Raises:
      ValueError: for a wish out of reach, naming the frame and how far it was missed.
    """
    model, data, stance = robot.model, mujoco.MjData(robot.model), default_stance(robot)
    feet, root = _foot_ids(robot), robot.tracked_ids[0]
    legs = np.asarray(leg_joints(robot))
    columns = np.concatenate([[0, 1], 6 + legs])
    jacobian = np.zeros((2 + 6 * len(feet), model.nv))
    com_jacobian = np.zeros((3, model.nv))
    place, angles = wish.centre[0].copy(), wish.joints[0, legs].copy()
    found = np.zeros((len(wish.height), model.nq))
    for frame in range(len(wish.height)):
        miss = np.inf
        for _ in range(_ITERATIONS):
            data.qpos[:2], data.qpos[2] = place, wish.height[frame]
            data.qpos[3:7] = wish.rotation[frame]
            data.qpos[7:] = wish.joints[frame]
            data.qpos[7 + legs] = angles
            _kinematics(robot, data)
            errors = [wish.centre[frame] - data.subtree_com[root, :2]]
            mujoco.mj_jacSubtreeCom(model, data, com_jacobian, root)
            jacobian[:2] = com_jacobian[:2]
            for number, foot in enumerate(feet):
                rows = slice(2 + 6 * number, 8 + 6 * number)
                mujoco.mj_jacBody(model, data, jacobian[rows][:3], jacobian[rows][3:], foot)
                turn = stance.foot_matrix[number] @ data.xmat[foot].reshape(3, 3).T
                errors.append(wish.foot_position[frame, number] - data.xpos[foot])
                errors.append(_rotation_vector(turn))
            error = np.concatenate(errors)
            miss = float(np.max(np.abs(error)))
            if miss < _TOLERANCE:
                break
            part = jacobian[:, columns]
            square = part @ part.T + _DAMPING * np.eye(len(error))
            step = part.T @ np.linalg.solve(square, error)
            step *= min(1.0, 0.3 / max(float(np.max(np.abs(step))), 1e-9))
            place = place + step[:2]
            angles = np.clip(angles + step[2:], robot.lower[legs], robot.upper[legs])
        if miss > 0.01:
            raise ValueError(
                f"{robot.name}: a motion is out of reach: frame {frame} is missed by {miss:.3f}"
            )
        found[frame] = data.qpos
    return found


def _standing_seconds(robot: Robot, qpos: Float[np.ndarray, " nq"]) -> float:
    """How long the motors alone keep a pose, less what it moved meanwhile."""
    model, data = robot.model, mujoco.MjData(robot.model)
    data.qpos[:] = qpos
    data.ctrl[:] = qpos[7:]
    steps = round(_PATIENCE / model.opt.timestep)
    for step in range(steps):
        mujoco.mj_step(model, data)
        if abs(data.qpos[2] - qpos[2]) > 0.25 * qpos[2]:
            return step * model.opt.timestep
    return _PATIENCE + 1.0 / (1.0 + float(np.linalg.norm(data.qpos - qpos)))


def _kinematics(robot: Robot, data: mujoco.MjData) -> None:
    mujoco.mj_kinematics(robot.model, data)
    mujoco.mj_comPos(robot.model, data)


def _foot_ids(robot: Robot) -> list[int]:
    return [robot.tracked_ids[place] for place in robot.feet]


def _rotation_vector(matrix: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, " 3"]:
    quaternion, vector = np.zeros(4), np.zeros(3)
    mujoco.mju_mat2Quat(quaternion, matrix.reshape(-1))
    mujoco.mju_quat2Vel(vector, quaternion, 1.0)
    return vector
