"""DeepMimic's text motions: a character of ball joints, brought onto hinges of the same places.

A frame is its duration, root position and root rotation (y up), then chest, neck, right hip, knee,
ankle, shoulder, elbow, left the same: ball joints as quaternions w x y z, knees and elbows as one
angle about the character's right. Here y up becomes z up, ball joints become the hinge angles of
the built-in humanoid's chains (pitch, roll, yaw for limbs, yaw, roll, pitch for the waist, pitch,
roll for ankles), and the neck is left out. Uneven frames are resampled to the shortest.

Source: the format is that of Peng et al. 2018.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from motion import resampling
from motion.clips import LARGEST, Clip, check_clip
from scenes.formats.json_files import read_json
from scenes.rotations import matrix_from_quaternion

_WIDTH = 44
_CHEST, _RIGHT_HIP, _RIGHT_KNEE, _RIGHT_ANKLE = 8, 16, 20, 21
_RIGHT_SHOULDER, _RIGHT_ELBOW = 25, 29
_LEFT_HIP, _LEFT_KNEE, _LEFT_ANKLE, _LEFT_SHOULDER, _LEFT_ELBOW = 30, 34, 35, 39, 43
_BALLS = (
    *(_CHEST, _RIGHT_HIP, _RIGHT_ANKLE, _RIGHT_SHOULDER),
    *(_LEFT_HIP, _LEFT_ANKLE, _LEFT_SHOULDER),
)
_SECONDS = (0.001, 10.0)
_MOST_FRAMES = 1_000_000
_HEIGHT_SHARE = 0.9243 / 0.8475
"""Standing root height of the built-in humanoid over that of the character."""


class Frames(NamedTuple):
    """A file as it is.

    Attributes:
      loop: whether the motion repeats.
      seconds: duration of each frame.
      values: the 43 numbers after the duration.
    """

    loop: bool
    seconds: Float[np.ndarray, " frames"]
    values: Float[np.ndarray, "frames 43"]


def read_frames(path: Path) -> Frames:
    """Reads a file without changing a number.

    Raises:
      ValueError: naming the file, for text that is no such motion or numbers that are not finite.
    """
    root = read_json(path)
    for name in ("Frames", "Loop"):
        if name not in root:
            raise ValueError(f"{path}: not a DeepMimic motion: {name} is missing")
    try:
        table = np.array(root.values["Frames"], float)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{path}: not a DeepMimic motion: {error}") from error
    loop = root.values["Loop"] == "wrap"
    if table.ndim != 2 or table.shape[1] != _WIDTH:
        raise ValueError(f"{path}: Frames must be [frames, {_WIDTH}], got {list(table.shape)}")
    bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if bad.size:
        raise ValueError(f"{path}: frame {bad[0]} holds a number that is not finite")
    if len(table) < 3:
        raise ValueError(f"{path}: needs at least 3 frames, got {len(table)}")
    if np.abs(table).max() > LARGEST:
        raise ValueError(f"{path}: holds the number {np.abs(table).max():g}, above {LARGEST:g}")
    if not np.all((table[:-1, 0] >= _SECONDS[0]) & (table[:-1, 0] <= _SECONDS[1])):
        raise ValueError(f"{path}: frames must last {_SECONDS[0]:g} to {_SECONDS[1]:g} s")
    for column in (4, *_BALLS):
        bad = np.flatnonzero(np.linalg.norm(table[:, column : column + 4], axis=1) < 1e-6)
        if bad.size:
            raise ValueError(f"{path}: frame {bad[0]}: the rotation at {column} is zero")
    return Frames(loop, table[:, 0], table[:, 1:])


def load_deepmimic(path: Path) -> Clip:
    """Reads a motion for the built-in humanoid.

    Raises:
      ValueError: see `read_frames`.
    """
    frames = read_frames(path)
    table = np.concatenate((frames.seconds[:, None], frames.values), axis=1)
    joints: dict[str, np.ndarray] = {}
    for name, angles in zip(
        ("waist_yaw", "waist_roll", "waist_pitch"), _zxy(_turn(table, _CHEST)), strict=True
    ):
        joints[f"{name}_joint"] = angles
    for side, hip, knee, ankle, shoulder, elbow in (
        ("left", _LEFT_HIP, _LEFT_KNEE, _LEFT_ANKLE, _LEFT_SHOULDER, _LEFT_ELBOW),
        ("right", _RIGHT_HIP, _RIGHT_KNEE, _RIGHT_ANKLE, _RIGHT_SHOULDER, _RIGHT_ELBOW),
    ):
        for part, column in (("hip", hip), ("shoulder", shoulder), ("ankle", ankle)):
            pitch, roll, yaw = _yxz(_turn(table, column))
            joints[f"{side}_{part}_pitch_joint"] = pitch
            joints[f"{side}_{part}_roll_joint"] = roll
            if part != "ankle":
                joints[f"{side}_{part}_yaw_joint"] = yaw
        # angles there are about the right, here about the left
        joints[f"{side}_knee_joint"] = -table[:, knee]
        joints[f"{side}_elbow_joint"] = -table[:, elbow]
    position = np.stack((table[:, 1], -table[:, 3], table[:, 2]), axis=1) * _HEIGHT_SHARE
    root = _turn(table, 4)
    angles = np.stack(list(joints.values()), axis=1)
    clip = Clip(
        name=path.stem,
        fps=1.0 / float(np.min(frames.seconds[:-1])),
        joint_names=tuple(joints),
        root_position=position,
        root_quaternion=resampling.make_continuous(root),
        joint_position=np.unwrap(angles, axis=0),
    )
    length = float(np.sum(frames.seconds[:-1]))
    if length * clip.fps > _MOST_FRAMES:
        raise ValueError(
            f"{path}: {length:g} s at the rate of its shortest frame, {clip.fps:g} Hz, are more "
            f"than {_MOST_FRAMES} frames"
        )
    clip = _even(clip, frames.seconds)
    check_clip(clip, str(path))
    return clip


def _even(clip: Clip, seconds: Float[np.ndarray, " frames"]) -> Clip:
    """Resamples frames of uneven duration at the clip's rate."""
    times = np.concatenate(([0.0], np.cumsum(seconds[:-1])))
    if np.ptp(seconds[:-1]) < 1e-4:
        return clip
    wanted = np.arange(int(times[-1] * clip.fps + 1e-6) + 1) / clip.fps
    before = np.clip(np.searchsorted(times, wanted, side="right") - 1, 0, len(times) - 2)
    share = ((wanted - times[before]) / (times[before + 1] - times[before]))[:, None]

    def blend(values: np.ndarray) -> np.ndarray:
        return (1 - share) * values[before] + share * values[before + 1]

    quaternion = clip.root_quaternion
    return clip._replace(
        root_position=blend(clip.root_position),
        root_quaternion=resampling.slerp(quaternion[before], quaternion[before + 1], share),
        joint_position=blend(clip.joint_position),
    )


def _turn(table: np.ndarray, column: int) -> Float[np.ndarray, "frames 4"]:
    """A quaternion of the file in axes with z up: x stays, y becomes z, z becomes -y."""
    w, x, y, z = table[:, column : column + 4].T
    turned = np.stack((w, x, -z, y), axis=1)
    return turned / np.linalg.norm(turned, axis=1, keepdims=True)


def _yxz(quaternion: Float[np.ndarray, "frames 4"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Angles (a, b, c) with R = Ry(a) Rx(b) Rz(c)."""
    m = matrix_from_quaternion(quaternion)
    roll = np.arcsin(np.clip(-m[:, 1, 2], -1, 1))
    return np.arctan2(m[:, 0, 2], m[:, 2, 2]), roll, np.arctan2(m[:, 1, 0], m[:, 1, 1])


def _zxy(quaternion: Float[np.ndarray, "frames 4"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Angles (a, b, c) with R = Rz(a) Rx(b) Ry(c)."""
    m = matrix_from_quaternion(quaternion)
    roll = np.arcsin(np.clip(m[:, 2, 1], -1, 1))
    return np.arctan2(-m[:, 0, 1], m[:, 1, 1]), roll, np.arctan2(-m[:, 2, 0], m[:, 2, 2])
