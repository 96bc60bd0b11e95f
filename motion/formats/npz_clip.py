"""Motions in npz files: BeyondMimic and mjlab, ours, ASAP-like, LocoMuJoCo. Pickles are refused.

BeyondMimic's `motion.npz` holds fps, joint_pos, joint_vel, body_pos_w, body_quat_w (w x y z),
body_lin_vel_w and body_ang_vel_w, and neither joint nor body names, so that files in two different
orders look alike. Ours is the same with `joint_names` and `body_names` added; files without names
are read only when the order is declared.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from motion import quaternion_order
from motion.clips import Clip, check_clip, clip_states
from motion.kinematics import clip_kinematics
from motion.robots import Robot
from scenes.formats.array_files import read_npz, write_npz

from .joint_orders import G1_JOINTS, G1_JOINTS_WITHOUT_WRISTS, breadth_first

JointOrder = Literal["mujoco", "isaac"]


def load_npz(
    path: Path,
    joint_names: Sequence[str],
    *,
    joint_order: JointOrder | None = None,
    fps: float | None = None,
    root: str | None = None,
) -> Clip:
    """Reads an npz of any known layout.

    Args:
      joint_names: of the robot, for files without names.
      joint_order: of a BeyondMimic file without names: as MuJoCo (and mjlab) or Isaac order them.
      fps: overrules the file; None: the file's.
      root: body that carries the robot, where a file names its bodies; else the one called pelvis,
        else the first.
    Raises:
      ValueError: naming file and array, for pickles, layouts that are not known, missing names.
    """
    arrays = read_npz(path)
    if "joint_pos" in arrays:
        clip = _beyond_mimic(path, arrays, joint_names, joint_order, root)
    elif "dof" in arrays:
        clip = _asap(path, arrays)
    elif any(name.startswith("q_") for name in arrays):
        raise ValueError(_loco_reason(path, arrays, joint_names))
    else:
        raise ValueError(
            f"{path}: no known layout: needs joint_pos (BeyondMimic, mjlab, ours), dof (ASAP) or "
            f"q_* (LocoMuJoCo), got {', '.join(sorted(arrays)) or 'nothing'}"
        )
    if fps is not None:
        clip = clip._replace(fps=fps)
    check_clip(clip, str(path))
    if "body_quat_w" in arrays:
        quaternion_order.check(clip.root_quaternion, "wxyz", f"{path}: body_quat_w")
    return clip


def save_npz(
    path: str | os.PathLike[str],
    robot: Robot,
    clip: Clip,
    *,
    joint_target: Float[np.ndarray, "frames joints"] | None = None,
) -> None:
    """Writes a clip in BeyondMimic's layout with names; the file appears whole or not at all.

    Bodies are the robot's tracked ones. The clip keeps its frame rate.

    Args:
      joint_target: angles to ask of the joints, see `inverse_dynamics`; an array of its own.
    Raises:
      OSError: when it cannot be written, naming it.
    """
    check_clip(clip)
    qpos, qvel = clip_states(clip, clip.fps)
    bodies = clip_kinematics(robot, qpos, qvel)
    arrays = {
        "name": np.array(clip.name),
        "fps": np.array([clip.fps]),
        "joint_names": np.array(clip.joint_names),
        "body_names": np.array(robot.tracked_bodies),
        "joint_pos": qpos[:, 7:],
        "joint_vel": qvel[:, 6:],
        "body_pos_w": bodies.position,
        "body_quat_w": bodies.quaternion,
        "body_lin_vel_w": bodies.linear_velocity,
        "body_ang_vel_w": bodies.angular_velocity,
    }
    if joint_target is not None:
        arrays["joint_target"] = joint_target
    write_npz(Path(path), arrays)


def _numbers(path: Path, arrays: dict[str, np.ndarray], name: str, ndim: int) -> np.ndarray:
    """An array of real numbers as float64."""
    array = arrays[name]
    if array.dtype.kind not in "fiu" or array.ndim != ndim:
        raise ValueError(
            f"{path}: {name} must be numbers with {ndim} axes, got {array.dtype}{list(array.shape)}"
        )
    return array.astype(float)


def _names(path: Path, arrays: dict[str, np.ndarray], name: str) -> tuple[str, ...]:
    array = arrays[name]
    if array.dtype.kind != "U" or array.ndim != 1:
        raise ValueError(f"{path}: {name} must be a list of texts, got {array.dtype}")
    return tuple(str(entry) for entry in array)


def _fps(path: Path, arrays: dict[str, np.ndarray]) -> float:
    array = arrays["fps"]
    if array.dtype.kind not in "fiu" or array.size != 1:
        raise ValueError(f"{path}: fps must be a number, got {array.dtype}{list(array.shape)}")
    return float(array.reshape(-1)[0])


def _beyond_mimic(
    path: Path,
    arrays: dict[str, np.ndarray],
    joint_names: Sequence[str],
    joint_order: JointOrder | None,
    root: str | None,
) -> Clip:
    for name in ("fps", "joint_pos", "body_pos_w", "body_quat_w"):
        if name not in arrays:
            raise ValueError(f"{path}: array {name} is missing")
    joints = _numbers(path, arrays, "joint_pos", 2)
    if "joint_names" in arrays:
        names = _names(path, arrays, "joint_names")
    elif joint_order is None:
        raise ValueError(
            f"{path}: has no joint_names; Isaac and MuJoCo order joints differently and the files "
            "look alike, so say --joint-order mujoco or isaac"
        )
    elif joint_order == "isaac":
        names = breadth_first()
    else:
        names = tuple(joint_names)
    if joints.shape[1] == len(names) + 7:
        joints = joints[:, 7:]  # some write the whole qpos
    if joints.shape[1] != len(names):
        raise ValueError(
            f"{path}: joint_pos has {joints.shape[1]} columns for {len(names)} joint names; "
            "is it a clip of another robot?"
        )
    body = 0
    if "body_names" in arrays:
        bodies = _names(path, arrays, "body_names")
        known = [name for name in (root, "pelvis") if name in bodies]
        body = bodies.index(known[0]) if known else 0
    position = _numbers(path, arrays, "body_pos_w", 3)
    quaternion = _numbers(path, arrays, "body_quat_w", 3)
    for name, array in (("body_pos_w", position), ("body_quat_w", quaternion)):
        if array.shape[1] <= body:
            raise ValueError(f"{path}: {name} has {array.shape[1]} bodies, needed {body + 1}")
    return Clip(
        name=str(arrays["name"]) if "name" in arrays else path.stem,
        fps=_fps(path, arrays),
        joint_names=names,
        root_position=position[:, body],
        root_quaternion=quaternion[:, body],
        joint_position=joints,
    )


def _asap(path: Path, arrays: dict[str, np.ndarray]) -> Clip:
    place = "root_pos" if "root_pos" in arrays else "root_trans_offset"
    if place not in arrays:
        raise ValueError(f"{path}: array root_pos is missing")
    turn = "root_rot_xyzw" if "root_rot_xyzw" in arrays else "root_rot"
    if turn not in arrays:
        raise ValueError(f"{path}: array root_rot_xyzw or root_rot is missing")
    joints = _numbers(path, arrays, "dof", 2)
    known = {len(G1_JOINTS): G1_JOINTS, len(G1_JOINTS_WITHOUT_WRISTS): G1_JOINTS_WITHOUT_WRISTS}
    if joints.shape[1] not in known:
        raise ValueError(
            f"{path}: dof must have 23 or 29 columns (the G1's), got {list(joints.shape)}"
        )
    rotation = _numbers(path, arrays, turn, 2)
    length = np.linalg.norm(rotation, axis=1) if np.abs(rotation).max(initial=0) < 2 else np.inf
    if rotation.shape[1] != 4 or not len(rotation) or not np.all(np.abs(length - 1) < 0.01):
        raise ValueError(f"{path}: {turn} must hold unit quaternions, [frames, 4]")
    quaternion_order.check(rotation, "xyzw", str(path))
    return Clip(
        name=path.stem,
        fps=_fps(path, arrays) if "fps" in arrays else 30.0,
        joint_names=known[joints.shape[1]],
        root_position=_numbers(path, arrays, place, 2),
        root_quaternion=quaternion_order.reorder(rotation, "xyzw"),
        joint_position=joints,
    )


def _loco_reason(path: Path, arrays: dict[str, np.ndarray], joint_names: Sequence[str]) -> str:
    joints = [name[2:] for name in arrays if name.startswith("q_") and "pelvis" not in name]
    foreign = [name for name in joints if name not in joint_names]
    return (
        f"{path}: a LocoMuJoCo file, made for another robot: its joints {', '.join(foreign)} are "
        "not the robot's, and its root is Euler angles over that robot's own zero"
    )
