"""Where a field puts its surfaces, with one setting or another: is there haze in front of them?

Every choice trains the same field with the same steps, rays, sample budget and seeds. At held-out
pixels whose depth D is known (a sensor's, or points of a COLMAP model) it is measured how much of a
ray ends in front of 0.9 D (`in_front`), how far from D, as a share of it, half of the ray has ended
(`depth_error`, the median over pixels), and how often that is less than a tenth (`within_tenth`).
PSNR is that of a lattice of held-out pixels; on scenes without depth it is all there is.

    python -m benchmarks.nerf_surfaces --data colmap_can/ fox_540x960/ rgbd_shelfbox/

A choice is LABEL=SETTING,SETTING with the settings of `hardlight nerf --set`. Runs are kept in
--partial as they finish, so an interrupted benchmark goes on where it stopped. Writes
results/NAME_BACKEND.json.
"""

import argparse
import dataclasses
import functools
import statistics
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import measuring
from benchmarks.kept_runs import KeptRuns

CHOICES = ("black=opaque_background=black", "random=opaque_background=random")
_MAX_PIXELS = 2000
_FINE = 256


def main() -> None:
    """Runs what is missing and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, nargs="+", help="folders of photographs")
    parser.add_argument("--choices", nargs="+", default=CHOICES)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--rays", type=int, default=1024)
    parser.add_argument("--budget", type=int, default=32768, help="samples per step")
    parser.add_argument("--name", default="nerf_surfaces", help="of the results file")
    parser.add_argument("--partial", default="runs/benchmark-surfaces.json")
    asked = parser.parse_args()
    kept = KeptRuns(asked.partial)
    for data in asked.data:
        for choice in asked.choices:
            names = {seed: _name(asked, data, choice, seed) for seed in range(asked.seeds)}
            kept.add(names, functools.partial(_runs, vars(asked), data, choice))
    found = {
        Path(data).name: {
            choice.partition("=")[0]: _spread(
                [kept[_name(asked, data, choice, seed)] for seed in range(asked.seeds)]
            )
            for choice in asked.choices
        }
        for data in asked.data
    }
    settings = {name: getattr(asked, name) for name in ("steps", "rays", "budget", "seeds")}
    settings["choices"] = list(asked.choices)
    measuring.write(asked.name, {"settings": settings, "held_out": found})


def _name(asked: argparse.Namespace, data: str, choice: str, seed: int) -> str:
    sizes = f"{asked.steps} steps of {asked.rays} rays, {asked.budget} samples"
    return f"{Path(data).name}, {choice}, seed {seed}, {sizes}"


def _spread(runs: list[dict[str, float]]) -> dict[str, Any]:
    return {
        name: {
            "mean": statistics.fmean(run[name] for run in runs),
            "values": [r[name] for r in runs],
        }
        for name in runs[0]
    }


def _runs(
    asked: dict[str, Any], data: str, choice: str, seeds: list[int]
) -> list[dict[str, float]]:
    """Trains one choice with several seeds, compiling once."""
    from benchmarks.nerf_training import train_seeds
    from nerf import images
    from training import nerf_options, nerf_setup
    from training.nerf_command import NerfCommand
    from training.nerf_evaluation import Evaluator

    sets = [text for text in choice.partition("=")[2].split(",") if text]
    sizes = [f"rays_per_step={asked['rays']}", f"marching.budget={asked['budget']}"]
    command = NerfCommand(data=data, steps=asked["steps"], set_=(*sizes, *sets))
    config = dataclasses.replace(nerf_options.scene_config(command), with_depth=True)
    scene = nerf_setup.load(config)
    job = nerf_options.build(command, scene.train.kind)
    results = []
    for setup, state, metrics in train_seeds(job, scene, seeds):
        values = {"psnr": Evaluator(setup).quick_psnr(images.snapshot(state))}
        if scene.test.depth is not None:
            values.update(_surfaces(setup, state, scene.test))
        values["step_scale"] = float(metrics.step_scale)
        values["occupied"] = float(metrics.occupied)
        results.append(values)
    return results


def _surfaces(setup: Any, state: Any, posed: Any) -> dict[str, float]:
    """Marches the field itself, finely, along rays whose end is known."""
    from nerf import fields, occupancy, spaces
    from scenes.rays import camera_rays

    config, bounds = setup.job.train, setup.data.bounds
    view, row, col = np.nonzero(np.isfinite(posed.depth))
    chosen = np.random.default_rng(0).permutation(len(view))[:_MAX_PIXELS]
    view, row, col = view[chosen], row[chosen], col[chosen]
    depth = jnp.asarray(posed.depth[view, row, col])[:, None]
    xy = jnp.asarray(np.stack([col, row], axis=-1), jnp.float32) + 0.5
    rays = camera_rays(jax.tree.map(jnp.asarray, posed.cameras), jnp.asarray(view), xy)

    def optical_depth(params: Any, grid: Any, end: jax.Array) -> tuple[jax.Array, jax.Array]:
        t = bounds.near + (end - bounds.near) * (jnp.arange(_FINE) + 0.5) / _FINE
        points = (rays.origins[:, None] + t[..., None] * rays.directions[:, None]).reshape(-1, 3)
        unit = spaces.to_unit(config.marching.space, bounds, points)
        density = fields.density(config.field, params, unit)
        density = density * spaces.shrinking(config.marching.space, bounds, points)
        density = jnp.where(occupancy.is_occupied(config.occupancy, grid, unit), density, 0.0)
        return jnp.cumsum(density.reshape(t.shape), axis=1) * (end - bounds.near) / _FINE, t

    @jax.jit
    def measure(params: Any, grid: Any) -> tuple[jax.Array, jax.Array]:
        before, _ = optical_depth(params, grid, 0.9 * depth)
        passed, t = optical_depth(params, grid, 2.0 * depth)
        has_ended = passed > jnp.log(2.0)
        first = jnp.take_along_axis(t, jnp.argmax(has_ended, axis=1)[:, None], axis=1)
        end = jnp.where(has_ended[:, -1:], first, 2.0 * depth)  # later, or never
        return 1.0 - jnp.exp(-before[:, -1]), (jnp.abs(end - depth) / depth)[:, 0]

    in_front, error = measure(state.params, state.grid)
    return {
        "in_front": float(jnp.mean(in_front)),
        "depth_error": float(jnp.median(error)),
        "within_tenth": float(jnp.mean(error < 0.1)),
    }


if __name__ == "__main__":
    main()
