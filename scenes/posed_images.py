"""Posed images: photographs with their cameras, and how a train step reads pixels from them.

Pixels stay uint8 in host and device memory; rays are made when they are drawn, so a view costs
3 or 4 bytes a pixel. `PosedImages` and `SplitImages` live on the host (NumPy); `Pixels` is the
part of them that goes to a device and into a jitted step.
Depth is distance along the unit ray, NaN where unknown. Masks are True where a pixel counts.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from .backgrounds import Background, premultiply
from .cameras import Cameras, without_lens
from .rotations import scale_of

SceneKind = Literal["bounded", "forward_facing", "unbounded"]
_MAX_ROTATION_ERROR = 1e-3
FARTHEST = 1e12
"""No coordinate may be larger: float32 must hold its square."""


class PosedImages(NamedTuple):
    """Images of equal size with their cameras; one split of a scene.

    Attributes:
      images: RGB, or RGBA with straight alpha.
      cameras: one camera per image, float32.
      names: one name per image, as its source calls it.
      near, far: distances along the ray between which there is something to see.
      aabb: lower and upper corner of the box that holds what is in reach.
      depth: distance along the ray through each pixel's centre, NaN unknown; or None.
      masks: True where a pixel counts; None counts all.
      kind: how the cameras surround the scene.
    """

    images: UInt8[np.ndarray, "views rows cols channels"]
    cameras: Cameras
    names: tuple[str, ...]
    near: float
    far: float
    aabb: Float[np.ndarray, "2 3"]
    depth: Float[np.ndarray, "views rows cols"] | None = None
    masks: Bool[np.ndarray, "views rows cols"] | None = None
    kind: SceneKind = "bounded"

    @property
    def num_views(self) -> int:
        """Number of images."""
        return self.images.shape[0]

    @property
    def rows(self) -> int:
        """Height of every image in pixels."""
        return self.images.shape[1]

    @property
    def cols(self) -> int:
        """Width of every image in pixels."""
        return self.images.shape[2]


class SplitImages(NamedTuple):
    """A scene: its splits, and how it relates to the world its files speak of.

    Attributes:
      train, test, val: images to learn from, to report on, and to tune on (may be None).
      name: short name of the scene.
      background: what to compose transparent pixels over in evaluation and, unless "random" is
        asked for, in training; images without alpha hide it.
      world_from_scene: similarity transform from the coordinates used here to those of the files
        (scale times rotation, and translation); see `to_world`.
      notes: what the reader left out, assumed or repaired, one sentence each.
    """

    train: PosedImages
    test: PosedImages
    val: PosedImages | None
    name: str
    background: Background = "white"
    world_from_scene: Float[np.ndarray, "4 4"] = np.eye(4)  # never written to
    notes: tuple[str, ...] = ()


class Pixels(NamedTuple):
    """What a train step needs of a `PosedImages`, as arrays that cross jit."""

    images: UInt8[Array, "views rows cols channels"]
    cameras: Cameras
    depth: Float[Array, "views rows cols"] | None
    masks: Bool[Array, "views rows cols"] | None


def to_device(posed: PosedImages) -> Pixels:
    """Copies pixels (still uint8), cameras, depth and masks to the default device."""
    return Pixels(
        images=jnp.asarray(posed.images),
        cameras=jax.tree.map(jnp.asarray, without_lens(posed.cameras)),
        depth=None if posed.depth is None else jnp.asarray(posed.depth),
        masks=None if posed.masks is None else jnp.asarray(posed.masks),
    )


def take_views(posed: PosedImages, views: Int[np.ndarray, " chosen"]) -> PosedImages:
    """Keeps some of the images, with everything that belongs to them."""
    return posed._replace(
        images=posed.images[views],
        cameras=jax.tree.map(lambda field: np.asarray(field)[views], posed.cameras),
        names=tuple(posed.names[view] for view in views),
        depth=None if posed.depth is None else posed.depth[views],
        masks=None if posed.masks is None else posed.masks[views],
    )


def spread_views(posed: PosedImages, count: int) -> PosedImages:
    """Keeps `count` images, evenly spread over their order; all of them if there are fewer."""
    if count >= posed.num_views:
        return posed
    middles = (np.arange(count) + 0.5) * posed.num_views / count
    return take_views(posed, np.floor(middles).astype(int))


def to_world(
    split: SplitImages, points: Float[np.ndarray, "*batch 3"]
) -> Float[np.ndarray, "*batch 3"]:
    """Takes points back to the coordinates and units of the scene's own files."""
    transform = split.world_from_scene
    return np.asarray(points, np.float64) @ transform[:3, :3].T + transform[:3, 3]


