"""Four ways to choose pixels, at equal rays and at equal seconds.

    python -m benchmarks.nerf_samplers --data blender_lego/ llff_fern/

Trains uniform, error_weighted, spatial and soft_mining on small images of each scene with paired
seeds, through the same program as `hardlight compare nerf`, and collects the comparisons into
results/nerf_samplers_BACKEND.json. Runs are kept in --out, so an interrupted benchmark goes on
where it stopped. Seconds are only worth something on an idle machine.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from benchmarks import measuring

SAMPLERS = ("uniform", "error_weighted", "spatial", "soft_mining")
QUANTITIES = (
    "final",
    "ssim",
    "at_equal_steps",
    "at_equal_seconds",
    "area",
    "train_seconds",
)


def main() -> None:
    """Runs what is missing and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", required=True, help="folders of posed images")
    parser.add_argument("--samplers", default=",".join(SAMPLERS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rays", type=int, default=512)
    parser.add_argument("--budget", type=int, default=16384, help="samples per step")
    parser.add_argument("--downscale", type=float, default=4.0)
    parser.add_argument("--out", default="runs/benchmark-samplers")
    asked = parser.parse_args()
    from training import runtime

    runtime.prepare()
    scenes = {Path(data).name: _compare(asked, data) for data in asked.data}
    settings = {
        name: getattr(asked, name) for name in ("steps", "rays", "budget", "downscale", "seeds")
    }
    measuring.write("nerf_samplers", {"settings": settings, "scenes": scenes})


def _compare(asked: argparse.Namespace, data: str) -> dict[str, Any]:
    from training import compare_runs, nerf_options
    from training.compare_config import NerfComparison
    from training.nerf_command import NerfCommand
    from training.nerf_config import OutputConfig, SamplerConfig

    folder = Path(asked.out) / Path(data).name
    if (folder / compare_runs.CONFIG_NAME).is_file():
        results = compare_runs.resume(folder)
    else:
        command = NerfCommand(
            data=data,
            steps=asked.steps,
            rays=asked.rays,
            downscale=asked.downscale,
            set_=(
                f"marching.budget={asked.budget}",
                "loop.num_evaluations=6",
                "loop.first_evaluation=0.1",
            ),
        )
        scene = nerf_options.load(command)
        base = nerf_options.build(command, scene.train.kind)
        comparison = NerfComparison(
            base=dataclasses.replace(base, outputs=OutputConfig(num_pictures=0, video_frames=0)),
            samplers=tuple(SamplerConfig(name=name) for name in asked.samplers.split(",")),
            num_seeds=asked.seeds,
        )
        results = compare_runs.start(comparison, folder, scene=scene)
    return {
        "equal_steps": results["equal_steps"],
        "equal_seconds": results["equal_seconds"],
        "samplers": {
            name: {quantity: row[quantity] for quantity in QUANTITIES if quantity in row}
            for name, row in results["samplers"].items()
        },
        "verdicts": results["verdicts"],
    }


if __name__ == "__main__":
    main()
