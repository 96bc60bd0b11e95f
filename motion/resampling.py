"""Frame rates and velocities of motions: slerp, central differences, quaternion logarithm.

Quaternions are w x y z and unit; frames lie along the first axis.
"""

import numpy as np
from jaxtyping import Float


def resample(
    position: Float[np.ndarray, "frames 3"],
    quaternion: Float[np.ndarray, "frames 4"],
    joints: Float[np.ndarray, "frames joints"],
    fps: float,
    new_fps: float,
) -> tuple[Float[np.ndarray, "new 3"], Float[np.ndarray, "new 4"], Float[np.ndarray, "new joints"]]:
    """Resamples a motion: straight lines between positions and angles, slerp between rotations.

    The new frames lie at 0, 1 / new_fps, ... up to the last that the clip still covers.
    """
    quaternion = make_continuous(quaternion)
    if fps == new_fps:
        return position, quaternion, joints
    last = len(position) - 1
    count = int(np.floor(last * new_fps / fps + 1e-6)) + 1
    place = np.minimum(np.arange(count) * (fps / new_fps), last)
    before = np.minimum(place.astype(int), max(last - 1, 0))
    share = (place - before)[:, None]
    after = np.minimum(before + 1, last)

    def blend(values: np.ndarray) -> np.ndarray:
        return (1 - share) * values[before] + share * values[after]

    return blend(position), slerp(quaternion[before], quaternion[after], share), blend(joints)


def slerp(
    first: Float[np.ndarray, "frames 4"],
    second: Float[np.ndarray, "frames 4"],
    share: Float[np.ndarray, "frames 1"],
) -> Float[np.ndarray, "frames 4"]:
    """Rotates from `first` (share 0) to `second` (share 1) at even speed, the short way."""
    dot = np.sum(first * second, axis=1, keepdims=True)
    second = np.where(dot < 0, -second, second)
    angle = np.arccos(np.clip(np.abs(dot), 0, 1))
    sine = np.sin(angle)
    is_small = sine < 1e-6
    safe = np.where(is_small, 1, sine)
    a = np.where(is_small, 1 - share, np.sin((1 - share) * angle) / safe)
    b = np.where(is_small, share, np.sin(share * angle) / safe)
    mixed = a * first + b * second
    return mixed / np.linalg.norm(mixed, axis=1, keepdims=True)


def make_continuous(quaternion: Float[np.ndarray, "frames 4"]) -> Float[np.ndarray, "frames 4"]:
    """Chooses signs so that neighbours lie on the same side; the rotations stay the same."""
    dots = np.sum(quaternion[1:] * quaternion[:-1], axis=1)
    signs = np.cumprod(np.where(dots < 0, -1.0, 1.0))
    return np.concatenate((quaternion[:1], quaternion[1:] * signs[:, None]))


def central_differences(
    values: Float[np.ndarray, "frames *rest"], fps: float
) -> Float[np.ndarray, "frames *rest"]:
    """Derivative with respect to time; one-sided at both ends."""
    return np.gradient(values, 1 / fps, axis=0)


def angular_velocity(
    quaternion: Float[np.ndarray, "frames 4"], fps: float
) -> Float[np.ndarray, "frames 3"]:
    """Angular velocity in the body's own frame, by central differences of the logarithm."""
    last = len(quaternion) - 1
    before = np.maximum(np.arange(last + 1) - 1, 0)
    after = np.minimum(np.arange(last + 1) + 1, last)
    turn = rotation_vector(multiply(conjugate(quaternion[before]), quaternion[after]))
    return turn * fps / (after - before)[:, None]


def rotation_vector(quaternion: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 3"]:
    """Axis times angle, the angle at most pi."""
    quaternion = np.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    vector = quaternion[..., 1:]
    sine = np.linalg.norm(vector, axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, quaternion[..., :1])
    return vector * np.where(sine < 1e-9, 2.0, angle / np.maximum(sine, 1e-9))


def multiply(
    a: Float[np.ndarray, "*n 4"], b: Float[np.ndarray, "*n 4"]
) -> Float[np.ndarray, "*n 4"]:
    """Rotation `b` followed by `a`."""
    aw, ax, ay, az = np.moveaxis(a, -1, 0)
    bw, bx, by, bz = np.moveaxis(b, -1, 0)
    return np.stack(
        (
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ),
        axis=-1,
    )


def conjugate(quaternion: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 4"]:
    """The inverse rotation."""
    return quaternion * np.array([1.0, -1.0, -1.0, -1.0])


def up_component(quaternion: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, " *n"]:
    """World z of the body's own z axis: 1 upright, 0 lying, -1 upside down."""
    return 1 - 2 * (quaternion[..., 1] ** 2 + quaternion[..., 2] ** 2)
