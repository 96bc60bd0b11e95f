"""Rotations, rigid poses and similarities on the host, in float64.

Quaternions are w, x, y, z. Poses are camera-to-world 4x4 with OpenGL axes.
"""

import numpy as np
from jaxtyping import Float


def matrix_from_quaternion(
    quaternion: Float[np.ndarray, "*batch 4"],
) -> Float[np.ndarray, "*batch 3 3"]:
    """Turns quaternions (w, x, y, z), normalised here, into rotation matrices.

    Raises:
      ValueError: for a quaternion of zero length or with a value that is not finite.
    """
    quaternion = np.asarray(quaternion, np.float64)
    length = np.linalg.norm(quaternion, axis=-1, keepdims=True)
    if not np.all(np.isfinite(length)) or np.any(length < 1e-12):
        raise ValueError("a quaternion must be finite and not zero")
    w, x, y, z = np.moveaxis(quaternion / length, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def nearest_rotation(matrix: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Finds the rotation closest to a matrix in the least-squares sense (Kabsch)."""
    left, _, right = np.linalg.svd(np.asarray(matrix, np.float64))
    sign = np.linalg.det(left @ right)
    left = np.concatenate([left[..., :2], left[..., 2:] * sign[..., None, None]], axis=-1)
    return left @ right


def rigid(
    rotation: Float[np.ndarray, "*batch 3 3"], translation: Float[np.ndarray, "*batch 3"]
) -> Float[np.ndarray, "*batch 4 4"]:
    """Puts rotations and translations together into 4x4 matrices."""
    pose = np.zeros((*np.shape(rotation)[:-2], 4, 4))
    pose[..., :3, :3] = rotation
    pose[..., :3, 3] = translation
    pose[..., 3, 3] = 1.0
    return pose


def scale_of(similarity: Float[np.ndarray, "4 4"]) -> float:
    """Scale factor of a similarity transform."""
    return float(np.cbrt(np.linalg.det(similarity[:3, :3])))


def look_at(
    origin: Float[np.ndarray, "*batch 3"],
    target: Float[np.ndarray, "*#batch 3"],
    up: Float[np.ndarray, " 3"],
) -> Float[np.ndarray, "*batch 4 4"]:
    """Places cameras at `origin` that look at `target` with the image's top towards `up`.

    Looking straight along `up` has no unique answer; any one is returned.
    Raises:
      ValueError: if a camera is at its target.
    """
    origin = np.asarray(origin, np.float64)
    back = origin - target
    distance = np.linalg.norm(back, axis=-1, keepdims=True)
    if np.any(distance == 0):
        raise ValueError("a camera cannot look at the point it stands on")
    back = back / distance
    right = np.cross(np.broadcast_to(np.asarray(up, np.float64), back.shape), back)
    length = np.linalg.norm(right, axis=-1, keepdims=True)
    spare = np.eye(3)[np.argmin(np.abs(back), axis=-1)]
    right = np.where(length > 1e-9, right, np.cross(spare, back))
    right = right / np.linalg.norm(right, axis=-1, keepdims=True)
    rotation = np.stack([right, np.cross(back, right), back], axis=-1)
    return rigid(rotation, origin)
