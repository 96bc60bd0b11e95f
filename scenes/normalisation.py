"""Puts a capture into coordinates a grid can serve: centred, upright, of known size.

Host-side NumPy in float64. Every choice ends in one similarity transform, world_from_scene, and
scene = inverse(world_from_scene) @ world, so nothing is lost: see `posed_images.to_world`.

  bounded         the middle of the box at the origin, its longest half edge 1.
  unbounded       what the cameras look at (or the middle of the measured points) at the origin,
                  z up, all cameras (or most measured points) within distance 1.
  forward_facing  the average camera at the origin, looking along -z, the nearest surface at
                  depth 1.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .cameras import Cameras
from .posed_images import SceneKind
from .rotations import nearest_rotation, rigid, scale_of

FAR_UNBOUNDED = 100.0
_FORWARD_CONE = np.cos(np.radians(32.0))
_MARGIN = 1.05


class Frame(NamedTuple):
    """Where a scene lies and how far its rays reach, in scene coordinates.

    Attributes:
      world_from_scene: similarity transform (scale times rotation, and translation).
      kind, aabb, near, far: as in `PosedImages`.
    """

    world_from_scene: Float[np.ndarray, "4 4"]
    kind: SceneKind
    aabb: Float[np.ndarray, "2 3"]
    near: float
    far: float


class Evidence(NamedTuple):
    """What a capture says about its size, in world units; all optional.

    Attributes:
      box: lower and upper corner of all there is to see.
      points: points on surfaces.
      near, far: smallest and largest planar depth of surfaces in view of any camera.
      is_complete: whether box or points cover everything the cameras see.
    """

    box: Float[np.ndarray, "2 3"] | None = None
    points: Float[np.ndarray, "points 3"] | None = None
    near: float | None = None
    far: float | None = None
    is_complete: bool = False


def to_scene(
    world_from_scene: Float[np.ndarray, "4 4"], camera_to_world: Float[np.ndarray, "views 4 4"]
) -> Float[np.ndarray, "views 4 4"]:
    """Moves camera poses from world to scene coordinates; rotations stay orthonormal."""
    scale = scale_of(world_from_scene)
    moved = np.linalg.inv(world_from_scene) @ camera_to_world
    return rigid(nearest_rotation(moved[:, :3, :3] * scale), moved[:, :3, 3])


def focus_point(camera_to_world: Float[np.ndarray, "views 4 4"]) -> Float[np.ndarray, " 3"]:
    """Finds the point closest to all optical axes in the least-squares sense.

    Parallel axes have no such point; then it is the mean of the cameras.
    """
    axes, origins = camera_to_world[:, :3, 2], camera_to_world[:, :3, 3]
    away = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    total = away.sum(axis=0)
    if np.linalg.cond(total) > 1e6:
        return origins.mean(axis=0)
    return np.linalg.solve(total, np.einsum("nij,nj->i", away, origins))


def frame_of(
    camera_to_world: Float[np.ndarray, "views 4 4"],
    evidence: Evidence,
    tangents: Float[np.ndarray, "views 2 2"],
) -> Frame:
    """Chooses the kind of a scene and its coordinates from poses and what is known of its size.

    Args:
      tangents: per view, the slopes (x, y) of the image's left top and right bottom corner.
    """
    if evidence.is_complete and (evidence.box is not None or evidence.points is not None):
        return _bounded(camera_to_world, evidence)
    if is_forward_facing(camera_to_world, evidence.near):
        return _forward_facing(camera_to_world, evidence, tangents)
    return _unbounded(camera_to_world, evidence)


def image_tangents(cameras: Cameras, rows: int, cols: int) -> Float[np.ndarray, "views 2 2"]:
    """Slopes of each image's left top and right bottom corner, without lens distortion."""
    focal, principal = np.float64(cameras.focal), np.float64(cameras.principal)
    return np.stack([-principal / focal, (np.array([cols, rows]) - principal) / focal], axis=1)


def is_forward_facing(camera_to_world: Float[np.ndarray, "views 4 4"], near: float | None) -> bool:
    """Whether all cameras look the same way and stand close together compared with the scene.

    Args:
      near: smallest planar depth; without it the answer is no.
    """
    if near is None:
        return False
    ahead = -camera_to_world[:, :3, 2]
    mean = ahead.mean(axis=0)
    mean = mean / max(float(np.linalg.norm(mean)), 1e-12)
    offset = camera_to_world[:, :3, 3] - camera_to_world[:, :3, 3].mean(axis=0)
    is_narrow = (ahead @ mean).min() > _FORWARD_CONE
    return bool(
        is_narrow
        and np.abs(offset @ mean).max() < 0.5 * near
        and np.linalg.norm(offset, axis=1).max() < near
    )


