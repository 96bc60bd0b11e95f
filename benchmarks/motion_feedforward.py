"""Actions around the clip's torques against actions around its angles, with and without learning.

    python -m benchmarks.motion_feedforward --folder motion/ --part replay
    python -m benchmarks.motion_feedforward --folder motion/ --part train --seeds 3 --steps 250

`replay` holds the policy still: what an action of 0 alone survives, on built-in clips and on those
of the folder (g1_kimodo, g1_asap), and how much force a clip asks for that nothing supplies.
`train` learns a real walk with both centres, paired seeds, two runs at a time. Writes
results/motion_feedforward_BACKEND.json; the part that was not asked for stays as it is.
"""

import argparse
import functools
import itertools
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import measuring

CENTRES = ("reference", "feedforward")
CLIPS = (
    ("humanoid", "builtin:squat"),
    ("humanoid", "builtin:step"),
    ("humanoid", "builtin:jump"),
    ("g1", "builtin:squat"),
    ("g1", "g1_kimodo/output_walk.csv"),
    ("g1", "g1_kimodo/output_dance.csv"),
    ("g1", "g1_kimodo/output_jumpjack.csv"),
    ("g1", "g1_asap/walk_level1.npz"),
    ("g1", "g1_asap/CR7_level1.npz"),
)
WALK = "g1_kimodo/output_walk.csv"
TARGETS = (0.7, 0.95)
_SECONDS = 2.0
_STARTS = 64


def main() -> None:
    """Measures one part and writes it beside the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True, help="folder of motions")
    parser.add_argument("--part", choices=("replay", "train"), required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=250, help="iterations of each run")
    asked = parser.parse_args()
    folder = Path(asked.folder)
    part = _replay(folder) if asked.part == "replay" else _train(folder, asked.seeds, asked.steps)
    kept = measuring.stored("motion_feedforward")
    kept = {name: kept[name] for name in ("replay", "train") if name in kept}
    facts = measuring.in_fresh_process(measuring.describe_machine)
    part |= {fact: facts[fact] for fact in ("device", "cores", "versions")}
    measuring.write("motion_feedforward", kept | {asked.part: part})


def _replay(folder: Path) -> dict[str, Any]:
    rows = []
    for robot, clip in CLIPS:
        path = clip if clip.startswith("builtin:") else str(folder / clip)
        call = functools.partial(replay, robot, path)
        rows.append({"robot": robot, "clip": Path(clip).stem, **measuring.in_fresh_process(call)})
    return {"starts": _STARTS, "seconds": _SECONDS, "rows": rows}


def missing(robot: str, clip: str, is_levelled: bool) -> dict[str, float]:
    """Force that neither motors nor floor supply, as a share of the weight."""
    import mujoco
    import numpy as np

    from motion import inverse_dynamics
    from motion.formats.clip_files import ReadOptions
    from training import motion_setup
    from training.motion_config import MotionSource

    read = ReadOptions(is_levelled=is_levelled)
    loaded = motion_setup.load(MotionSource(robot=robot, clips=(clip,), read=read))
    forces = inverse_dynamics.clip_forces(loaded.robot, loaded.clips[0]).missing[:, :3]
    weight = 9.81 * mujoco.mj_getTotalmass(loaded.robot.model)
    shares = np.linalg.norm(forces, axis=1) / weight
    return {"mean": float(shares.mean()), "largest": float(shares.max())}


def replay(robot: str, clip: str) -> dict[str, Any]:
    """What no action at all survives with each centre."""
    import dataclasses

    from motion import evaluation, inverse_dynamics
    from motion.env import make_env
    from training import motion_options, motion_setup
    from training.motion_config import MotionSource

    loaded = motion_setup.load(MotionSource(robot=robot, clips=(clip,)))
    bank = inverse_dynamics.with_targets(loaded.robot, loaded.bank, loaded.clips)
    rate = loaded.robot.control_rate
    horizon = round(_SECONDS * rate)
    starts = evaluation.survival_starts(bank, _STARTS, horizon)
    found: dict[str, Any] = {}
    for centre in CENTRES:
        task = dataclasses.replace(motion_options.quick_task(), action_centre=centre).calm()
        env = make_env(loaded.robot, task, num_envs=_STARTS)
        still = evaluation.Evaluator(env, evaluation.nothing(env))
        numbers = evaluation.summarise(still.play(bank, None, starts, horizon)[0], rate)
        found[centre] = {"survived": numbers["success"], "seconds": numbers["survival_seconds"]}
    found["missing"] = missing(robot, clip, True)
    found["missing_as_read"] = missing(robot, clip, False)
    return found


def _train(folder: Path, num_seeds: int, num_steps: int) -> dict[str, Any]:
    from training.compare_statistics import crossing, spread

    calls = [
        functools.partial(learn, str(folder / WALK), centre, seed, num_steps)
        for seed, centre in itertools.product(range(num_seeds), CENTRES)
    ]
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(measuring.in_fresh_process, calls))
    by_centre = {centre: runs[place :: len(CENTRES)] for place, centre in enumerate(CENTRES)}
    rows = {}
    for centre, done in by_centre.items():
        curves = [run["curve"] for run in done]
        rows[centre] = {
            "survived": spread([curve[-1][2] for curve in curves])._asdict(),
            "curves": curves,
            "joint_error": spread([run["joint_error"] for run in done])._asdict(),
            "mpjpe_root_relative": spread([run["mpjpe_root_relative"] for run in done])._asdict(),
            "env_steps_per_second": spread([run["env_steps_per_second"] for run in done])._asdict(),
            "reached": {
                f"{target:g}": [crossing(curve, target, axis=0) for curve in curves]
                for target in TARGETS
            },
        }
    return {
        "clip": Path(WALK).stem,
        "iterations": num_steps,
        "seeds": num_seeds,
        "rows": rows,
        "verdicts": verdicts(rows),
    }


def verdicts(rows: dict[str, Any]) -> list[str]:
    """Paired verdicts on what survives over the run and at its end."""
    from training.compare_statistics import judge, mean_height, sentence

    said = []
    end = rows[CENTRES[0]]["curves"][0][-1][0]
    for what, value in (
        (
            f"mean surviving starts over the first {end:,} control steps",
            lambda curve: mean_height(curve, end=end),
        ),
        ("surviving starts at the end", lambda curve: curve[-1][2]),
    ):
        pairs = [[value(c) for c in rows[centre]["curves"]] for centre in reversed(CENTRES)]
        verdict = judge(*pairs)
        said.append(
            sentence(*reversed(CENTRES), verdict, what, unit="percentage points", scale=100.0)
        )
    return said


def learn(clip: str, centre: str, seed: int, num_steps: int) -> dict[str, Any]:
    """One training run of the G1."""
    from training import motion_job, motion_options
    from training.motion_command import MotionCommand

    command = MotionCommand(
        robot="g1",
        clip=(clip,),
        steps=num_steps,
        seed=seed,
        set_=(
            f"env.action_centre={centre}",
            "loop.evaluate_every=10",
            "loop.video_frames=0",
        ),
    )
    with tempfile.TemporaryDirectory() as folder:
        job = motion_options.build(command)
        summary = motion_job.start(job, out=str(Path(folder) / "run"))
    kept = ("curve", "env_steps_per_second", "train_seconds")
    final = ("joint_error", "mpjpe_root_relative")
    return {name: summary[name] for name in kept} | {name: summary["final"][name] for name in final}


if __name__ == "__main__":
    main()
