"""The tracking task in plain NumPy float64, one environment at a time, with rotation matrices."""

import numpy as np
from scipy.spatial.transform import Rotation


def rotation(q):
    return Rotation.from_quat(np.asarray(q, np.float64)[[1, 2, 3, 0]])


def angle(a, b):
    return (rotation(a) * rotation(b).inv()).magnitude()


def re_anchored(now, reference, anchor):
    turn = heading(
        rotation(now["quaternion"][anchor]) * rotation(reference["quaternion"][anchor]).inv()
    )
    place = now["position"][anchor].copy()
    place[2] = reference["position"][anchor][2]
    centre = reference["position"][anchor]
    position = np.stack([place + turn.apply(p - centre) for p in reference["position"]])
    return position, [turn * rotation(q) for q in reference["quaternion"]]


def heading(turn):
    forward = turn.as_matrix()[:, 0]
    return Rotation.from_euler("z", np.arctan2(forward[1], forward[0]))


def two_columns(turn):
    return turn.as_matrix()[:, :2].reshape(-1)


def errors_and_penalties(robot, now, reference, action, last_action):
    a = robot.anchor
    position, turns = re_anchored(now, reference, a)
    bodies = range(len(position))
    squares = lambda x, y: float(np.mean([np.sum((x[b] - y[b]) ** 2) for b in bodies]))  # noqa: E731
    joints = now["qpos"][7:]
    lowest = {}
    spheres = robot.contact_spheres
    for body, offset, radius in zip(*spheres, strict=True):
        point = now["position"][body] + rotation(now["quaternion"][body]).apply(offset)
        lowest[int(body)] = min(lowest.get(int(body), np.inf), point[2] - radius)
    return {
        "anchor_position": float(np.sum((now["position"][a] - reference["position"][a]) ** 2)),
        "anchor_orientation": angle(now["quaternion"][a], reference["quaternion"][a]) ** 2,
        "body_position": squares(now["position"], position),
        "body_orientation": float(
            np.mean(
                [(rotation(now["quaternion"][b]) * turns[b].inv()).magnitude() ** 2 for b in bodies]
            )
        ),
        "body_linear_velocity": squares(now["linear_velocity"], reference["linear_velocity"]),
        "body_angular_velocity": squares(now["angular_velocity"], reference["angular_velocity"]),
        "action_rate": float(np.sum((action - last_action) ** 2)),
        "joint_limits": float(
            np.sum(np.clip(robot.soft_lower - joints, 0, None))
            + np.sum(np.clip(joints - robot.soft_upper, 0, None))
        ),
        "undesired_contacts": float(sum(height < 0 for height in lowest.values())),
    }


def observations(robot, now, reference, action, joint_offset):
    a = robot.anchor
    anchor = rotation(now["quaternion"][a])
    inverse = anchor.inv()
    base = rotation(now["qpos"][3:7]).inv()
    gap = [inverse.apply(p - now["position"][a]) for p in now["position"]]
    turns = [two_columns(inverse * rotation(q)) for q in now["quaternion"]]
    return {
        "reference_joint_position": reference["qpos"][7:],
        "reference_joint_velocity": reference["qvel"][6:],
        "anchor_position_error": inverse.apply(reference["position"][a] - now["position"][a]),
        "anchor_orientation_error": two_columns(inverse * rotation(reference["quaternion"][a])),
        "base_linear_velocity": base.apply(now["qvel"][:3]),
        "base_angular_velocity": now["qvel"][3:6],
        "joint_position": now["qpos"][7:] - robot.default_joint_position - joint_offset,
        "joint_velocity": now["qvel"][6:],
        "last_action": action,
        "body_positions": np.concatenate(gap),
        "body_orientations": np.concatenate(turns),
    }


def terminations(robot, now, reference):
    a = robot.anchor
    position, _ = re_anchored(now, reference, a)
    gravity = np.array([0.0, 0.0, -1.0])
    down = [rotation(s["quaternion"][a]).inv().apply(gravity)[2] for s in (now, reference)]
    ends = list(robot.end_effectors)
    return {
        "anchor_height": abs(now["position"][a][2] - reference["position"][a][2]),
        "anchor_tilt": abs(down[0] - down[1]),
        "end_effector_height": max(abs(now["position"][e][2] - position[e][2]) for e in ends),
    }