def robust_box(
    points: Float[np.ndarray, "points 3"], share: float = 0.005
) -> Float[np.ndarray, "2 3"]:
    """Box around points without the outermost `share` on each side, widened by 5 %."""
    low, high = np.quantile(points, [share, 1 - share], axis=0)
    center, half = 0.5 * (low + high), 0.5 * (high - low)
    half = np.maximum(half, 1e-3 * max(float(half.max()), 1e-9))
    return np.stack([center - _MARGIN * half, center + _MARGIN * half])


def _bounded(camera_to_world: np.ndarray, evidence: Evidence) -> Frame:
    box = evidence.box
    if box is None:
        assert evidence.points is not None
        box = robust_box(evidence.points, 0.001)
    center, half = box.mean(axis=0), 0.5 * (box[1] - box[0])
    scale = float(half.max())
    frame = _similarity(scale, np.eye(3), center)
    corners = center + half * np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T
    origins = camera_to_world[:, :3, 3]
    reach = np.linalg.norm(corners[None] - origins[:, None], axis=-1).max()
    gap = np.maximum(np.abs(origins - center) - half, 0.0)
    near = max(float(np.linalg.norm(gap, axis=1).min()), 1e-3 * scale)
    if evidence.near is not None:
        near = max(near, 0.8 * evidence.near)
    return Frame(frame, "bounded", _box32(-half / scale, half / scale), near / scale, reach / scale)


def _unbounded(camera_to_world: np.ndarray, evidence: Evidence) -> Frame:
    origins = camera_to_world[:, :3, 3]
    if evidence.box is not None:
        center = evidence.box.mean(axis=0)
        scale = float(0.5 * (evidence.box[1] - evidence.box[0]).max())
    else:
        center = focus_point(camera_to_world)
        scale = float(np.linalg.norm(origins - center, axis=1).max())
    if not scale > 1e-9:  # cameras in one place: only directions can be learned
        scale = 1.0
    frame = _similarity(scale, _upright(camera_to_world), center)
    if evidence.near is not None:
        near = 0.8 * evidence.near / scale
    else:
        near = 0.1 * float(np.linalg.norm(origins - center, axis=1).min()) / scale
    far = FAR_UNBOUNDED
    if evidence.far is not None:
        far = max(far, 2.0 * evidence.far / scale)
    return Frame(
        frame,
        "unbounded",
        _box32([-1.0] * 3, [1.0] * 3),
        float(np.clip(near, 0.01, 1)),
        far,
    )


def _forward_facing(camera_to_world: np.ndarray, evidence: Evidence, tangents: np.ndarray) -> Frame:
    assert evidence.near is not None
    rotation = nearest_rotation(camera_to_world[:, :3, :3].mean(axis=0))
    scale = 0.9 * evidence.near
    frame = _similarity(scale, rotation, camera_to_world[:, :3, 3].mean(axis=0))
    poses = to_scene(frame, camera_to_world)
    far_depth = max(2.0, (evidence.far or 10.0 * evidence.near) / scale)
    forward = float(np.abs(poses[:, 2, 3]).max())
    near_depth = max(1.0 - forward, 0.25)
    far_depth = far_depth + forward
    # slopes, seen from the origin, of everything any view sees between the two depths
    x, y = tangents[..., 0], tangents[..., 1]
    corners = np.stack(
        [np.stack([x[:, i], -y[:, j], -np.ones(len(x))], -1) for i in (0, 1) for j in (0, 1)], 1
    )
    rays = np.einsum("nij,nkj->nki", poses[:, :3, :3], corners)
    origins = poses[:, None, :3, 3]
    slopes = []
    for depth in (near_depth, far_depth):
        points = origins + rays * ((-depth - origins[..., 2:]) / rays[..., 2:])
        slopes.append((points[..., :2] / depth).reshape(-1, 2))
    seen = np.concatenate(slopes)
    low, high = seen.min(axis=0) * far_depth, seen.max(axis=0) * far_depth
    aabb = _box32([*low, -far_depth], [*high, -near_depth])
    longest = float(np.linalg.norm(rays / np.abs(rays[..., 2:]), axis=-1).max())
    return Frame(frame, "forward_facing", aabb, near_depth, longest * (far_depth + forward))


def _upright(camera_to_world: np.ndarray) -> np.ndarray:
    """Rotation whose z axis is the cameras' mean up; world_from_scene."""
    up = camera_to_world[:, :3, 1].mean(axis=0)
    length = np.linalg.norm(up)
    if length < 1e-3:
        return np.eye(3)
    up = up / length
    side = np.eye(3)[np.argmin(np.abs(up))]
    right = np.cross(side, up)
    right = right / np.linalg.norm(right)
    return np.stack([right, np.cross(up, right), up], axis=1)


def _similarity(scale: float, rotation: np.ndarray, center: np.ndarray) -> np.ndarray:
    return rigid(scale * rotation, center)


def _box32(low: np.ndarray | list[float], high: np.ndarray | list[float]) -> np.ndarray:
    return np.array([low, high], np.float32)
