"""One clip learned with several settings, from the same seeds, two runs at a time.

    python -m benchmarks.motion_choices --clip walk.csv --seeds 3 --name noise \\
        --choice own train.ppo.noise_steps=1 --choice shared train.ppo.noise_steps=5
    python -m benchmarks.motion_choices --clip walk.csv --name tasks \\
        --choice quick task=quick --choice agile task=agile

A choice is a name and settings as `hardlight motion --set` takes them, `task=` being its `--task`;
each is compared with the first, at equal control steps. Writes
results/motion_choices_NAME_BACKEND.json.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import math
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import measuring

TARGETS = (0.7, 0.95)
"""Shares of starts."""
STEPS = 1_536_000
"""Control steps of a run."""
Choices = dict[str, tuple[str, ...]]
"""Settings by the name of the choice."""


def main() -> None:
    """Runs every choice with every seed and writes what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--robot", default="g1")
    parser.add_argument("--clip", required=True, help="a file or builtin:NAME")
    parser.add_argument(
        "--choice", nargs="+", action="append", required=True, metavar=("NAME", "SETTING=VALUE")
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--control-steps", type=int, default=STEPS, help="of each run")
    parser.add_argument("--name", required=True)
    asked = parser.parse_args()
    choices = {name: tuple(settings) for name, *settings in asked.choice}
    if len(choices) < len(asked.choice):
        parser.error("every choice needs a name of its own")
    seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
    found = compare(asked.robot, asked.clip, choices, seeds, asked.control_steps)
    measuring.write(f"motion_choices_{asked.name}", found)


def compare(
    robot: str, clip: str, choices: Choices, seeds: Sequence[int], control_steps: int
) -> dict[str, Any]:
    """Learns with every choice and seed; curves, spreads, and paired verdicts.

    Args:
      control_steps: of each run, rounded up to whole iterations.
    """
    from training.compare_statistics import crossing, spread

    calls = [
        functools.partial(learn, robot, clip, choices[name], seed, control_steps)
        for seed, name in itertools.product(seeds, choices)
    ]
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(measuring.in_fresh_process, calls))
    rows = {}
    for place, name in enumerate(choices):
        done = runs[place :: len(choices)]
        curves = [run["curve"] for run in done]
        rows[name] = {
            "settings": choices[name],
            "survived": spread([curve[-1][2] for curve in curves])._asdict(),
            "curves": curves,
            "survival_seconds": [run["survival_seconds"] for run in done],
            "joint_error": spread([run["joint_error"] for run in done])._asdict(),
            "mpjpe_root_relative": spread([run["mpjpe_root_relative"] for run in done])._asdict(),
            "env_steps_per_second": spread([run["env_steps_per_second"] for run in done])._asdict(),
            "reached": {
                f"{target:g}": [crossing(curve, target, axis=0) for curve in curves]
                for target in TARGETS
            },
        }
    return {
        "robot": robot,
        "clip": Path(clip).stem,
        "control_steps": control_steps,
        "seeds": len(seeds),
        "first_seed": seeds[0],
        "rows": rows,
        "verdicts": verdicts(rows),
    }


def verdicts(rows: dict[str, Any]) -> list[str]:
    """Paired verdicts against the first choice, over the run and at its end."""
    from training.compare_statistics import judge, mean_height, sentence

    base, *others = rows
    end = min(curve[-1][0] for row in rows.values() for curve in row["curves"])
    said = []
    for other in others:
        for what, value in (
            (
                f"mean surviving starts over the first {end:,} control steps",
                lambda curve: mean_height(curve, end=end),
            ),
            ("surviving starts at the end", lambda curve: curve[-1][2]),
        ):
            pairs = [[value(curve) for curve in rows[name]["curves"]] for name in (other, base)]
            verdict = judge(*pairs)
            said.append(sentence(other, base, verdict, what, unit="percentage points", scale=100.0))
    return said


def learn(
    robot: str, clip: str, settings: tuple[str, ...], seed: int, control_steps: int
) -> dict[str, Any]:
    """One training run; `survival_seconds` after so many control steps are means over starts."""
    from training import motion_job, motion_options
    from training.motion_command import MotionCommand

    tasks = [text.removeprefix("task=") for text in settings if text.startswith("task=")]
    settings = tuple(text for text in settings if not text.startswith("task="))
    command = MotionCommand(
        robot=robot,
        clip=(clip,),
        task=tasks[-1] if tasks else "quick",  # pyright: ignore[reportArgumentType]
        seed=seed,
        set_=("loop.evaluate_every=10", "loop.video_frames=0", *settings),
    )
    with tempfile.TemporaryDirectory() as folder:
        job = motion_options.build(command)
        iterations = math.ceil(control_steps / (job.num_envs * job.train.num_steps))
        loop = dataclasses.replace(job.loop, num_iterations=iterations, seconds=None)
        job = dataclasses.replace(job, loop=loop)
        path = Path(folder) / "run"
        summary = motion_job.start(job, out=str(path))
        lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    survived = [
        [line["env_steps"], line["survival_seconds"]]
        for line in lines
        if line["kind"] == "evaluation"
    ]
    kept = ("curve", "env_steps_per_second", "train_seconds")
    final = ("joint_error", "mpjpe_root_relative")
    return {
        **{name: summary[name] for name in kept},
        **{name: summary["final"][name] for name in final},
        "survival_seconds": survived,
    }


if __name__ == "__main__":
    main()
