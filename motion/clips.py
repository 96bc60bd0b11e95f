"""Motion clips, and the bank of all clips of one robot that training reads.

Quaternions are w x y z, metres, seconds, radians, z up. Velocities in a bank follow MuJoCo: the
root's linear velocity in the world's frame, its angular velocity in the body's own.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from . import resampling
from .kinematics import clip_kinematics

LIMIT_TOLERANCE = 0.05
"""Radians a clip may exceed a joint's limit by; it is clipped, and a note says so."""
LARGEST = 1e6
"""Metres and radians no clip reaches."""


class Clip(NamedTuple):
    """One motion of one robot, as read from a file or made by a program.

    Attributes:
      fps: frames per second.
      joint_names: hinge joints, in the order of the columns of `joint_position`.
      root_quaternion: unit length.
    """

    name: str
    fps: float
    joint_names: tuple[str, ...]
    root_position: Float[np.ndarray, "frames 3"]
    root_quaternion: Float[np.ndarray, "frames 4"]
    joint_position: Float[np.ndarray, "frames joints"]

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return len(self.root_position)

    @property
    def seconds(self) -> float:
        """Duration from the first frame to the last."""
        return (self.num_frames - 1) / self.fps


class ClipBank(NamedTuple):
    """All clips of a run, one after the other, at the control rate.

    Attributes:
      qpos: root position, root quaternion, joints in the robot's order.
      qvel: root linear velocity (world), root angular velocity (body), joint velocities.
      body_position: of the tracked bodies, in the order of `Robot.tracked_bodies`.
      body_linear_velocity: of the bodies' frames' origins, in the world's frame.
      body_angular_velocity: in the world's frame.
      clip_start: first frame of each clip.
      clip_length: frames of each clip.
      target: angles the joints have to be asked for, by `inverse_dynamics`; None where nobody wants
        them.
    """

    qpos: Float[Array, "frames nq"]
    qvel: Float[Array, "frames nv"]
    body_position: Float[Array, "frames bodies 3"]
    body_quaternion: Float[Array, "frames bodies 4"]
    body_linear_velocity: Float[Array, "frames bodies 3"]
    body_angular_velocity: Float[Array, "frames bodies 3"]
    clip_start: Int[Array, " clips"]
    clip_length: Int[Array, " clips"]
    target: Float[Array, "frames joints"] | None = None


def check_clip(clip: Clip, where: str | None = None) -> None:
    """Raises ValueError for what no clip may be: empty, ragged, not finite, quaternions not unit.

    Args:
      where: begins every message; None: the clip's name.
    """
    where = clip.name if where is None else where
    frames = clip.num_frames
    shapes = {
        "root_position": (clip.root_position, 3),
        "root_quaternion": (clip.root_quaternion, 4),
        "joint_position": (clip.joint_position, len(clip.joint_names)),
    }
    for name, (array, width) in shapes.items():
        if array.shape != (frames, width):
            raise ValueError(
                f"{where}: {name} must be [{frames}, {width}], got {list(array.shape)}"
            )
        bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
        if bad.size:
            raise ValueError(f"{where}: {name} is not finite at frame {bad[0]}")
        bad = np.flatnonzero((np.abs(array) > LARGEST).any(axis=1))
        if bad.size:
            raise ValueError(f"{where}: {name} is above {LARGEST:g} at frame {bad[0]}")
    if frames < 3:
        raise ValueError(f"{where}: needs at least 3 frames, got {frames}")
    if not (np.isfinite(clip.fps) and 1 <= clip.fps <= 1000):
        raise ValueError(f"{where}: fps must be in [1, 1000], got {clip.fps}")
    if len(set(clip.joint_names)) != len(clip.joint_names):
        raise ValueError(f"{where}: joint names are not unique")
    length = np.linalg.norm(clip.root_quaternion, axis=1)
    worst = int(np.argmax(np.abs(length - 1)))
    if abs(length[worst] - 1) > 0.01:
        raise ValueError(
            f"{where}: root_quaternion at frame {worst} has length {length[worst]:.4f}, not 1"
        )


