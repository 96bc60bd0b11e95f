"""Every scene in a folder, trained with nothing but its name and a time limit.

    python -m benchmarks.nerf_scenes --folder nerf/ --seconds 120

What `hardlight nerf --data SCENE --seconds N` gives on each: kind of scene, size and number of
views, steps done, held-out PSNR and SSIM. Runs are kept in --out, so an interrupted benchmark goes
on where it stopped. Writes results/nerf_scenes_BACKEND.json, a row for each scene and time limit;
rows that were not asked for stay as they are, with the machine they were measured on.
"""

import argparse
from pathlib import Path
from typing import Any

from benchmarks import measuring


def main() -> None:
    """Trains what is missing and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True, help="folder of scene folders")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--scenes", help="names with commas between; all by default")
    parser.add_argument("--out", default="runs/benchmark-scenes")
    asked = parser.parse_args()
    from training import runtime

    runtime.prepare()
    known = sorted(path for path in Path(asked.folder).iterdir() if path.is_dir())
    wanted = None if asked.scenes is None else asked.scenes.split(",")
    rows = {
        path.name: _train(asked, path) for path in known if wanted is None or path.name in wanted
    }
    facts = measuring.in_fresh_process(measuring.describe_machine)
    scenes = measuring.stored("nerf_scenes").get("scenes", {})
    for name, row in rows.items():
        row.update({fact: facts[fact] for fact in ("device", "cores", "versions")})
        scenes.setdefault(name, {})[f"{asked.seconds:g}"] = row
    measuring.write("nerf_scenes", {"scenes": dict(sorted(scenes.items()))})


def _train(asked: argparse.Namespace, path: Path) -> dict[str, Any]:
    from training import nerf_job, nerf_options, run_folder
    from training.nerf_command import NerfCommand
    from training.run_folder import RunFolder

    folder = RunFolder(Path(asked.out) / f"{path.name}-{asked.seconds:g}")
    command = NerfCommand(data=str(path), seconds=asked.seconds, set_=("outputs.video_frames=0",))
    scene = nerf_options.load(command)
    if folder.summary.is_file():
        summary = run_folder.read_json(folder.summary)
    else:
        job = nerf_options.build(command, scene.train.kind)
        summary = nerf_job.start(job, out=str(folder.path), scene=scene)
    final = summary["final"]
    return {
        "kind": scene.train.kind,
        "views": scene.train.num_views,
        "cols": scene.train.cols,
        "rows": scene.train.rows,
        "steps": summary["steps"],
        "train_seconds": summary["train_seconds"],
        "rays_per_second": summary["rays_per_second"],
        **{name: final[name] for name in ("psnr", "ssim", "depth_rmse") if name in final},
    }


if __name__ == "__main__":
    main()
