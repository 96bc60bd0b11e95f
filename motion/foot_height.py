"""Puts a clip's feet onto the floor: retargeted motions float or sink by centimetres."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled names have no stubs)

from typing import NamedTuple

import mujoco
import numpy as np
from jaxtyping import Float

from .clips import Clip
from .robots import Robot, contacts

STANDING_SHARE = 0.2
"""Share of the frames whose lowest foot point may lie below the floor after the correction."""


def lowest_foot_points(robot: Robot, clip: Clip) -> Float[np.ndarray, " frames"]:
    """Height of the lowest point of the feet's shapes over the floor, metres."""
    model, data = robot.model, mujoco.MjData(robot.model)
    ids = [robot.tracked_ids[place] for place in robot.feet]
    body, offset, radius = contacts.spheres_of(model, list(enumerate(ids)))
    heights = np.zeros(clip.num_frames)
    for frame in range(clip.num_frames):
        data.qpos[:3] = clip.root_position[frame]
        data.qpos[3:7] = clip.root_quaternion[frame]
        data.qpos[7:] = clip.joint_position[frame]
        mujoco.mj_kinematics(model, data)
        matrices = data.xmat[ids].reshape(-1, 3, 3)[body]
        points = data.xpos[ids][body] + np.einsum("nij,nj->ni", matrices, offset)
        heights[frame] = float(np.min(points[:, 2] - radius))
    return heights


class OnFloor(NamedTuple):
    """A clip put on the floor.

    Attributes:
      raised: by how much, metres; 0: it stood there.
      below: by how much its lowest foot is below the floor now, metres.
    """

    clip: Clip
    raised: float
    below: float


def put_on_floor(robot: Robot, clip: Clip, *, least: float = 0.003) -> OnFloor:
    """Moves a clip up or down so that its feet stand on the floor.

    The height that counts as the floor is a low quantile of the lowest foot point, so jumps do not
    matter and a few deep frames do not lift the rest.

    Args:
      clip: with the robot's joints, see `fit_to_robot`.
      least: corrections smaller than this, in metres, are not made.
    """
    heights = lowest_foot_points(robot, clip)
    floor = float(np.quantile(heights, STANDING_SHARE))
    if abs(floor) < least:
        return OnFloor(clip, 0.0, max(0.0, -float(heights.min())))
    moved = clip._replace(root_position=clip.root_position - np.array([0.0, 0.0, floor]))
    return OnFloor(moved, -floor, max(0.0, floor - float(heights.min())))