def world_scale(split: SplitImages) -> float:
    """Length in the files' units of a length 1 here; multiply depths by it."""
    return scale_of(split.world_from_scene)


def gather(
    values: Array,
    view: Int[Array, "*rays"],
    row: Int[Array, "*rays"],
    col: Int[Array, "*rays"],
) -> Array:
    """Reads images, depth or masks at whole pixels; the dtype is kept, so images stay uint8.

    Bad input: indices out of range are clamped to the border.
    """
    views, rows, cols = values.shape[:3]
    inside = jnp.clip(view, 0, views - 1), jnp.clip(row, 0, rows - 1), jnp.clip(col, 0, cols - 1)
    return values.at[inside].get(mode="promise_in_bounds")


def gather_at(values: Array, view: Int[Array, "*rays"], xy: Float[Array, "*rays 2"]) -> Array:
    """Reads images, depth or masks at the pixel that contains `xy` (x right, y down)."""
    col, row = jnp.moveaxis(jnp.floor(xy).astype(jnp.int32), -1, 0)
    return gather(values, view, row, col)


def gather_sloped(
    images: UInt8[Array, "views rows cols channels"],
    view: Int[Array, "*rays"],
    xy: Float[Array, "*rays 2"],
) -> Float[Array, "*rays 4"]:
    """Reads premultiplied RGBA in [0, 1] at the pixel that contains `xy`, with a slope.

    The value is the pixel's, wherever in it `xy` is; its derivative by `xy` is the central
    difference of the pixel's neighbours, halved at the border. Compose the result with
    `backgrounds.compose`.
    """
    col, row = jnp.moveaxis(jnp.floor(xy).astype(jnp.int32), -1, 0)

    def pixel(down: int, right: int) -> Array:
        return premultiply(gather(images, view, row + down, col + right))

    by_x, by_y = (pixel(0, 1) - pixel(0, -1)) / 2, (pixel(1, 0) - pixel(-1, 0)) / 2
    x, y = jnp.moveaxis(xy - jax.lax.stop_gradient(xy), -1, 0)  # zero, but not their derivatives
    return pixel(0, 0) + x[..., None] * by_x + y[..., None] * by_y


def validate_poses(
    camera_to_world: Float[np.ndarray, "views 4 4"],
    fields: tuple[str, ...],
    file: str,
) -> None:
    """Checks that poses are finite, rigid and right-handed.

    Args:
      fields: what each pose is called in its file, e.g. "frames[3].transform_matrix".
    Raises:
      ValueError: for the first pose that is not, naming `file` and the field.
    """
    for pose, field in zip(np.asarray(camera_to_world, np.float64), fields, strict=True):
        where = f"{file}: {field}"
        if not np.all(np.isfinite(pose)):
            raise ValueError(f"{where} must be finite, got {_first_bad(pose)}")
        if np.max(np.abs(pose)) > FARTHEST:
            raise ValueError(f"{where} must be below {FARTHEST:g}, got {np.max(np.abs(pose)):g}")
        if np.max(np.abs(pose[3] - [0, 0, 0, 1])) > 1e-6:
            raise ValueError(f"{where} must end in the row 0 0 0 1, got {pose[3].tolist()}")
        rotation = pose[:3, :3]
        error = np.max(np.abs(rotation.T @ rotation - np.eye(3)))
        if error > _MAX_ROTATION_ERROR:
            lengths = np.linalg.norm(rotation, axis=0).round(4).tolist()
            raise ValueError(
                f"{where} must have an orthonormal rotation, got columns of length {lengths} "
                f"and an orthonormality error of {error:.3g}"
            )
        if np.linalg.det(rotation) < 0:
            raise ValueError(f"{where} must be right-handed, got a reflection (determinant -1)")


