"""Puts a clip onto a level floor: retargeted motions float, sink, and drift by centimetres."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled names have no stubs)

from collections.abc import Sequence
from typing import NamedTuple

import mujoco
import numpy as np
from jaxtyping import Float
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import gaussian_filter1d, grey_closing, median_filter

from .clips import Clip
from .robots import Robot, contacts

DRIFT, STAIRS = 0.04, 0.15
"""Metres by which a floor rises and sinks that is to be made level: less is noise, more is meant
(stairs, a handstand)."""
_LONGEST_FLIGHT, _LONGEST_DIP, _SMOOTH = 0.8, 0.2, 0.1
"""Seconds."""
STANDING_SHARE = 0.2
"""Share of the frames whose lowest foot point may lie below the floor after the correction."""


def lowest_foot_points(robot: Robot, clip: Clip) -> Float[np.ndarray, " frames"]:
    """Height of the lowest point of the feet's shapes over the floor, metres."""
    ids = [robot.tracked_ids[place] for place in robot.feet]
    return _lowest(robot, clip, ids, contacts.spheres_of(robot.model, list(enumerate(ids))))


def _lowest(
    robot: Robot, clip: Clip, ids: Sequence[int], spheres: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> Float[np.ndarray, " frames"]:
    model, data = robot.model, mujoco.MjData(robot.model)
    body, offset, radius = spheres
    heights = np.full(clip.num_frames, np.inf)
    for frame in range(clip.num_frames):
        data.qpos[:3] = clip.root_position[frame]
        data.qpos[3:7] = clip.root_quaternion[frame]
        data.qpos[7:] = clip.joint_position[frame]
        mujoco.mj_kinematics(model, data)
        matrices = data.xmat[ids].reshape(-1, 3, 3)[body]
        points = data.xpos[ids][body] + np.einsum("nij,nj->ni", matrices, offset)
        heights[frame] = np.min(points[:, 2] - radius, initial=np.inf)
    return heights


def floor_line(robot: Robot, clip: Clip) -> Float[np.ndarray, " frames"]:
    """Gives the height of the floor that a clip seems to be on, over time, metres.

    It follows the lowest point of feet and body but for what sticks out of it for less than 0.8 s,
    which are flights (no robot jumps for longer), and for dips of less than 0.2 s (a grey-scale
    opening by windows inside the clip and a closing, smoothed before and after by a tenth of a
    second).
    """
    body = _lowest(robot, clip, list(robot.tracked_ids), robot.contact_spheres)
    heights = np.minimum(lowest_foot_points(robot, clip), body)
    heights = median_filter(heights, 1 + 2 * round(_SMOOTH * clip.fps), mode="nearest")
    width = min(len(heights), max(2, round(_LONGEST_FLIGHT * clip.fps)))
    lowest = sliding_window_view(heights, width).min(axis=1)
    around = np.pad(lowest, width - 1, constant_values=-np.inf)
    opened = sliding_window_view(around, width).max(axis=1)
    closed = grey_closing(opened, 1 + round(_LONGEST_DIP * clip.fps), mode="nearest")
    return gaussian_filter1d(closed, _SMOOTH * clip.fps, mode="nearest")


class Levelled(NamedTuple):
    """A clip over a level floor.

    Attributes:
      drift: metres the floor seemed to rise and sink by.
      is_changed: it was made level, which it is for drifts between `DRIFT` and `STAIRS`.
    """

    clip: Clip
    drift: float
    is_changed: bool


def level_floor(robot: Robot, clip: Clip) -> Levelled:
    """Takes out a floor that rises and sinks in the course of a clip; its middle height stays."""
    line = floor_line(robot, clip)
    drift = float(line.max() - line.min())
    if not DRIFT <= drift <= STAIRS:
        return Levelled(clip, drift, False)
    root = clip.root_position.copy()
    root[:, 2] -= line - np.median(line)
    return Levelled(clip._replace(root_position=root), drift, True)


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
