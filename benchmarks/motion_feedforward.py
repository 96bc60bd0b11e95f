"""Actions around the clip's torques against actions around its angles, with and without learning.

    python -m benchmarks.motion_feedforward --folder motion/ --part replay
    python -m benchmarks.motion_feedforward --folder motion/ --part train --seeds 3

`replay` holds the policy still: what an action of 0 alone survives, on built-in clips and on those
of the folder (g1_kimodo, g1_asap), and how much force a clip asks for that nothing supplies.
`train` learns a real walk with both centres, paired seeds, two runs at a time. Writes
results/motion_feedforward_BACKEND.json; the part that was not asked for stays as it is.
"""

import argparse
import functools
from pathlib import Path
from typing import Any

from benchmarks import measuring, motion_choices

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
_SECONDS = 2.0
_STARTS = 64


def main() -> None:
    """Measures one part and writes it beside the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True, help="folder of motions")
    parser.add_argument("--part", choices=("replay", "train"), required=True)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    folder = Path(asked.folder)
    if asked.part == "replay":
        part = _replay(folder)
    else:
        choices = {centre: (f"env.action_centre={centre}",) for centre in CENTRES}
        clip = str(folder / WALK)
        part = motion_choices.compare("g1", clip, choices, range(asked.seeds), motion_choices.STEPS)
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
    from training import motion_setup, motion_tasks
    from training.motion_config import MotionSource

    loaded = motion_setup.load(MotionSource(robot=robot, clips=(clip,)))
    bank = inverse_dynamics.with_targets(loaded.robot, loaded.bank, loaded.clips)
    rate = loaded.robot.control_rate
    horizon = round(_SECONDS * rate)
    starts = evaluation.survival_starts(bank, _STARTS, horizon)
    found: dict[str, Any] = {}
    for centre in CENTRES:
        task = dataclasses.replace(motion_tasks.quick(False).env, action_centre=centre).calm()
        env = make_env(loaded.robot, task, num_envs=_STARTS)
        still = evaluation.Evaluator(env, evaluation.nothing(env))
        numbers = evaluation.summarise(still.play(bank, None, starts, horizon)[0], rate)
        found[centre] = {"survived": numbers["success"], "seconds": numbers["survival_seconds"]}
    found["missing"] = missing(robot, clip, True)
    found["missing_as_read"] = missing(robot, clip, False)
    return found


if __name__ == "__main__":
    main()
