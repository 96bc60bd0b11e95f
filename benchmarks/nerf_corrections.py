"""What colours, appearance and poses learned for single views buy on photographs of a phone.

Every choice trains the same field with the same steps and seeds. Held-out views are rendered
uncorrected; `psnr_color_fitted` is their PSNR after the affine map of colours that fits best, which
is how a field is judged that learned each photograph's exposure apart.

    python -m benchmarks.nerf_corrections --data fox_540x960/

Runs are kept in --partial as they finish, so an interrupted benchmark goes on where it stopped.
Writes results/nerf_corrections_BACKEND.json.
"""

import argparse
import functools
import statistics
from pathlib import Path
from typing import Any

from benchmarks import measuring
from benchmarks.kept_runs import KeptRuns

CHOICES: dict[str, tuple[str, ...]] = {
    "none": (),
    "colors": ("corrections.colors=true",),
    "appearance": ("corrections.appearance=true",),
    "colors_appearance": ("corrections.colors=true", "corrections.appearance=true"),
    "poses": ("corrections.poses=true",),
    "poses_tenfold": ("corrections.poses=true", "corrections.pose_rate=0.03"),
    "both": ("corrections.colors=true", "corrections.poses=true"),
}
QUANTITIES = ("psnr", "psnr_color_fitted", "ssim")


def main() -> None:
    """Runs what is missing and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder of photographs")
    parser.add_argument("--choices", default=",".join(CHOICES))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--partial", default="runs/benchmark-corrections.json")
    asked = parser.parse_args()
    kept = KeptRuns(asked.partial)
    choices = asked.choices.split(",")
    for choice in choices:
        names = {seed: _name(asked, choice, seed) for seed in range(asked.seeds)}
        kept.add(names, functools.partial(_runs, vars(asked), choice))
    rows = {
        choice: [kept[_name(asked, choice, seed)] for seed in range(asked.seeds)]
        for choice in choices
    }
    base = rows[choices[0]]
    found = {
        choice: {
            name: {
                "mean": statistics.fmean(run[name] for run in runs),
                "values": [run[name] for run in runs],
                "paired_gain": [
                    run[name] - other[name] for run, other in zip(runs, base, strict=True)
                ],
            }
            for name in QUANTITIES
        }
        for choice, runs in rows.items()
    }
    measuring.write(
        "nerf_corrections",
        {
            "scene": Path(asked.data).name,
            "settings": {"steps": asked.steps, "seeds": asked.seeds},
            "held_out": found,
        },
    )


def _name(asked: argparse.Namespace, choice: str, seed: int) -> str:
    return f"{Path(asked.data).name}, {choice}, seed {seed}, {asked.steps} steps"


def _runs(asked: dict[str, Any], choice: str, seeds: list[int]) -> list[dict[str, float]]:
    """Trains one choice with several seeds, compiling once."""
    from benchmarks.nerf_training import train_seeds
    from nerf import images
    from training import nerf_options
    from training.nerf_command import NerfCommand
    from training.nerf_evaluation import Evaluator

    command = NerfCommand(data=asked["data"], steps=asked["steps"], set_=CHOICES[choice])
    scene = nerf_options.load(command)
    job = nerf_options.build(command, scene.train.kind)
    results = []
    for setup, state, _ in train_seeds(job, scene, seeds):
        views = list(Evaluator(setup).every_view(images.snapshot(state)))
        results.append(
            {
                name: statistics.fmean(float(getattr(view, name)) for view in views)
                for name in QUANTITIES
            }
        )
    return results


if __name__ == "__main__":
    main()
