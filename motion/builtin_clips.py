"""Motions made by a program, for the built-in humanoid, the G1, and robots with the same joints.

Each is a handful of keyed curves: root height, root tilt, centre of mass over the floor, lift of
each foot, and arms. The legs follow by inverse kinematics with the feet flat, so nothing slides or
sinks. Lengths are shares of the root's standing height; arm angles are added to the default pose.

stand, wave, squat and step are easy, in this order; hard has easy stretches around one and a half
seconds of a fast deep squat and a kick on one leg, jump around a jump; mix joins seconds of all
kinds.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from . import planted_feet
from .clips import Clip
from .robots import Robot

FPS = 50.0
_GRAVITY = 9.81

Keys = Sequence[tuple[float, float]]
"""(seconds, value), joined by curves that start and end at rest."""

_ARMS = {
    "shoulder_pitch": (1.0, 1.0),
    "shoulder_roll": (1.0, -1.0),
    "elbow": (1.0, 1.0),
}


class _Curves:
    """What a motion asks for; every curve rests at 0 unless it is set."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.drop: Keys = ()
        self.lean: Keys = ()
        self.yaw: Keys = ()
        self.sway: Keys = ()
        """Centre of mass to the left, 1: over the left foot."""
        self.lift: tuple[Keys, Keys] = ((), ())
        """Of the left and the right foot."""
        self.reach: tuple[Keys, Keys] = ((), ())
        """Forward, of the feet."""
        self.jump: tuple[float, float, float] | None = None
        """Second of the take-off, seconds in the air, depth of the crouch before and after."""
        self.arms: dict[str, Keys] = {}
        """By joint, with the side in front; signs are those of the left side."""


def names() -> tuple[str, ...]:
    """Lists the built-in motions."""
    return tuple(_PROGRAMS)


def builtin_clip(robot: Robot, name: str) -> Clip:
    """Makes a built-in motion for a robot.

    Raises:
      ValueError: for an unknown name, or a robot without such legs.
    """
    if name not in _PROGRAMS:
        raise ValueError(f"no built-in clip {name!r}; built-in clips: {', '.join(_PROGRAMS)}")
    curves = _PROGRAMS[name]()
    times = np.arange(round(curves.seconds * FPS) + 1) / FPS
    stance = planted_feet.balanced_stance(robot)
    size = robot.default_root_height
    left, right = stance.foot_position[:2, :2]
    along = _follow(curves.sway, times)[:, None]
    side = np.where(along > 0, left - stance.centre, stance.centre - right)
    side[:, 0] = 0.0  # sway moves sideways only
    feet = np.tile(stance.foot_position, (len(times), 1, 1))
    rise = _rise(curves.jump, size, times)
    for number in range(2):
        feet[:, number, 2] += size * _follow(curves.lift[number], times) + np.maximum(rise, 0.0)
        feet[:, number, 0] += size * _follow(curves.reach[number], times)
    lean, yaw = _follow(curves.lean, times), _follow(curves.yaw, times)
    wish = planted_feet.Wish(
        height=size * (1.0 - _follow(curves.drop, times)) + rise,
        rotation=_yaw_and_lean(yaw, lean),
        centre=stance.centre + along * side,
        foot_position=feet,
        joints=_arm_joints(robot, curves, times),
    )
    qpos = planted_feet.solve(robot, wish)
    return Clip(
        name=name,
        fps=FPS,
        joint_names=robot.joint_names,
        root_position=qpos[:, :3],
        root_quaternion=qpos[:, 3:7],
        joint_position=qpos[:, 7:],
    )


def _arm_joints(
    robot: Robot, curves: _Curves, times: Float[np.ndarray, " frames"]
) -> Float[np.ndarray, "frames joints"]:
    joints = np.tile(np.asarray(robot.default_joint_position, float), (len(times), 1))
    for word, keys in curves.arms.items():
        side, _, part = word.partition("_")
        places = [i for i, name in enumerate(robot.joint_names) if name.startswith(word)]
        sign = _ARMS[part][0 if side == "left" else 1]
        for place in places:
            moved = joints[:, place] + sign * _follow(keys, times)
            joints[:, place] = np.clip(moved, robot.lower[place], robot.upper[place])
    return joints


def _follow(keys: Keys, times: Float[np.ndarray, " frames"]) -> Float[np.ndarray, " frames"]:
    """Goes from key to key by 10 s^3 - 15 s^4 + 6 s^5, at rest in each."""
    if not keys:
        return np.zeros_like(times)
    moments, values = np.array(keys, float).T
    after = np.clip(np.searchsorted(moments, times, side="right"), 1, len(moments) - 1)
    share = (times - moments[after - 1]) / (moments[after] - moments[after - 1])
    share = np.clip(share, 0, 1)
    blend = share**3 * (10 - 15 * share + 6 * share**2)
    return values[after - 1] + blend * (values[after] - values[after - 1])


def _rise(
    jump: tuple[float, float, float] | None, size: float, times: Float[np.ndarray, " frames"]
) -> Float[np.ndarray, " frames"]:
    """Height of the root over its place at the take-off, in metres: a fall both ways in the air,
    and the same speed gained and lost at one rate in the crouches."""
    if jump is None:
        return np.zeros_like(times)
    takeoff, airtime, depth = jump
    speed, depth = 0.5 * _GRAVITY * airtime, depth * size
    push = 2.0 * depth / speed
    middle, half = takeoff + 0.5 * airtime, 0.5 * airtime
    away = np.abs(times - middle)  # the way down is the way up, backwards
    flight = 0.5 * _GRAVITY * (half**2 - away**2)
    left = np.clip(half + push - away, 0.0, push)
    crouch = 0.5 * speed / push * left**2 - depth
    slow = [(middle + half + push, -depth), (middle + half + push + 0.5, 0.0)]
    return np.where(
        away < half, flight, np.where(away < half + push, crouch, _follow(slow, middle + away))
    )


