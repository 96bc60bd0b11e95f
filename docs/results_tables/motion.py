"""Tables of the motion job."""

import math
import statistics

from . import cells


def motion_humanoid_table() -> str:
    """What the built-in humanoid learns without flags."""
    return _learned(cells.read("motion_humanoid_cpu"))


def motion_squat_table() -> str:
    """How many starts of the squat the policy survives, over the run."""
    return _learned(cells.read("motion_squat_cpu"))


def motion_walk_table() -> str:
    """The same for a walk made for the real robot."""
    return _learned(cells.read("motion_walk_cpu"))


def motion_jump_table() -> str:
    """The same for a jump with half a turn."""
    return _learned(cells.read("motion_jump_cpu"))


def _learned(found: dict) -> str:
    """Surviving starts over a motion run, and how close the policy stays to its clips."""
    curve = found["curve"]
    thinned = [*curve[: -1 : max(1, math.ceil(len(curve) / 15))], curve[-1]]
    rows = [
        [f"{steps}", f"{seconds:.0f}", f"{100 * share:.0f} %"] for steps, seconds, share in thinned
    ]
    table = cells.table(["control steps", "s of training", "starts that survive 2 s"], rows)
    clips = [
        [
            clip["name"],
            f"{100 * clip['starts_survived']:.0f} %",
            f"{100 * clip['completed_share']:.0f} %",
            f"{100 * clip['mpjpe_global']:.1f} / {100 * clip['mpjpe_root_relative']:.1f}",
            f"{clip['joint_error']:.3f}",
        ]
        for clip in found["final"]["clips"]
    ]
    head = ["clip", "starts survived", "played from the start", "body error (cm)", "joints (rad)"]
    return (
        f"{table}\n\n{cells.table(head, clips)}\n\n"
        "Body errors are in the world and relative to the root. "
        f"{found['env_steps_per_second']:.0f} control steps per second, learning included; "
        f"{found['cpu_seconds']:.0f} CPU-seconds in all."
    )


def motion_cost_table() -> str:
    """Control steps per second of the environment and of bare physics, per number of copies."""
    found = cells.read("motion_cpu")
    rows = [
        [
            robot,
            copies,
            f"{row['env']:.0f}",
            f"{row['bare']:.0f}",
            f"{100 * row['overhead']:.0f} %",
        ]
        for robot, table in found["steps c"].items()
        for copies, row in table.items()
    ]
    return cells.table(["robot", "copies", "environment", "bare engine", "extra time"], rows)


def motion_parts_table() -> str:
    """Where the time of an iteration goes, on the C engine."""
    rows, parts = [], []
    for setting, table in cells.read("motion_cpu").items():
        if not setting.startswith("train c, "):
            continue
        for robot, found in table.items():
            parts = [name for name in found if name not in _OF_THE_WHOLE]
            shares = [f"{100 * found[part] / sum(found[p] for p in parts):.0f} %" for part in parts]
            rows.append(
                [
                    robot,
                    setting.removeprefix("train c, "),
                    f"{1000 * found['iteration']:.0f}",
                    *shares,
                    f"{found['control steps per second']:.0f}",
                    f"{found['first iteration']:.0f}",
                ]
            )
    head = ["robot", "", "iteration (ms)", *parts, "control steps per second", "first one (s)"]
    return cells.table(head, rows)


_OF_THE_WHOLE = ("iteration", "control steps per second", "first iteration")


def motion_mjx_table() -> str:
    """The same on MJX, beside a public environment on it."""
    found = cells.read("motion_cpu")
    kinds = {"light humanoid, this environment": found["steps mjx"]["humanoid"]}
    kinds["brax's humanoid, its environment"] = found["peer brax humanoid mjx"]
    rows = [
        [
            kind,
            copies,
            f"{row['env']:.0f}",
            f"{row['bare']:.0f}",
            f"{100 * row['overhead']:.0f} %",
            f"{row['compile']:.0f}",
        ]
        for kind, table in kinds.items()
        for copies, row in table.items()
    ]
    head = ["", "copies", "environment", "bare `mjx.step`", "extra time", "compiling (s)"]
    return cells.table(head, rows)


def motion_samplers_table() -> str:
    """Where episodes start, paired seeds on a clip with one hard second."""
    return _compared("motion_samplers_cpu")


def motion_mixed_table() -> str:
    """The same on five clips, of which one is hard."""
    return _compared("motion_mixed_cpu")


