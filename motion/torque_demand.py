"""Whether a robot is strong enough for a clip: torques a motion asks for, by inverse dynamics.

What the floor does to the feet is not in a clip, so only joints that no foot hangs from can be
judged: their torques depend on the masses they carry and on how these move, and on nothing else. A
clip that asks for more than a motor has cannot be followed exactly, however long a policy learns.
"""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled names have no stubs)

import numpy as np
from jaxtyping import Float

from . import inverse_dynamics
from .clips import Clip
from .robots import Robot

WORTH_SAYING = 1.2
_SMOOTHED = inverse_dynamics.SMOOTHED


def torque_shares(robot: Robot, clip: Clip) -> Float[np.ndarray, "frames joints"]:
    """Computes torques over the motors' limits; NaN for joints that carry a foot.

    Args:
      clip: with the robot's joints, see `fit_to_robot`.
    """
    torques = inverse_dynamics.free_torques(robot, clip)
    padded = np.pad(torques, ((_SMOOTHED // 2, _SMOOTHED // 2), (0, 0)), "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, _SMOOTHED, axis=0)
    shares = np.abs(windows.mean(axis=-1)) / np.asarray(robot.effort_limit)
    shares[:, _carries_foot(robot)] = np.nan
    return shares


def torque_note(robot: Robot, clip: Clip) -> str | None:
    """Says where a clip asks for clearly more torque than a motor has; None: nowhere known."""
    shares = np.nan_to_num(torque_shares(robot, clip))
    frame, joint = np.unravel_index(np.argmax(shares), shares.shape)
    if shares[frame, joint] < WORTH_SAYING:
        return None
    return (
        f"{clip.name}: asks {robot.joint_names[joint]} for {shares[frame, joint]:.1f} times its "
        f"torque at {frame / robot.control_rate:.2f} s, so {robot.name} cannot follow it exactly"
    )


def _carries_foot(robot: Robot) -> np.ndarray:
    """Which joints have a foot on their far side."""
    model = robot.model
    above: set[int] = set()
    for place in robot.feet:
        body = robot.tracked_ids[place]
        while body > 0:
            above.add(int(body))
            body = model.body_parentid[body]
    return np.array([int(model.joint(name).bodyid[0]) in above for name in robot.joint_names])