def _yaw_and_lean(
    yaw: Float[np.ndarray, " frames"], lean: Float[np.ndarray, " frames"]
) -> Float[np.ndarray, "frames 4"]:
    cy, sy, cl, sl = np.cos(yaw / 2), np.sin(yaw / 2), np.cos(lean / 2), np.sin(lean / 2)
    return np.stack((cy * cl, -sy * sl, cy * sl, sy * cl), axis=1)


def _beats(first: float, period: float, count: int, value: float) -> list[tuple[float, float]]:
    """Goes to `value` and back `count` times."""
    keys = [(first, 0.0)]
    for number in range(count):
        begin = first + number * period
        keys += [(begin + period / 2, value), (begin + period, 0.0)]
    return keys


def _stand() -> _Curves:
    curves = _Curves(4.0)
    curves.drop = _beats(0.0, 2.0, 2, 0.01)
    return curves


def _wave() -> _Curves:
    curves = _Curves(5.0)
    _add_wave(curves, 0.3)
    return curves


def _add_wave(curves: _Curves, first: float) -> None:
    up, down = first + 0.9, first + 3.3
    curves.arms["right_shoulder_roll"] = ((first, 0.0), (up, 1.0), (down, 1.0), (down + 0.9, 0.0))
    waving = [(up + 0.3 * number, -0.6 - 0.4 * (-1) ** number) for number in range(9)]
    curves.arms["right_elbow"] = ((first, 0.0), *waving, (down + 0.9, 0.0))


def _squat() -> _Curves:
    curves = _Curves(6.0)
    curves.drop = _beats(0.5, 2.5, 2, 0.20)
    curves.lean = _beats(0.5, 2.5, 2, 0.18)
    for side in ("left", "right"):
        curves.arms[f"{side}_shoulder_pitch"] = _beats(0.5, 2.5, 2, -0.25)
    return curves


def _step() -> _Curves:
    curves = _Curves(6.4)
    sway, left, right = [(0.2, 0.0)], [(0.0, 0.0)], [(0.0, 0.0)]
    for number in range(2):
        begin = 0.2 + 3.0 * number
        sway += [
            (begin + 0.6, 0.92),
            (begin + 1.2, 0.92),
            (begin + 2.1, -0.92),
            (begin + 2.7, -0.92),
        ]
        right += [(begin + 0.55, 0.0), (begin + 0.9, 0.07), (begin + 1.25, 0.0)]
        left += [(begin + 2.05, 0.0), (begin + 2.4, 0.07), (begin + 2.75, 0.0)]
    curves.sway = [*sway, (6.35, 0.0)]
    curves.lift = (left, right)
    return curves


def _hard() -> _Curves:
    curves = _Curves(10.0)
    _add_wave(curves, 0.2)
    curves.drop = ((4.5, 0.0), (4.85, 0.24), (5.2, 0.0), (9.9, 0.0))
    curves.lean = ((4.5, 0.0), (4.85, 0.4), (5.2, 0.0), (9.9, 0.0))
    curves.sway = ((5.0, 0.0), (5.35, 0.95), (6.1, 0.95), (6.6, 0.0))
    curves.lift = ((), ((5.25, 0.0), (5.6, 0.16), (5.8, 0.16), (6.2, 0.0)))
    curves.reach = ((), ((5.3, 0.0), (5.65, 0.18), (5.8, 0.18), (6.15, 0.0)))
    for side in ("left", "right"):
        curves.arms[f"{side}_shoulder_pitch"] = _beats(6.8, 1.4, 2, -0.6)
    return curves


def _jump() -> _Curves:
    curves = _Curves(12.0)
    _add_wave(curves, 0.2)
    curves.jump = (6.2, 0.28, 0.17)
    curves.drop = ((4.6, 0.0), (5.2, 0.05), (7.4, 0.05), (8.0, 0.0))  # knees that can still push
    curves.lean = ((5.3, 0.0), (5.9, 0.25), (6.2, 0.0), (6.48, 0.0), (6.78, 0.25), (7.4, 0.0))
    for side in ("left", "right"):
        curves.arms[f"{side}_shoulder_pitch"] = _beats(8.6, 1.4, 2, -0.6)
    return curves


def _mix() -> _Curves:
    curves = _Curves(11.0)
    for side in ("left", "right"):
        curves.arms[f"{side}_shoulder_pitch"] = _beats(0.2, 1.3, 2, -0.6)
    curves.drop = ((3.0, 0.0), (4.2, 0.15), (5.4, 0.0), (6.0, 0.0), (6.5, 0.2), (7.0, 0.0))
    curves.lean = ((3.0, 0.0), (4.2, 0.25), (5.4, 0.0), (6.0, 0.0), (6.5, 0.35), (7.0, 0.0))
    curves.sway = ((7.2, 0.0), (7.9, 0.92), (8.6, 0.92), (9.4, 0.0))
    curves.lift = ((), ((7.85, 0.0), (8.2, 0.08), (8.6, 0.0)))
    curves.yaw = ((9.4, 0.0), (10.0, 0.25), (10.8, 0.0))
    return curves


_PROGRAMS = {
    "stand": _stand,
    "wave": _wave,
    "squat": _squat,
    "step": _step,
    "hard": _hard,
    "jump": _jump,
    "mix": _mix,
}
