"""Analytic scenes: solids with closed-form colour, alpha, depth and normals.

Three scenes, all inside the box [-1.2, 1.2]^3 with z up, seen from a hemisphere of radius 4 like
Blender's synthetic set, over a transparent background:

  spheres  five glossy spheres; smooth everywhere.
  blocks   turned boxes on a ground disc, with a cast shadow.
  detail   a ground disc and plain spheres, and one small box with a fine pattern that takes about
           3 % of the image: uniform rays waste most of their time here.

Everything is NumPy in float64 on the host, so a scene is the same on every device.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from .cameras import Cameras, make_cameras
from .posed_images import PosedImages, SplitImages, validate_splits
from .rotations import look_at
from .solids import Solid, intersect, outward_normal, surface_color

RADIUS = 4.0
NEAR, FAR = 2.0, 6.0
FIELD_OF_VIEW = 0.69
AABB = np.array([[-1.2, -1.2, -1.2], [1.2, 1.2, 1.2]], np.float32)
_LIGHT = np.array([0.35, -0.45, 0.82])
_AMBIENT = 0.45


class Surface(NamedTuple):
    """What rays see first. Where they see nothing: alpha False, depth NaN, the rest zero."""

    color: Float[np.ndarray, "rays 3"]
    alpha: Bool[np.ndarray, " rays"]
    depth: Float[np.ndarray, " rays"]
    normal: Float[np.ndarray, "rays 3"]


def names() -> tuple[str, ...]:
    """Names of the analytic scenes."""
    return tuple(_SCENES)


def solids(name: str) -> tuple[Solid, ...]:
    """The solids a scene is made of.

    Raises:
      ValueError: for an unknown name, listing the known ones.
    """
    if name not in _SCENES:
        raise ValueError(f"synthetic scene must be one of {', '.join(_SCENES)}, got {name!r}")
    return _SCENES[name]


def trace(
    name: str, origins: Float[np.ndarray, "#rays 3"], directions: Float[np.ndarray, "rays 3"]
) -> Surface:
    """Finds what each ray (unit direction) sees first in scene `name`, in closed form.

    Raises:
      ValueError: for an unknown name.
    """
    origins = np.asarray(origins, np.float64).T
    return _trace(name, origins, np.ascontiguousarray(np.asarray(directions, np.float64).T))


def hemisphere(num_views: int, *, seed: int, jitter: float = 1.0) -> Float[np.ndarray, "views 4 4"]:
    """Places cameras evenly over the upper hemisphere, looking at the origin.

    A Fibonacci spiral of heights between 5 and 75 degrees, turned and jittered by the seed.
    """
    rng = np.random.default_rng(seed)
    step = (np.arange(num_views) + 0.5 + jitter * rng.uniform(-0.4, 0.4, num_views)) / num_views
    height = np.sin(np.radians(5.0)) + step * (np.sin(np.radians(75.0)) - np.sin(np.radians(5.0)))
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(num_views) + rng.uniform(0, 2 * np.pi)
    flat = np.sqrt(1 - height**2)
    origin = RADIUS * np.stack([flat * np.cos(angle), flat * np.sin(angle), height], axis=-1)
    return look_at(origin, np.zeros(3), np.array([0.0, 0.0, 1.0]))


def posed_images(
    name: str,
    *,
    num_train: int = 40,
    num_test: int = 8,
    num_val: int = 0,
    size: int = 100,
    seed: int = 0,
    supersampling: int = 3,
) -> SplitImages:
    """Renders a scene into posed RGBA images; the same arguments give the same bytes.

    Colour and alpha are means over `supersampling` squared rays a pixel; depth is that of the
    ray through the pixel's centre.

    Raises:
      ValueError: for an unknown name, or counts, sizes or supersampling below 1 (num_val may be 0).
    """
    counted = (("num_train", num_train), ("num_test", num_test))
    for field, value in (*counted, ("size", size), ("supersampling", supersampling)):
        if value < 1:
            raise ValueError(f"{field} must be at least 1, got {value}")
    if num_val < 0:
        raise ValueError(f"num_val must not be negative, got {num_val}")
    solids(name)
    counts = {"train": num_train, "test": num_test, "val": num_val}
    splits = {
        split: _render_split(name, split, count, size, seed + 1000 * index, supersampling)
        for index, (split, count) in enumerate(counts.items())
        if count
    }
    return validate_splits(
        SplitImages(
            train=splits["train"],
            test=splits["test"],
            val=splits.get("val"),
            name=f"synthetic:{name}",
        )
    )


def _trace(name: str, origins: np.ndarray, directions: np.ndarray) -> Surface:
    """`trace` for points stored components first."""
    scene = solids(name)
    hit = intersect(scene, origins, directions)
    color, normal = np.zeros(directions.shape), np.zeros(directions.shape)
    light = _LIGHT / np.linalg.norm(_LIGHT)
    for index in np.unique(hit.solid[hit.solid >= 0]):
        solid, seen = scene[index], np.flatnonzero(hit.solid == index)
        along = directions[:, seen]
        start = origins if origins.shape[1] == 1 else origins[:, seen]
        point = start + hit.depth[seen] * along
        outward = outward_normal(solid, point)
        lit = np.maximum(light @ outward, 0.0)
        if name in _WITH_SHADOW:
            facing = np.flatnonzero(lit > 0)
            towards = np.repeat(light[:, None], len(facing), axis=1)
            leaving = point[:, facing] + 1e-6 * outward[:, facing]
            lit[facing] *= intersect(scene, leaving, towards).solid < 0
        tint = surface_color(solid, point) * (_AMBIENT + (1 - _AMBIENT) * lit)
        if solid.gloss:
            mirrored = light @ along - 2 * (light @ outward) * np.sum(along * outward, axis=0)
            tint = tint + solid.gloss * np.maximum(mirrored, 0.0) ** 12
        color[:, seen] = np.clip(tint, 0.0, 1.0)
        normal[:, seen] = outward
    return Surface(color.T, hit.solid >= 0, hit.depth, normal.T)


def _render_split(
    name: str, split: str, count: int, size: int, seed: int, supersampling: int
) -> PosedImages:
    poses = hemisphere(count, seed=seed)
    focal = 0.5 * size / np.tan(0.5 * FIELD_OF_VIEW)

    def render(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return _render_view(name, pose, focal, size, supersampling)

    with ThreadPoolExecutor() as pool:
        views = list(pool.map(render, poses))
    return PosedImages(
        images=np.stack([image for image, _ in views]),
        cameras=_cameras(poses, focal, size),
        names=tuple(f"{split}/{index:03d}" for index in range(count)),
        near=NEAR,
        far=FAR,
        aabb=AABB,
        depth=np.stack([depth for _, depth in views]),
    )


def _cameras(poses: np.ndarray, focal: float, size: int) -> Cameras:
    return make_cameras(poses, np.full(2, focal), np.full(2, 0.5 * size))


def _render_view(
    name: str, pose: np.ndarray, focal: float, size: int, supersampling: int
) -> tuple[np.ndarray, np.ndarray]:
    """One view as RGBA uint8 and the depth through its pixel centres."""
    offset = (np.arange(supersampling) + 0.5) / supersampling
    ticks = (np.arange(size)[:, None] + offset).reshape(-1)
    fine = _trace_grid(name, pose, focal, size, ticks)
    shape = (size, supersampling, size, supersampling)
    alpha = fine.alpha.reshape(shape).mean(axis=(1, 3))
    color = (fine.color * fine.alpha[:, None]).reshape(*shape, 3).mean(axis=(1, 3))
    color = color / np.maximum(alpha, 1e-12)[..., None]
    image = np.concatenate([color, alpha[..., None]], axis=-1)
    if supersampling % 2:
        middle = supersampling // 2
        depth = fine.depth.reshape(shape)[:, middle, :, middle]
    else:
        depth = _trace_grid(name, pose, focal, size, np.arange(size) + 0.5).depth
    return np.round(image * 255).astype(np.uint8), depth.reshape(size, size).astype(np.float32)


def _trace_grid(name: str, pose: np.ndarray, focal: float, size: int, ticks: np.ndarray) -> Surface:
    """Traces the rays through all pairs of ticks, rows outermost."""
    right, up, back, origin = (pose[:3, axis, None, None] for axis in range(4))
    x = (ticks - 0.5 * size) / focal
    rays = right * x - up * x[:, None] - back
    rays = (rays / np.sqrt(np.sum(rays**2, axis=0))).reshape(3, -1)
    return _trace(name, origin[..., 0], rays)


_GROUND = Solid("disc", (0.0, 0.0, -0.8), (1.15, 0.0, 0.0), (0.62, 0.60, 0.55))
_SCENES: dict[str, tuple[Solid, ...]] = {
    "spheres": (
        Solid("sphere", (0.0, 0.0, 0.0), (0.55, 0, 0), (0.85, 0.30, 0.25), gloss=0.3),
        Solid("sphere", (0.65, 0.35, -0.25), (0.33, 0, 0), (0.25, 0.55, 0.85), gloss=0.3),
        Solid("sphere", (-0.60, 0.45, -0.15), (0.36, 0, 0), (0.95, 0.75, 0.25)),
        Solid("sphere", (-0.35, -0.70, -0.20), (0.28, 0, 0), (0.35, 0.75, 0.40), gloss=0.2),
        Solid("sphere", (0.35, -0.45, 0.55), (0.24, 0, 0), (0.65, 0.45, 0.80)),
    ),
    "blocks": (
        _GROUND,
        Solid("box", (0.0, 0.1, -0.35), (0.35, 0.35, 0.45), (0.80, 0.35, 0.25), turn=0.5),
        Solid(
            "box",
            (-0.55, -0.35, -0.55),
            (0.28, 0.22, 0.25),
            (0.30, 0.55, 0.80),
            turn=-0.3,
            accent=(0.90, 0.90, 0.85),
            frequency=9.0,
        ),
        Solid("box", (0.60, -0.40, -0.62), (0.20, 0.30, 0.18), (0.90, 0.75, 0.30), turn=0.9),
        Solid("box", (0.0, 0.1, 0.27), (0.18, 0.18, 0.17), (0.40, 0.70, 0.45), turn=1.1),
        Solid("box", (0.35, 0.70, -0.45), (0.14, 0.14, 0.35), (0.70, 0.50, 0.75), turn=0.2),
    ),
    "detail": (
        _GROUND,
        Solid("sphere", (-0.45, 0.30, -0.35), (0.45, 0, 0), (0.75, 0.70, 0.68)),
        Solid("sphere", (0.50, 0.45, -0.50), (0.30, 0, 0), (0.55, 0.65, 0.75)),
        Solid(
            "box",
            (0.30, -0.45, -0.58),
            (0.26, 0.20, 0.22),
            (0.92, 0.88, 0.80),
            turn=0.4,
            accent=(0.12, 0.15, 0.35),
            frequency=42.0,
        ),
    ),
}
_WITH_SHADOW = ("blocks",)
