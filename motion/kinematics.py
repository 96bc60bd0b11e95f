"""Where the tracked bodies are and how they move, for positions and velocities of a whole clip.

MuJoCo's own kinematics, in float64 on the host. Velocities are those of the bodies' frames'
origins, in the world's axes.
"""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled names have no stubs)

import copy
from typing import NamedTuple

import mujoco
import numpy as np
from jaxtyping import Float
from mujoco.batch import Batch

from scenes.cores import cores

from .robots import Robot

_CHUNK = 256
_MOST_THREADS = 8
_CONTACTLESS = mujoco.mjtDisableBit.mjDSBL_CONTACT | mujoco.mjtDisableBit.mjDSBL_CONSTRAINT


class BodyMotion(NamedTuple):
    """Poses and velocities of the tracked bodies, in their order.

    Attributes:
      position: of the body's frame, metres.
      quaternion: w x y z.
      linear_velocity: of the frame's origin, world axes, m/s.
      angular_velocity: world axes, rad/s.
    """

    position: Float[np.ndarray, "*frames bodies 3"]
    quaternion: Float[np.ndarray, "*frames bodies 4"]
    linear_velocity: Float[np.ndarray, "*frames bodies 3"]
    angular_velocity: Float[np.ndarray, "*frames bodies 3"]


def clip_kinematics(
    robot: Robot, qpos: Float[np.ndarray, "frames nq"], qvel: Float[np.ndarray, "frames nv"]
) -> BodyMotion:
    """Computes the motion of the tracked bodies at every frame.

    Raises:
      ValueError: when the widths are not those of the robot.
    """
    model = robot.model
    if qpos.shape[1:] != (model.nq,) or qvel.shape != (len(qpos), model.nv):
        raise ValueError(
            f"{robot.name} needs qpos [frames, {model.nq}] and qvel [frames, {model.nv}], "
            f"got {list(qpos.shape)} and {list(qvel.shape)}"
        )
    bare = copy.copy(model)
    bare.opt.disableflags |= int(_CONTACTLESS)
    size = max(1, min(_CHUNK, len(qpos)))
    batch = Batch(bare, size, min(_MOST_THREADS, len(cores())))
    parts = []
    for first in range(0, len(qpos), size):
        count = min(size, len(qpos) - first)
        batch.bind("qpos")[:count] = qpos[first : first + count]
        batch.bind("qvel")[:count] = qvel[first : first + count]
        xpos, xquat, cvel, com = (
            batch.bind(name) for name in ("xpos", "xquat", "cvel", "subtree_com")
        )
        batch.forward(np.arange(count), stage=int(mujoco.mjtStage.mjSTAGE_VEL))
        parts.append(body_motion(robot, xpos[:count], xquat[:count], cvel[:count], com[:count]))
    if not parts:
        raise ValueError("needs at least one frame, got none")
    return BodyMotion(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def body_motion(
    robot: Robot,
    xpos: Float[np.ndarray, "*n nbody 3"],
    xquat: Float[np.ndarray, "*n nbody 4"],
    cvel: Float[np.ndarray, "*n nbody 6"],
    subtree_com: Float[np.ndarray, "*n nbody 3"],
) -> BodyMotion:
    """Picks the tracked bodies out of MuJoCo's fields and moves velocities to their origins.

    MuJoCo keeps the velocity of every body as that of the point of the body that is momentarily at
    the centre of mass of the whole tree.
    """
    ids = np.asarray(robot.tracked_ids)
    root = int(robot.model.body_rootid[ids[0]])
    position = xpos[..., ids, :]
    angular = cvel[..., ids, :3]
    arm = position - subtree_com[..., root : root + 1, :]
    return BodyMotion(
        position=position,
        quaternion=xquat[..., ids, :],
        linear_velocity=cvel[..., ids, 3:] + np.cross(angular, arm),
        angular_velocity=angular,
    )
