"""What every reader of real captures hands over, and the one road from there to a scene.

A reader finds files, poses and intrinsics and says so in a `Capture`; `finish` sorts the views,
splits them, reads pixels, depth and masks, chooses coordinates (`normalisation`) and checks it all.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ..backgrounds import Background
from ..cameras import Cameras, make_cameras
from ..normalisation import (
    Evidence,
    Frame,
    frame_of,
    image_tangents,
    robust_box,
    scale_of,
    to_scene,
)
from ..posed_images import PosedImages, SplitImages, validate_poses, validate_splits
from ..rotations import nearest_rotation, rigid
from .depth_maps import (
    distance_from_planar,
    holds_integers,
    ray_lengths,
    read_depth,
    read_mask,
)
from .intrinsics import Intrinsics, check_image_size
from .pictures import check_downscale, image_size, in_threads, read_images
from .splits import DEFAULT_HOLDOUT, split_views

AUTOMATIC_SIDE = 1600
_NEAR_SHARE, _FAR_SHARE = 0.001, 0.999
_MAX_POINTS = 200_000
_SCALES = (1e-9, 1e9)


class Sparse(NamedTuple):
    """Triangulated points a view sees: where in the image (intrinsics' size), and which."""

    xy: Float[np.ndarray, "seen 2"]
    point: Int[np.ndarray, " seen"]


class View(NamedTuple):
    """One photograph of a capture.

    Attributes:
      name: as its source calls it.
      path: of the image.
      field: what its pose is called in the source, for errors.
      camera_to_world: OpenGL axes, any units.
      depth_path, mask_path: files, or None.
      bounds: planar depths (near, far) of what it sees, or None.
      sparse: triangulated points it sees, or None.
    """

    name: str
    path: Path
    field: str
    camera_to_world: Float[np.ndarray, "4 4"]
    intrinsics: Intrinsics
    depth_path: Path | None = None
    mask_path: Path | None = None
    bounds: tuple[float, float] | None = None
    sparse: Sparse | None = None


class Capture(NamedTuple):
    """Everything a reader found, nothing decoded yet.

    Attributes:
      source: the file that lists the views; errors name it.
      views: at least one, in any order.
      missing: names of listed images that do not exist.
      num_listed: views the source lists, missing ones included.
      depth_scale: length of one stored unit of depth; None guesses by type.
      is_distance: depth is along the ray, not planar.
      points: triangulated points in world units.
      box: bounds of everything there is to see, if the source says so.
      lists: listed splits, by name.
      background: to compose over or to expect behind the scene.
      shrunk: how many times smaller than the originals the image files already are.
    """

    name: str
    source: Path
    views: tuple[View, ...]
    missing: tuple[str, ...] = ()
    num_listed: int = 0
    depth_scale: float | None = None
    is_distance: bool = False
    points: Float[np.ndarray, "points 3"] | None = None
    box: Float[np.ndarray, "2 3"] | None = None
    lists: Mapping[str, tuple[str, ...]] = {}
    background: Background | None = None
    shrunk: float = 1.0
    notes: tuple[str, ...] = ()


def with_depth_scale(captures: Sequence[Capture], scale: float | None) -> list[Capture]:
    """Gives the depth maps of one scene the unit that the user knows; None leaves theirs.

    Args:
      captures: parts of the scene; one of them must have depth maps.
      scale: length of one stored unit, in the unit of the poses.
    Raises:
      ValueError: for a scale no depth has, or where no view has a depth map.
    """
    if scale is None:
        return list(captures)
    if not _SCALES[0] <= scale <= _SCALES[1]:
        raise ValueError(f"depth_scale must be in [{_SCALES[0]:g}, {_SCALES[1]:g}], got {scale:g}")
    if not any(view.depth_path for capture in captures for view in capture.views):
        raise ValueError(
            f"{captures[0].source}: depth_scale {scale:g} is for depth maps, and this scene has "
            "none"
        )
    return [capture._replace(depth_scale=scale) for capture in captures]


def unit_notes(capture: Capture) -> list[str]:
    """Says which unit is assumed for depth maps of integers, where nothing gives it."""
    paths = [view.depth_path for view in capture.views if view.depth_path is not None]
    one_of_a_kind = {path.suffix: path for path in paths}.values()
    if capture.depth_scale is None and any(holds_integers(path) for path in one_of_a_kind):
        return ["depth has no unit: integers are taken as millimetres; depth_scale sets another"]
    return []


def finish(
    capture: Capture,
    *,
    downscale: int | float | None = None,
    longest_side: int = AUTOMATIC_SIDE,
    with_depth: bool = False,
    holdout: int = DEFAULT_HOLDOUT,
) -> SplitImages:
    """Reads a capture's files and turns it into a scene.

    Args:
      downscale: divides the original images' sides; None halves the files' until the longer side
        is at most `longest_side` pixels.
      with_depth: also use triangulated points as (sparse) depth; measured depth is always read.
      holdout: every so many views is for testing if no split is listed.
    Raises:
      FileNotFoundError, ValueError: naming file and field.
    """
    source = str(capture.source)
    try:
        # numbers that overflow become infinite, which the checks at the end refuse
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return _finish(capture, downscale, longest_side, with_depth, holdout)
    except ValueError as error:
        if source in str(error) or str(capture.source.parent) in str(error):
            raise
        raise ValueError(f"{source}: {error}") from error


def _finish(
    capture: Capture,
    downscale: int | float | None,
    longest_side: int,
    with_depth: bool,
    holdout: int,
) -> SplitImages:
    source = str(capture.source)
    if not capture.views:
        raise FileNotFoundError(
            f"{source}: none of the {len(capture.missing)} listed images exists, "
            f"the first is {capture.missing[0] if capture.missing else 'not given'}"
        )
    views = tuple(sorted(capture.views, key=lambda view: view.name))
    poses = np.stack([view.camera_to_world for view in views])
    validate_poses(poses, tuple(view.field for view in views), source)
    poses = rigid(nearest_rotation(poses[:, :3, :3]), poses[:, :3, 3])
    notes = list(capture.notes)
    if capture.missing:
        notes.append(
            f"{len(capture.missing)} of {capture.num_listed} listed images do not exist and are "
            f"left out, the first is {capture.missing[0]}"
        )
    split = split_views(
        [view.name for view in views],
        capture.lists,
        holdout=holdout,
        missing=capture.missing,
        source=source,
    )
    notes += split.notes
    sizes = in_threads(lambda view: image_size(view.path), views)
    for view, size in zip(views, sizes, strict=True):
        check_image_size(view.intrinsics, size, str(view.path))
    if downscale is None:
        downscale = _automatic(max(sizes[0]), longest_side)
        if downscale > 1:
            notes.append(
                f"images of {sizes[0][0]} x {sizes[0][1]} pixels are divided by {downscale:g}; "
                "ask for downscale 1 to keep them"
            )
    else:
        check_downscale(downscale)
        downscale = max(1.0, downscale / capture.shrunk)
    members = {
        name: np.array(indices)
        for name, indices in zip(("train", "test", "val"), split[:3], strict=True)
        if indices
    }
    parts = {
        name: read_views(
            capture, [views[index] for index in indices], poses[indices], downscale, with_depth
        )
        for name, indices in members.items()
    }
    notes += unit_notes(capture)
    evidence = _evidence(capture, views, poses, parts, members)
    frame = frame_of(poses, evidence, _tangents(parts, members, len(poses)))
    parts = {name: _move(part, poses[members[name]], frame) for name, part in parts.items()}
    has_alpha = any(part.images.shape[-1] == 4 for part in parts.values())
    return validate_splits(
        SplitImages(
            train=parts["train"],
            test=parts["test"],
            val=parts.get("val"),
            name=capture.name,
            background=capture.background or ("white" if has_alpha else "black"),
            world_from_scene=frame.world_from_scene,
            notes=tuple(notes),
        )
    )


def _automatic(side: int, longest: int) -> int:
    """Smallest power of two that brings a side to at most `longest` pixels."""
    factor = 1
    while side / factor > longest:
        factor *= 2
    return factor


def read_views(
    capture: Capture,
    chosen: Sequence[View],
    poses: Float[np.ndarray, "views 4 4"],
    downscale: int | float,
    with_depth: bool = False,
) -> PosedImages:
    """Reads images, depth and masks of some views, in world coordinates.

    Near, far and the box are for the caller to fill in.

    Args:
      chosen: some of the capture's views.
      poses: theirs, camera to world.
      downscale: divides the files' sides.
      with_depth: also use triangulated points as (sparse) depth.
    Raises:
      FileNotFoundError, ValueError: naming the file.
    """
    images = read_images(
        [view.path for view in chosen], downscale=downscale, source=str(capture.source)
    )
    rows, cols = images.shape[1:3]
    factor = np.array([[cols, rows]]) / np.stack([view.intrinsics.size for view in chosen])
    cameras = make_cameras(
        poses,
        np.stack([view.intrinsics.focal for view in chosen]) * factor,
        np.stack([view.intrinsics.principal for view in chosen]) * factor,
        np.stack([view.intrinsics.distortion for view in chosen]),
    )
    depth = masks = None
    if any(view.depth_path for view in chosen):
        depth = _read_depths(capture, chosen, cameras, rows, cols)
    elif with_depth and capture.points is not None:
        depth = _sparse_depths(capture.points, chosen, poses, factor, rows, cols)
    if any(view.mask_path for view in chosen):
        masks = np.stack(
            in_threads(
                lambda path: (
                    np.ones((rows, cols), bool) if path is None else read_mask(path, rows, cols)
                ),
                [view.mask_path for view in chosen],
            )
        )
    return PosedImages(
        images=images,
        cameras=cameras,
        names=tuple(view.name for view in chosen),
        near=0.0,
        far=1.0,
        aabb=np.zeros((2, 3), np.float32),
        depth=depth,
        masks=masks,
    )


def _read_depths(
    capture: Capture, views: Sequence[View], cameras: Cameras, rows: int, cols: int
) -> Float[np.ndarray, "views rows cols"]:
    def read(path: Path | None) -> np.ndarray:
        if path is None:
            return np.full((rows, cols), np.nan, np.float32)
        return read_depth(path, rows, cols, scale=capture.depth_scale)

    stored = np.stack(in_threads(read, [view.depth_path for view in views]))
    return stored if capture.is_distance else distance_from_planar(stored, cameras)


def _sparse_depths(
    points: np.ndarray,
    views: Sequence[View],
    poses: np.ndarray,
    factor: np.ndarray,
    rows: int,
    cols: int,
) -> Float[np.ndarray, "views rows cols"]:
    """Distance of each triangulated point at the pixel where its view saw it; the nearest wins."""
    depth = np.full((len(views), rows, cols), np.inf, np.float32)
    for index, view in enumerate(views):
        if view.sparse is None:
            continue
        distance = np.linalg.norm(points[view.sparse.point] - poses[index, :3, 3], axis=1)
        col, row = np.floor(view.sparse.xy * factor[index]).astype(int).T
        inside = (row >= 0) & (row < rows) & (col >= 0) & (col < cols) & (distance > 0)
        np.minimum.at(depth[index], (row[inside], col[inside]), distance[inside])
    return np.where(np.isfinite(depth), depth, np.float32(np.nan))


def _evidence(
    capture: Capture,
    views: tuple[View, ...],
    poses: np.ndarray,
    parts: Mapping[str, PosedImages],
    members: Mapping[str, np.ndarray],
) -> Evidence:
    """Collects what bounds, depth maps and points say about the size of the scene."""
    if any(view.depth_path for view in views):
        near, far, points = _depth_evidence(parts, members, poses)
        if near is not None:
            box = robust_box(points) if capture.box is None else capture.box
            return Evidence(box, points, near, far, is_complete=capture.box is not None)
    if capture.box is not None:
        return Evidence(box=capture.box, is_complete=True)
    bounds = [view.bounds for view in views if view.bounds is not None]
    if bounds:
        return Evidence(near=min(b[0] for b in bounds), far=max(b[1] for b in bounds))
    if capture.points is not None and any(view.sparse is not None for view in views):
        near, far = _point_bounds(capture.points, views, poses)
        return Evidence(points=capture.points, near=near, far=far)
    return Evidence()


def _depth_evidence(
    parts: Mapping[str, PosedImages], members: Mapping[str, np.ndarray], poses: np.ndarray
) -> tuple[float | None, float | None, np.ndarray]:
    """Planar range and a sample of the surface points that depth maps show."""
    planar, points = [], []
    total = sum(part.num_views for part in parts.values())
    for name, part in parts.items():
        if part.depth is None:
            continue
        rows, cols = part.rows, part.cols
        stride = max(1, int(np.sqrt(rows * cols * total / _MAX_POINTS)))
        lengths = ray_lengths(part.cameras, rows, cols)[:, ::stride, ::stride]
        depth = part.depth[:, ::stride, ::stride] / lengths
        view, row, col = np.nonzero(np.isfinite(depth))
        along = depth[view, row, col].astype(np.float64)
        pose = poses[members[name]][view]
        focal, principal = np.asarray(part.cameras.focal), np.asarray(part.cameras.principal)
        x = (col * stride + 0.5 - principal[view, 0]) / focal[view, 0]
        y = (row * stride + 0.5 - principal[view, 1]) / focal[view, 1]
        local = np.stack([x * along, -y * along, -along], axis=-1)
        points.append(np.einsum("nij,nj->ni", pose[:, :3, :3], local) + pose[:, :3, 3])
        planar.append(along)
    if not planar or not sum(map(len, planar)):
        return None, None, np.zeros((0, 3))
    near, far = np.quantile(np.concatenate(planar), [_NEAR_SHARE, _FAR_SHARE])
    return float(near), float(far), np.concatenate(points)


def _point_bounds(
    points: np.ndarray, views: tuple[View, ...], poses: np.ndarray
) -> tuple[float | None, float | None]:
    """Planar range of the points each view saw, without the outermost thousandth."""
    near, far = [], []
    for view, pose in zip(views, poses, strict=True):
        if view.sparse is None or not len(view.sparse.point):
            continue
        planar = (points[view.sparse.point] - pose[:3, 3]) @ -pose[:3, 2]
        planar = planar[planar > 0]
        if len(planar):
            low, high = np.quantile(planar, [_NEAR_SHARE, _FAR_SHARE])
            near.append(low)
            far.append(high)
    return (float(min(near)), float(max(far))) if near else (None, None)


def _tangents(
    parts: Mapping[str, PosedImages], members: Mapping[str, np.ndarray], num_views: int
) -> Float[np.ndarray, "views 2 2"]:
    """Slopes of the images' corners, in the order of all views."""
    tangents = np.zeros((num_views, 2, 2))
    for name, part in parts.items():
        tangents[members[name]] = image_tangents(part.cameras, part.rows, part.cols)
    return tangents


def _move(part: PosedImages, poses: np.ndarray, frame: Frame) -> PosedImages:
    """Moves a split from world to scene coordinates."""
    scale = scale_of(frame.world_from_scene)
    moved = to_scene(frame.world_from_scene, poses)
    return part._replace(
        cameras=part.cameras._replace(camera_to_world=moved.astype(np.float32)),
        depth=None if part.depth is None else part.depth / np.float32(scale),
        near=float(frame.near),
        far=float(frame.far),
        aabb=frame.aabb,
        kind=frame.kind,
    )