def _compared(name: str) -> str:
    rows = []
    results = cells.read(name)
    for data, found in results["data"].items():
        label = f"{data}, {results['configs'][data]['base']['loop']['num_iterations']} iterations"
        for sampler, values in found["samplers"].items():
            row = [
                cells.spread(values[key], digits)
                for key, digits in (("final", 2), ("area", 3), ("steps_to_target", 0))
            ]
            rows.append([label, f"`{sampler}`", *row])
            label = ""
    head = ["clip", "sampler", "starts survived", "mean on the way", "control steps to the target"]
    said = [v["sentence"] for found in results["data"].values() for v in found["verdicts"]]
    return "\n".join([cells.table(head, rows), "", *(f"* {sentence}" for sentence in said)])


def motion_replay_table() -> str:
    """What an action of 0 survives, around angles and around torques."""
    rows = [
        [
            row["robot"],
            row["clip"].removeprefix("builtin:"),
            *(
                f"{100 * row[centre]['survived']:.0f} %, {row[centre]['seconds']:.2f} s"
                for centre in ("reference", "feedforward")
            ),
            f"{100 * row['missing']['mean']:.0f} % ({100 * row['missing']['largest']:.0f} %)",
            f"{100 * row['missing_as_read']['mean']:.0f} %",
        ]
        for row in cells.read("motion_feedforward_cpu")["replay"]["rows"]
    ]
    head = [
        "robot",
        "clip",
        "around its angles",
        "around its torques",
        "force missing, mean (largest)",
        "floor not made level",
    ]
    return cells.table(head, rows)


def motion_feedforward_table() -> str:
    """A walk learned with actions around angles and around torques, paired seeds."""
    return _chosen(cells.read("motion_feedforward_cpu")["train"], "actions are added to")


def motion_tasks_table() -> str:
    """The same walk learned with two tasks of the command line."""
    return _chosen(cells.read("motion_choices_tasks_cpu"), "task")


def motion_jump_samplers_table() -> str:
    """The jump learned with two ways to choose starts, from seeds on which nothing was tuned."""
    found = cells.read("motion_choices_jump_cpu")
    rows = []
    for name, row in found["rows"].items():
        for place, curve in enumerate(row["curves"]):
            late = [100 * point[2] for point in curve[-15:]]
            rows.append(
                [
                    f"`{name}`",
                    str(found["first_seed"] + place),
                    _steps([row["reached"]["0.7"][place]]),
                    f"{100 * curve[-1][2]:.0f} %",
                    f"{statistics.mean(late):.0f} % ({min(late):.0f} to {max(late):.0f} %)",
                ]
            )
    head = ["starts", "seed", "control steps until 70 % survive", "at the end"]
    said = [f"* {sentence}" for sentence in found["verdicts"]]
    return "\n".join([cells.table([*head, "last 15 evaluations"], rows), "", *said])


def _chosen(found: dict, what: str) -> str:
    """One clip learned with several settings, and what the paired verdicts say."""
    rows = [
        [
            f"`{name}`",
            *(_steps(row["reached"][target]) for target in ("0.7", "0.95")),
            cells.spread(row["survived"]),
            cells.spread(row["joint_error"], 3),
        ]
        for name, row in found["rows"].items()
    ]
    head = [
        what,
        "control steps until 70 % survive",
        "until 95 %",
        "starts survived at the end",
        "joints (rad)",
    ]
    said = [f"* {sentence}" for sentence in found["verdicts"]]
    return "\n".join([cells.table(head, rows), "", *said])


def _steps(reached: list) -> str:
    return ", ".join("never" if value is None else f"{value / 1e6:.2f} M" for value in reached)


def motion_testbed_table() -> str:
    """Cost of every motion sampler over the best one, per scenario of the synthetic learner."""
    scenarios = cells.read("motion_testbed_cpu")["scenarios"]
    names = list(next(iter(scenarios.values())))
    rows = []
    for scenario, found in scenarios.items():
        best = min(row["cost"] for row in found.values())
        rows.append([scenario, *(f"{found[name]['cost'] / best:.2f}" for name in names)])
    return cells.table(["scenario", *(f"`{name}`" for name in names)], rows)


TABLES = {
    "motion_humanoid": motion_humanoid_table,
    "motion_squat": motion_squat_table,
    "motion_walk": motion_walk_table,
    "motion_jump": motion_jump_table,
    "motion_jump_samplers": motion_jump_samplers_table,
    "motion_cost": motion_cost_table,
    "motion_parts": motion_parts_table,
    "motion_mjx": motion_mjx_table,
    "motion_samplers": motion_samplers_table,
    "motion_mixed": motion_mixed_table,
    "motion_replay": motion_replay_table,
    "motion_feedforward": motion_feedforward_table,
    "motion_tasks": motion_tasks_table,
    "motion_testbed": motion_testbed_table,
}
