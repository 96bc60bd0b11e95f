"""Tracking learned on this machine: what starts survive after how many control steps and seconds.

    python -m benchmarks.motion_training --part humanoid        hardlight motion, without flags
    python -m benchmarks.motion_training --part squat           the G1, a built-in squat
    python -m benchmarks.motion_training --part clip --clip walk.csv --seconds 600
    python -m benchmarks.motion_training --part squat --run runs/motion-g1-failure_bins

`--run` takes the numbers of a run that is already there. Writes results/motion_PART_BACKEND.json.
"""

import argparse
import functools
import re
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import measuring

PARTS = ("humanoid", "squat", "clip")


def train(flags: dict[str, Any]) -> dict[str, Any]:
    from training import motion_job, motion_options
    from training.motion_command import MotionCommand

    with tempfile.TemporaryDirectory() as folder:
        job = motion_options.build(MotionCommand(**flags))
        return motion_job.start(job, out=str(Path(folder) / "run"))


def brief(summary: dict[str, Any]) -> dict[str, Any]:
    """The part of a summary that belongs into a table, and when targets were reached."""
    kept = (
        "device",
        "versions",
        "robot",
        "data",
        "physics",
        "sampler",
        "seed",
        "env_steps",
        "train_seconds",
        "cpu_seconds",
        "compile_seconds",
        "env_steps_per_second",
        "final",
        "curve",
    )
    values = {name: summary[name] for name in kept}
    values["data"] = re.sub(r"[^ ,]*/", "", values["data"])  # where clips lie is no result
    for target in (0.7, 0.95):
        first = next((point for point in summary["curve"] if point[2] >= target), None)
        values[f"first_at_{target:g}"] = (
            None if first is None else {"env_steps": first[0], "train_seconds": first[1]}
        )
    return values


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--clip")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--run")
    parser.add_argument("--name")
    given = parser.parse_args()
    if given.run:
        import json

        summary = json.loads((Path(given.run) / "summary.json").read_text())
    else:
        flags: dict[str, Any] = {"seconds": given.seconds}
        if given.part != "humanoid":
            flags |= {"robot": "g1", "clip": (given.clip or "builtin:squat",)}
        summary = measuring.in_fresh_process(functools.partial(train, flags))
    measuring.write(given.name or f"motion_{given.part}", brief(summary))


if __name__ == "__main__":
    main()