def validate(posed: PosedImages, source: str) -> PosedImages:
    """Checks a whole split on the host and returns it.

    Args:
      source: the file or scene it came from; every message begins with it.
    Raises:
      ValueError: naming the field and what was wrong, for an empty split, lengths or shapes that
        disagree, wrong dtypes, cameras that are not finite, positive or rigid, near not below
        far, or an empty box.
    """

    def demand(holds: bool | np.bool_, field: str, problem: str) -> None:
        if not holds:
            raise ValueError(f"{source}: {field} {problem}")

    shape, views = posed.images.shape, posed.images.shape[0]
    demand(len(shape) == 4 and shape[3] in (3, 4), "images", f"must be RGB or RGBA, got {shape}")
    demand(posed.images.dtype == np.uint8, "images", f"must be uint8, got {posed.images.dtype}")
    demand(views > 0, "images", "must not be empty: the split has no views")
    demand(min(shape) > 0, "images", f"must have pixels, got {shape}")
    demand(len(posed.names) == views, "names", f"must be {views}, got {len(posed.names)}")
    cameras = {field: np.asarray(getattr(posed.cameras, field)) for field in Cameras._fields}
    for field, want in zip(Cameras._fields, ((4, 4), (2,), (2,), (8,)), strict=True):
        got = cameras[field]
        demand(got.shape == (views, *want), field, f"must be {(views, *want)}, got {got.shape}")
        bad = np.flatnonzero(~np.isfinite(got.reshape(views, -1)).all(axis=1))
        demand(
            not bad.size, field, f"must be finite, view {posed.names[bad[0]] if bad.size else ''}"
        )
    smallest = cameras["focal"].min()
    demand(smallest > 0, "focal", f"must be positive, got {smallest}")
    validate_poses(
        cameras["camera_to_world"],
        tuple(f"camera_to_world of {name}" for name in posed.names),
        source,
    )
    for field in ("depth", "masks"):
        extra = getattr(posed, field)
        if extra is not None:
            demand(extra.shape == shape[:3], field, f"must be {shape[:3]}, got {extra.shape}")
    if posed.masks is not None:
        demand(
            posed.masks.dtype == bool, "masks", f"must be true or false, got {posed.masks.dtype}"
        )
        demand(posed.masks.any(), "masks", "leave no pixel to use")
    if posed.depth is not None:
        demand(not np.any(posed.depth <= 0), "depth", "must be positive or NaN")
    is_range = np.isfinite([posed.near, posed.far]).all() and 0 <= posed.near < posed.far
    demand(is_range, "near, far", f"must satisfy 0 <= near < far, got {posed.near}, {posed.far}")
    is_box = np.isfinite(posed.aabb).all() and np.all(posed.aabb[0] < posed.aabb[1])
    demand(is_box, "aabb", f"must have its lower corner below the upper, got {posed.aabb.tolist()}")
    return posed


def validate_splits(split: SplitImages) -> SplitImages:
    """Checks every split of a scene; where one has alpha, all of them get it.

    Raises:
      ValueError: naming the scene, the split and the field.
    """
    named = {"train": split.train, "test": split.test, "val": split.val}
    found = {name: posed for name, posed in named.items() if posed is not None}
    for name, posed in found.items():
        validate(posed, f"{split.name}: {name}")
    if any(posed.images.shape[-1] == 4 for posed in found.values()):
        found = {name: _with_alpha(posed) for name, posed in found.items()}
    return split._replace(**found)


def _with_alpha(posed: PosedImages) -> PosedImages:
    if posed.images.shape[-1] == 4:
        return posed
    opaque = np.full((*posed.images.shape[:3], 1), 255, np.uint8)
    return posed._replace(images=np.concatenate([posed.images, opaque], axis=-1))


def _first_bad(values: np.ndarray) -> float:
    return float(values[~np.isfinite(values)][0])