def fit_to_robot(robot: Any, clip: Clip, *, may_fill: bool = False) -> tuple[Clip, tuple[str, ...]]:
    """Puts a clip's joints into the robot's order.

    Args:
      may_fill: joints the clip lacks stay at the robot's default position.
    Returns:
      The clip with exactly the robot's joints, and sentences about what was changed.
    Raises:
      ValueError: for joints the robot does not have, joints missing from the clip, or angles
        further than `LIMIT_TOLERANCE` outside a joint's limits.
    """
    check_clip(clip)
    names = tuple(robot.joint_names)
    unknown = [name for name in clip.joint_names if name not in names]
    missing = [name for name in names if name not in clip.joint_names]
    if unknown:
        raise ValueError(
            f"{clip.name}: made for another robot: {robot.name} has no joint {_listed(unknown)}"
        )
    if missing and not may_fill:
        raise ValueError(f"{clip.name}: lacks joints of {robot.name}: {_listed(missing)}")
    notes = []
    if missing:
        notes.append(f"{clip.name}: joints it lacks stay at their default: {_listed(missing)}")
    angles = np.tile(np.asarray(robot.default_joint_position, float), (clip.num_frames, 1))
    for column, name in enumerate(clip.joint_names):
        angles[:, names.index(name)] = clip.joint_position[:, column]
    low, high = joint_limits(robot)
    excess = np.maximum(low - angles, angles - high)
    frame, joint = np.unravel_index(int(np.argmax(excess)), excess.shape)
    worst = float(excess[frame, joint])
    if worst > LIMIT_TOLERANCE:
        raise ValueError(
            f"{clip.name}: joint {names[joint]} is {worst:.3f} rad beyond its limit at frame "
            f"{frame} (limits {low[joint]:.3f} to {high[joint]:.3f} rad)"
        )
    if worst > 1e-6:
        share = 100 * float(np.mean((excess > 1e-6).any(axis=1)))
        notes.append(
            f"{clip.name}: {share:.1f} % of the frames exceeded a joint limit, by at most "
            f"{worst:.3f} rad; clipped"
        )
        angles = np.clip(angles, low, high)
    quaternion = clip.root_quaternion / np.linalg.norm(clip.root_quaternion, axis=1, keepdims=True)
    fitted = clip._replace(joint_names=names, joint_position=angles, root_quaternion=quaternion)
    return fitted, tuple(notes)


def joint_limits(
    robot: Any,
) -> tuple[Float[np.ndarray, " joints"], Float[np.ndarray, " joints"]]:
    """Lower and upper limits of the robot's hinge joints; infinite where there are none."""
    model = robot.model
    low, high = [], []
    for name in robot.joint_names:
        joint = model.joint(name)
        is_limited = bool(model.jnt_limited[joint.id])
        bounds = model.jnt_range[joint.id] if is_limited else (-np.inf, np.inf)
        low.append(bounds[0])
        high.append(bounds[1])
    return np.array(low), np.array(high)


def clip_states(
    clip: Clip, control_rate: float
) -> tuple[Float[np.ndarray, "frames nq"], Float[np.ndarray, "frames nv"]]:
    """Positions and velocities of a clip at the control rate, in MuJoCo's conventions."""
    clip = at_rate(clip, control_rate)
    resampled = clip.root_position, clip.root_quaternion, clip.joint_position
    qpos = np.concatenate(resampled, axis=1)
    qvel = np.concatenate(
        (
            resampling.central_differences(resampled[0], control_rate),
            resampling.angular_velocity(resampled[1], control_rate),
            resampling.central_differences(resampled[2], control_rate),
        ),
        axis=1,
    )
    return qpos, qvel


def at_rate(clip: Clip, rate: float) -> Clip:
    """Resamples a clip; its frames are then those of a bank with that control rate."""
    root, quaternion, joints = resampling.resample(
        clip.root_position, clip.root_quaternion, clip.joint_position, clip.fps, rate
    )
    return clip._replace(
        fps=rate, root_position=root, root_quaternion=quaternion, joint_position=joints
    )


def build_clip_bank(robot: Any, clips: Sequence[Clip], *, control_rate: float) -> ClipBank:
    """Resamples clips, differentiates them and adds the poses of the tracked bodies.

    Args:
      clips: with exactly the robot's joints, in its order; see `fit_to_robot`.
    Raises:
      ValueError: without clips, for a clip that does not fit, or one too short at this rate.
    """
    if not clips:
        raise ValueError("needs at least one clip, got none")
    parts = []
    for clip in clips:
        check_clip(clip)
        if clip.joint_names != tuple(robot.joint_names):
            raise ValueError(f"{clip.name}: its joints are not those of {robot.name}, in order")
        qpos, qvel = clip_states(clip, control_rate)
        if len(qpos) < 3:
            raise ValueError(f"{clip.name}: lasts {clip.seconds:.3f} s only, needs three steps")
        parts.append((qpos, qvel, *clip_kinematics(robot, qpos, qvel)))
    lengths = np.array([len(part[0]) for part in parts])
    joined = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    return ClipBank(
        *(jnp.asarray(array, jnp.float32) for array in joined),
        clip_start=jnp.asarray(np.cumsum(lengths) - lengths, jnp.int32),
        clip_length=jnp.asarray(lengths, jnp.int32),
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more
