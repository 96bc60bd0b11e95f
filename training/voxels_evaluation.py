"""What a world looks like while it learns and once it is exported, in pictures and numbers."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from voxels.block_map import BlockMap, compare_maps, map_statistics
from voxels.gradient_report import gradient_report
from voxels.grid import VoxelGrid, grid_statistics, map_from_grid
from voxels.rendering.first_hit import HitConfig, find_hits
from voxels.rendering.images import grid_rays
from voxels.train_step import TrainConfig, TrainState, World, render_at, temperature

from . import voxels_setup
from .voxels_setup import Setup

_LOWEST_ERROR = 1e-10


class Evaluation(NamedTuple):
    """A world judged from every camera.

    Attributes:
      soft: what training sees at the current temperature.
      exported: the map that would be written.
      hard: pictures of that map, 8 bits.
      numbers: metrics for summary.json; `visible_right` is None where no cell is visible.
    """

    soft: Float[np.ndarray, "views rows cols 3"]
    exported: BlockMap
    hard: Float[np.ndarray, "views rows cols 3"]
    numbers: dict[str, Any]


class Evaluator:
    """Renders and judges the states of one run; compiles each program once."""

    def __init__(self, setup: Setup):
        self.setup = setup
        self._soft = jax.jit(functools.partial(render_at, setup.job.train))
        self._statistics = jax.jit(grid_statistics)
        self._report = jax.jit(functools.partial(_report, setup.job.train))
        self._visible: Bool[np.ndarray, "x y z"] | None = None

    def pictures(self, state: TrainState, views: list[int]) -> Float[np.ndarray, "views r c 3"]:
        """Soft pictures of some views."""
        grid, world = state.grid, self.setup.world
        return np.asarray(self._soft(grid, world, jnp.asarray(views), state.step))

    def statistics(self, grid: VoxelGrid) -> dict[str, float]:
        """Grid statistics by name, the shares of materials among them."""
        found = jax.device_get(self._statistics(grid))._asdict()
        shares = found.pop("material_share")
        names = self.setup.loaded.block_map.names
        numbers = {name: float(value) for name, value in found.items()}
        return numbers | {
            f"share_{name}": float(share) for name, share in zip(names, shares, strict=True)
        }

    def export(self, grid: VoxelGrid) -> BlockMap:
        """The map a grid stands for."""
        loaded = self.setup.loaded
        return map_from_grid(grid, loaded.block_map.names, loaded.scale)

    def map_pictures(
        self, block_map: BlockMap, views: list[int]
    ) -> Float[np.ndarray, "views r c 3"]:
        """Pictures of a map from some views, in steps of 1 / 255 as a file would hold them."""
        loaded, render = self.setup.loaded, self.setup.job.train.render
        shown = voxels_setup.render_map(
            block_map,
            loaded.cameras,
            loaded.rows,
            loaded.cols,
            render.near,
            loaded.palette,
            views,
            samples=render.samples,
            is_eye_cell_skipped=render.is_eye_cell_skipped,
        )
        return shown.astype(np.float32) / 255

    def gradients(self, grid: VoxelGrid, step: Array | int) -> dict[str, Any]:
        """The gradient report of the first view, at the temperature of a step."""
        report = self._report(self.setup.run_key, grid, self.setup.world, jnp.asarray(step))
        values = report_as_json(jax.device_get(report))
        names = self.setup.loaded.palette.names
        return values | {"per_material": dict(zip(names, values["per_material"], strict=True))}

    def judge(self, state: TrainState) -> Evaluation:
        """Renders every view both ways and compares with the pictures and with the known map."""
        loaded = self.setup.loaded
        views = list(range(loaded.num_views))
        soft = np.concatenate([self.pictures(state, [view]) for view in views])
        exported = self.export(state.grid)
        hard = self.map_pictures(exported, views)
        truth = loaded.pictures.astype(np.float32) / 255
        numbers: dict[str, Any] = {
            "psnr": psnr(soft, truth),
            "psnr_exported": psnr(hard, truth),
            "export_gap": psnr(soft, hard),
            "num_blocks": exported.num_blocks,
            "material_share": map_statistics(exported).material_share,
            "known_map": loaded.known,
        }
        if loaded.known != "none":
            numbers |= self._against_known(exported)
        return Evaluation(soft, exported, hard, numbers)

    def _against_known(self, exported: BlockMap) -> dict[str, Any]:
        known, visible = self.setup.loaded.block_map, self.visible()
        difference = compare_maps(known, exported)
        right = exported.materials[visible] == known.materials[visible]
        return {
            "added": difference.added,
            "removed": difference.removed,
            "repainted": difference.repainted,
            "solid_iou": round(difference.solid_iou, 5),
            "known_num_blocks": known.num_blocks,
            "known_material_share": map_statistics(known).material_share,
            "material_shift": difference.material_shift,
            "num_visible": int(visible.sum()),
            "visible_right": round(float(right.mean()), 5) if right.size else None,
        }

    def visible(self) -> Bool[np.ndarray, "x y z"]:
        """Cells of the known map that some pixel of some camera shows."""
        if self._visible is None:
            loaded, render = self.setup.loaded, self.setup.job.train.render
            config = HitConfig(shape=loaded.shape, near=render.near / render.scale)
            solid = jnp.asarray(loaded.block_map.is_solid)

            @jax.jit
            def cells(view: Array) -> tuple[Array, Array]:
                rays = grid_rays(render, self.setup.world.cameras, view)
                hits = find_hits(config, solid, rays.eye, rays.directions)
                return hits.cell, hits.is_hit

            seen = np.zeros(loaded.block_map.materials.size, bool)
            for view in range(loaded.num_views):
                cell, is_hit = jax.device_get(cells(jnp.asarray(view)))
                seen[cell[is_hit]] = True
            self._visible = seen.reshape(loaded.shape)
        return self._visible


def _report(config: TrainConfig, key: Any, grid: VoxelGrid, world: World, step: Array) -> Any:
    heat = temperature(config, step)
    scene = (world.lit, world.sky, world.cameras)
    return gradient_report(config.render, key, grid, *scene, 0, temperature=heat)


def psnr(a: Float[np.ndarray, "*image"], b: Float[np.ndarray, "*image"]) -> float:
    """Peak signal-to-noise ratio in dB over all views together; 100 at most."""
    error = float(np.mean(np.square(a.astype(np.float64) - b)))
    return round(-10 * np.log10(max(error, _LOWEST_ERROR)), 4)


def report_as_json(report: Any) -> Any:
    """A gradient report as plain values."""
    if hasattr(report, "_asdict"):
        return {name: report_as_json(value) for name, value in report._asdict().items()}
    if dataclasses.is_dataclass(report):
        raise TypeError("reports are NamedTuples of arrays")
    values = np.asarray(report)
    return values.item() if values.ndim == 0 else values.tolist()
