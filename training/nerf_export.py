"""Geometry of a radiance field: a mesh by marching cubes, or the points its training views see.

Both are in the coordinates and units of the scene's own files.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nerf import fields, images, occupancy, spaces
from scenes import posed_images
from scenes.cameras import scale_pixels
from scenes.rays import view_rays

from . import loaded_run, pictures, ply_files
from .loaded_run import LoadedRun
from .nerf_setup import bounds

_CHUNK = 65536
_MAX_POINTS = 1_000_000


def export(run: str, what: str, *, resolution: int, out: Path | None) -> Path:
    """Writes a mesh or a point cloud of a run's newest checkpoint.

    Raises:
      FileNotFoundError, ValueError: when the run is not usable, or has no surface.
    """
    loaded = loaded_run.load(run)
    path = loaded.folder.path / f"{what}.ply" if out is None else out
    if path.suffix.lower() != ".ply":
        raise ValueError(f"{path}: a radiance field is written as .ply")
    if what == "mesh":
        write_mesh(loaded, path, resolution=resolution)
    else:
        write_points(loaded, path, resolution=resolution)
    return path


def write_mesh(loaded: LoadedRun, path: Path, *, resolution: int) -> None:
    """Writes the surface inside the scene's box where a cell of the mesh is half opaque.

    Raises:
      ValueError: when nothing in the box is dense enough, or scikit-image is missing.
    """
    try:
        from skimage.measure import marching_cubes
    except ImportError as error:
        raise ValueError('meshes need scikit-image: pip install "hardlight[mesh]"') from error
    low, high = np.asarray(loaded.setup.scene.train.aabb, np.float64)
    cell = float((high - low).max()) / resolution
    counts = np.maximum(np.ceil((high - low) / cell).astype(int) + 1, 2)
    density_at, color_at = _field(loaded)
    axes = [np.linspace(a, b, n) for a, b, n in zip(low, high, counts, strict=True)]
    volume = np.empty(counts, np.float32)
    for index, x in enumerate(axes[0]):
        slab = np.stack(np.meshgrid(x, axes[1], axes[2], indexing="ij"), axis=-1)
        volume[index] = density_at(slab.reshape(-1, 3)).reshape(counts[1:])
    # nothing outside the box, so that every surface is closed
    for axis in range(3):
        side = np.moveaxis(volume, axis, 0)
        side[0] = side[-1] = 0.0
    level = math.log(2.0) / cell
    if not volume.max() > level:
        raise ValueError(
            f"{loaded.folder.path}: nothing in the box is dense enough for a mesh of "
            f"{resolution} cells; train longer or ask for fewer cells"
        )
    # in the logarithm, which runs straight where density jumps by orders of magnitude
    spacing = tuple((high - low) / (counts - 1))
    heights = np.log(np.maximum(volume, 1e-3 * level))
    points, faces, normals, _ = marching_cubes(
        heights, math.log(level), spacing=spacing, gradient_direction="descent"
    )
    points = points + low
    colors = color_at(points, -normals)
    scale = loaded.setup.scene.world_from_scene[:3, :3]
    turned = normals @ (scale / np.cbrt(np.linalg.det(scale))).T
    ply_files.write_ply(
        path,
        posed_images.to_world(loaded.setup.scene, points),
        colors,
        normals=turned,
        faces=faces[:, ::-1].astype(np.int64),  # counter-clockwise from outside
    )


def write_points(loaded: LoadedRun, path: Path, *, resolution: int) -> None:
    """Writes what the training views see: rendered depth, in the rendered colours.

    Args:
      resolution: longer side of the pictures the points are taken from.
    """
    setup, train = loaded.setup, loaded.setup.scene.train
    share = min(1.0, resolution / max(train.rows, train.cols))
    share = min(share, math.sqrt(_MAX_POINTS / (train.num_views * train.rows * train.cols)))
    rows, cols = (max(1, round(side * share)) for side in (train.rows, train.cols))
    cameras = scale_pixels(train.cameras, np.array([cols / train.cols, rows / train.rows]))
    found, colors = [], []
    for view, rendered in enumerate(
        images.render_views(
            loaded.evaluator.render,
            loaded.snapshot,
            bounds(train),
            cameras,
            rows,
            cols,
            setup.background,
        )
    ):
        seen = rendered.opacity > 0.9
        rays = view_rays(cameras, view, rows, cols)
        places = np.asarray(rays.origins) + rendered.depth[..., None] * np.asarray(rays.directions)
        found.append(places[seen])
        colors.append(pictures.to_uint8(rendered.color)[seen])
    points = np.concatenate(found)
    if not len(points):
        raise ValueError(f"{loaded.folder.path}: no training view sees anything solid")
    world = posed_images.to_world(setup.scene, points)
    ply_files.write_ply(path, world, np.concatenate(colors))


def _field(loaded: LoadedRun) -> tuple[Callable[..., np.ndarray], Callable[..., np.ndarray]]:
    """Density per scene unit and colour of the loaded field at any number of points."""
    config, posed = loaded.setup.job.train, loaded.setup.scene.train
    place, space = bounds(posed), loaded.setup.job.train.marching.space
    params, grid = loaded.snapshot.params, loaded.snapshot.grid

    @jax.jit
    def density(points: Float[Array, "n 3"]) -> Array:
        unit = spaces.to_unit(space, place, points)
        values = fields.density(config.field, params, unit)
        values = values * spaces.shrinking(space, place, points)
        # a box around a frustum has corners that no ray reaches; the field's tables end before them
        is_inside = jnp.all((unit >= 0.0) & (unit <= 1.0), axis=-1)
        is_seen = is_inside & occupancy.is_occupied(config.occupancy, grid, unit)
        return jnp.where(is_seen, values, 0.0)

    @jax.jit
    def color(points: Float[Array, "n 3"], directions: Float[Array, "n 3"]) -> Array:
        unit = spaces.to_unit(space, place, points)
        return fields.evaluate(config.field, params, unit, directions).color

    def densities(points: np.ndarray) -> np.ndarray:
        return np.concatenate([np.asarray(density(part))[:n] for part, n in _chunks(points)])

    def colors(points: np.ndarray, directions: np.ndarray) -> np.ndarray:
        parts = zip(_chunks(points), _chunks(directions), strict=True)
        values = [np.asarray(color(a, b))[:n] for (a, n), (b, _) in parts]
        return pictures.to_uint8(np.concatenate(values)[None])[0]

    return densities, colors


def _chunks(values: np.ndarray) -> Iterator[tuple[Any, int]]:
    """Equal pieces, the last filled up, so that one program serves all."""
    for start in range(0, len(values), _CHUNK):
        part = np.asarray(values[start : start + _CHUNK], np.float32)
        yield jnp.asarray(np.pad(part, ((0, _CHUNK - len(part)), (0, 0)))), len(part)
