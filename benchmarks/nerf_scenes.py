"""Every scene in a folder, trained with nothing but its name and a time limit.

    python -m benchmarks.nerf_scenes --folder nerf/ --seconds 120

What `hardlight nerf --data SCENE --seconds N` gives on each: kind of scene, size and number of
views, steps done, held-out PSNR and SSIM. Runs are kept in --out, so an interrupted benchmark goes
on where it stopped. Writes results/nerf_scenes_BACKEND.json, where rows of scenes that were left
out by --scenes stay as they are, with the machine they were measured on.
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
    before = measuring.stored("nerf_scenes")
    machine = {name: before[name] for name in ("device", "cores", "versions") if name in before}
    kept = {
        name: {"seconds": before["seconds"], **machine, **row} if "seconds" in before else row
        for name, row in before.get("scenes", {}).items()
        if name not in rows
    }
    facts = measuring.in_fresh_process(measuring.describe_machine)
    for row in rows.values():
        row.update(seconds=asked.seconds)
        row.update({name: facts[name] for name in ("device", "cores", "versions")})
    measuring.write("nerf_scenes", {"scenes": dict(sorted({**kept, **rows}.items()))})


def _train(asked: argparse.Namespace, path: Path) -> dict[str, Any]:
    from training import nerf_job, nerf_options, run_folder
    from training.nerf_command import NerfCommand
    from training.run_folder import RunFolder

    folder = RunFolder(Path(asked.out) / path.name)
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
