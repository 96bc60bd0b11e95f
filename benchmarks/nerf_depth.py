"""What known depth buys: presets plain, soft, hard and hybrid on an RGB-D scan, few and many views.

Every preset trains the same field with the same steps, rays, sample budget and seeds, and renders
the held-out views without any depth. Reported per preset and number of views, over seeds: PSNR,
SSIM, and the error of rendered depth against the sensor's, in the scan's own unit.

    python -m benchmarks.nerf_depth --data rgbd_shelfbox/

Runs are kept in --partial as they finish, so an interrupted benchmark goes on where it stopped.
"""

import argparse
import dataclasses
import functools
import statistics
from pathlib import Path
from typing import Any

from benchmarks import measuring
from benchmarks.kept_runs import KeptRuns

PRESETS = ("plain", "soft", "hard", "hybrid")
QUANTITIES = ("psnr", "ssim", "depth_rmse", "depth_relative")


def main() -> None:
    """Runs what is missing and writes results/nerf_depth_BACKEND.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder with RGB-D images")
    parser.add_argument("--views", default="6,22", help="training views, with commas between")
    parser.add_argument("--presets", default=",".join(PRESETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rays", type=int, default=512)
    parser.add_argument("--budget", type=int, default=16384, help="samples per step")
    parser.add_argument("--downscale", type=float, default=4.0)
    parser.add_argument("--behind", help="what is behind the photographs; default: the scene's")
    parser.add_argument("--partial", default="runs/benchmark-depth.json")
    asked = parser.parse_args()
    kept = KeptRuns(asked.partial)
    for views in (int(text) for text in asked.views.split(",")):
        for preset in asked.presets.split(","):
            names = {seed: _name(asked, views, preset, seed) for seed in range(asked.seeds)}
            kept.add(names, functools.partial(_runs, vars(asked), views, preset))
    measuring.write("nerf_depth", _table(asked, kept))


def _name(asked: argparse.Namespace, views: int, preset: str, seed: int) -> str:
    sizes = f"{asked.steps} steps of {asked.rays} rays, {asked.budget} samples"
    behind = "" if asked.behind is None else f", {asked.behind} behind"
    return f"{views} views, {preset}, seed {seed}, {sizes}, downscale {asked.downscale:g}{behind}"


def _runs(
    asked: dict[str, Any], views: int, preset: str, seeds: list[int]
) -> list[dict[str, float]]:
    """Trains one preset with several seeds, compiling once."""
    from benchmarks.nerf_training import train_seeds
    from nerf import images
    from training import nerf_options, nerf_setup
    from training.nerf_command import NerfCommand
    from training.nerf_evaluation import Evaluator

    sets = [f"rays_per_step={asked['rays']}", f"marching.budget={asked['budget']}"]
    if asked["behind"] is not None:
        sets.append(f"opaque_background={asked['behind']}")
    command = NerfCommand(
        data=asked["data"],
        steps=asked["steps"],
        downscale=asked["downscale"],
        views=views,
        depth=preset,
        set_=tuple(sets),
    )
    config = dataclasses.replace(nerf_options.scene_config(command), with_depth=True)
    scene = nerf_setup.load(config)
    job = dataclasses.replace(nerf_options.build(command, scene.train.kind), scene=config)
    results = []
    for setup, state, _ in train_seeds(job, scene, seeds):
        rows = [
            (view.psnr, view.ssim, view.depth_rmse, view.depth_relative)
            for view in Evaluator(setup).every_view(images.snapshot(state))
        ]
        means = (statistics.fmean(column) for column in zip(*rows, strict=True))
        results.append(dict(zip(QUANTITIES, means, strict=True)))
    return results


def _table(asked: argparse.Namespace, kept: KeptRuns) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for views in (int(text) for text in asked.views.split(",")):
        rows = {
            preset: [kept[_name(asked, views, preset, seed)] for seed in range(asked.seeds)]
            for preset in asked.presets.split(",")
        }
        table[f"{views} views"] = {
            preset: {
                name: {
                    "mean": statistics.fmean(run[name] for run in runs),
                    "values": [run[name] for run in runs],
                    "paired_gain_over_plain": [
                        run[name] - base[name]
                        for run, base in zip(runs, rows["plain"], strict=True)
                    ]
                    if "plain" in rows
                    else None,
                }
                for name in QUANTITIES
            }
            for preset, runs in rows.items()
        }
    settings = {
        name: getattr(asked, name)
        for name in ("steps", "rays", "budget", "downscale", "seeds", "behind")
    }
    return {"scene": Path(asked.data).name, "settings": settings, "held_out": table}


if __name__ == "__main__":
    main()
