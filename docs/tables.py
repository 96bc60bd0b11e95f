"""Writes the tables of the documents from what they describe, between pairs of marker comments.

    python docs/tables.py            rewrite
    python docs/tables.py --check    fail when a document is not what the sources say

A table named NAME stands between `<!-- table:NAME -->` and `<!-- end -->`. Numbers come from
benchmarks/results, the list of samplers from their registry; nothing is typed by hand.
"""

import json
import re
import sys
from pathlib import Path

from samplers import ENTRIES

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENTS = ("README.md", "docs/results.md", "docs/samplers.md")


def samplers_table() -> str:
    """Lists the registry: name, job, purpose, whether the loss stays unbiased, source."""
    lines = ["| name | chooses | what it does | unbiased | source |", "|---|---|---|---|---|"]
    for name, entry in ENTRIES.items():
        unbiased = "yes" if entry.is_unbiased else "no"
        lines.append(f"| `{name}` | {entry.kind} | {entry.summary} | {unbiased} | {entry.source} |")
    return "\n".join(lines)


def nerf_step_table() -> str:
    """Where the time of a train step goes."""
    found = read("nerf_throughput_cpu")
    rows = [
        [name, f"{ms:.1f}", f"{100 * found['parts_share'][name]:.0f} %"]
        for name, ms in found["parts_milliseconds"].items()
    ]
    total = f"**{found['train']['milliseconds_per_step']:.1f}**"
    return _table(["part", "ms", "share"], [*rows, ["step", total, ""]])


def nerf_cost_table() -> str:
    """Rates, start and memory of the radiance-field job."""
    found = read("nerf_throughput_cpu")
    train, image = found["train"], found["image"]
    cold, second = found["first_start"], found["second_start"]
    rows = [
        ["training", f"{train['rays_per_second'] / 1e3:.0f} k rays/s"],
        ["", f"{train['samples_per_second'] / 1e6:.2f} M samples/s"],
        [f"rendering {image['cols']} x {image['rows']}", f"{image['seconds']:.1f} s"],
        ["peak memory", f"{found['peak_memory_mb'] / 1e3:.1f} GB"],
        ["first step after, nothing compiled yet", f"{cold['first_step_seconds']:.0f} s"],
        ["of which compiling", f"{cold['compile_seconds']:.0f} s"],
        ["first step after, second start", f"{second['first_step_seconds']:.1f} s"],
    ]
    shares = found["sampler_share"]
    rows += [[f"`{name}` in a step", f"{100 * share:.1f} %"] for name, share in shares.items()]
    return _table(["", ""], rows)


def nerf_peer_table() -> str:
    """The same training by PyTorch."""
    found = read("nerf_peer_cpu")
    rows = [
        [
            str(ours["steps"]),
            f"{ours['seconds']:.0f}",
            f"{theirs['seconds']:.0f}",
            f"{ours['psnr']:.2f}",
            f"{theirs['psnr']:.2f}",
        ]
        for ours, theirs in zip(found["ours"]["curve"], found["peer"]["curve"], strict=True)
    ]
    rates = found["ratios"]["rays_per_second"]
    table = _table(["steps", "s, ours", "s, PyTorch", "dB, ours", "dB, PyTorch"], rows)
    return (
        f"{table}\n\nRays per second: {rates['ours']:.0f} against {rates['peer']:.0f}, "
        f"{found['ratios']['speedup_per_ray']:.1f} times."
    )


def nerf_quality_table() -> str:
    """What a given time of training reaches."""
    rows = []
    for part, unit in (("small", "cpu_seconds"), ("lego", "seconds")):
        path = RESULTS / f"nerf_{part}_cpu.json"
        for run in json.loads(path.read_text())["runs"] if path.exists() else []:
            scene = run.get("scene", "Blender lego, 400 x 400")
            last = run["curve"][-1]
            asked = f"{run[f'asked_{unit}']:.0f} {unit.replace('_', ' ').replace('cpu', 'CPU')}"
            rows.append(
                [scene, asked, str(run["steps"]), f"{last['psnr']:.2f}", f"{last['ssim']:.3f}"]
            )
    return _table(["scene", "training", "steps", "PSNR (dB)", "SSIM"], rows)


def sampler_speed_table() -> str:
    """Draw and update against peers; wrong ones are marked."""
    found = read("samplers_cpu")
    drift = {name: error for name, error in found["drift_of_total"].items() if error > 1e-5}
    sizes = sorted({row["log2_items"] for row in found["rows"]})
    tables = []
    for batch in sorted({row["batch"] for row in found["rows"]}):
        rows = []
        for name in dict.fromkeys(row["sampler"] for row in found["rows"]):
            cells = []
            for size in sizes:
                case = [
                    row
                    for row in found["rows"]
                    if (row["sampler"], row["log2_items"], row["batch"]) == (name, size, batch)
                ]
                cells.append(_speed_cell(case[0]) if case else "")
            rows.append([name, *cells, _faults(name, drift)])
        head = [f"batch {batch}", *(f"2^{size}" for size in sizes), "total"]
        tables.append(_table(head, rows))
    return "\n\n".join(tables)


def _speed_cell(row: dict) -> str:
    mark = "" if row["draws_are_correct"] else " **wrong**"
    return f"{_short(row['draw_milliseconds'])} + {_short(row['update_milliseconds'])}{mark}"


def _faults(name: str, drift: dict[str, float]) -> str:
    return f"off by {100 * drift[name]:.0f} %" if name in drift else ""


def nerf_scenes_table() -> str:
    """What a short run reaches on captures of every kind."""
    rows = []
    for name, run in read("nerf_scenes_cpu")["scenes"].items():
        size = f"{run['views']} of {run['cols']} x {run['rows']}"
        error = f"{run['depth_rmse']:.2f}" if "depth_rmse" in run else ""
        quality = [f"{run['psnr']:.2f}", f"{run['ssim']:.3f}", error]
        steps = [str(run["steps"]), f"{run['train_seconds']:.0f}"]
        rows.append([name, run["kind"].replace("_", " "), size, *steps, *quality])
    head = ["scene", "kind", "views", "steps", "s", "PSNR (dB)", "SSIM", "depth error"]
    return _table(head, rows)


def nerf_samplers_table() -> str:
    """Ways to choose pixels, paired seeds."""
    return _compared(
        "nerf_samplers_cpu",
        {
            "final": ("PSNR at equal steps (dB)", 2),
            "at_equal_seconds": ("at equal time (dB)", 2),
            "area": ("mean on the way (dB)", 2),
            "seen": ("pixels seen", 2),
            "entropy": ("entropy of draws", 3),
            "worst_percent": ("error in the worst 1 %", 2),
            "train_seconds": ("s of training", 0),
        },
    )


def _compared(name: str, columns: dict[str, tuple[str, int]]) -> str:
    """Samplers by data set, and the verdicts that are clear."""
    rows, clear = [], []
    for data, found in read(name)["data"].items():
        for sampler, values in found["samplers"].items():
            cells = [_spread(values[key], digits) for key, (_, digits) in columns.items()]
            rows.append([data, f"`{sampler}`", *cells])
        clear += [
            f"* {data}: {verdict['sentence']}"
            for verdict in found["verdicts"]
            if verdict["outcome"] in ("better", "worse")
        ]
    head = ["data", "sampler", *(title for title, _ in columns.values())]
    return "\n".join([_table(head, rows), "", *(clear or ["No verdict is beyond chance."])])


def nerf_depth_table() -> str:
    """Presets of depth guidance on an RGB-D scan."""
    rows = []
    for views, presets in read("nerf_depth_cpu")["held_out"].items():
        for name, found in presets.items():
            gains = found["psnr"]["paired_gain_over_plain"]
            rows.append(
                [
                    views,
                    f"`{name}`",
                    f"{found['psnr']['mean']:.2f}",
                    ", ".join(f"{gain:+.2f}" for gain in gains) if any(gains) else "",
                    f"{found['ssim']['mean']:.3f}",
                    f"{found['depth_rmse']['mean']:.2f}",
                ]
            )
    head = ["training", "`--depth`", "PSNR (dB)", "gain per seed", "SSIM", "depth error (m)"]
    return _table(head, rows)


def motion_humanoid_table() -> str:
    """What the built-in humanoid learns without flags."""
    return _learned(read("motion_humanoid_cpu"))


def motion_squat_table() -> str:
    """How many starts of the squat the policy survives, over the run."""
    return _learned(read("motion_squat_cpu"))


def _learned(found: dict) -> str:
    """Surviving starts over a motion run, and how close the policy stays to its clips."""
    rows = [
        [f"{steps}", f"{seconds:.0f}", f"{100 * share:.0f} %"]
        for steps, seconds, share in found["curve"]
    ]
    table = _table(["control steps", "s of training", "starts that survive 2 s"], rows)
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
        f"{table}\n\n{_table(head, clips)}\n\n"
        "Body errors are in the world and relative to the root. "
        f"{found['env_steps_per_second']:.0f} control steps per second, learning included; "
        f"{found['cpu_seconds']:.0f} CPU-seconds in all."
    )


def voxels_table() -> str:
    """Times of the block renderer and its peers."""
    found = read("voxels_cpu")
    soft, hard, large = found["soft"], found["hard"], found["large"]

    def pair(part: dict, name: str) -> list[str]:
        return [f"{part[f'{name}_forward_ms']:.0f}", f"{part[f'{name}_forward_backward_ms']:.0f}"]

    rows = [
        ["soft 64 x 48 x 64 at 256 x 256", *(f"{soft[key]:.0f}" for key in _SOFT)],
        ["same, naive half-voxel march in JAX", *pair(soft, "naive")],
        ["same, numba, forward only", f"{soft['numba_forward_ms']:.0f}", ""],
        ["hard at 512 x 512", *pair(hard, "hard")],
        ["same, first hit only", f"{hard['first_hit_ms']:.0f}", ""],
        ["same, Embree's first hit", f"{hard['embree_first_hit_ms']:.0f}", ""],
        ["hard 256 x 256 x 256 at 512 x 512", *pair(large, "hard")],
    ]
    peak = f"Peak memory of the last row: {large['peak_memory_gb']:.1f} GB."
    return f"{_table(['', 'forward (ms)', 'with gradient (ms)'], rows)}\n\n{peak}"


_SOFT = ("forward_ms", "forward_backward_ms")


def motion_testbed_table() -> str:
    """Cost of every motion sampler over the best one, per scenario of the synthetic learner."""
    scenarios = read("motion_testbed_cpu")["scenarios"]
    names = list(next(iter(scenarios.values())))
    rows = []
    for scenario, found in scenarios.items():
        best = min(row["cost"] for row in found.values())
        rows.append([scenario, *(f"{found[name]['cost'] / best:.2f}" for name in names)])
    return _table(["scenario", *(f"`{name}`" for name in names)], rows)


def image_fitting_table() -> str:
    """One picture fitted with every way to choose pixels, paired seeds."""
    pictures = read("image_fitting_cpu")["pictures"]
    rows, where, marks = [], [], []
    for picture, found in pictures.items():
        marks = list(found["seconds_of_uniform"])
        for name, values in found["samplers"].items():
            steps, seconds = values["at_steps"], values["at_seconds"]
            gains = [_gain(steps[marks[-1]]), _gain(seconds[marks[-1]])]
            rows.append(
                [
                    picture,
                    name,
                    *(_spread(steps[mark]) for mark in marks),
                    *(gains if name != "uniform" else ["", ""]),
                    f"{values['cpu_seconds']['mean']:.0f}",
                ]
            )
            errors = values["errors"]
            keys = ("psnr_flat", "psnr_fine", "median", "percentile_99", "worst")
            share = f"{100 * errors['share_of_worst_percent']:.0f} %"
            where.append([picture, name, *(f"{errors[key]:.1f}" for key in keys), share])
    thousands = [f"{int(mark) // 1000}k" for mark in marks]
    head = ["picture", "pixels by", *(f"PSNR at {mark}" for mark in thousands)]
    head += [f"gain at {thousands[-1]}", "gain at equal seconds", "CPU s"]
    head_where = ["picture", "pixels by", "PSNR, flat half", "PSNR, fine half", "median error"]
    head_where += ["99th percentile", "worst", "share of worst 1 %"]
    return f"{_table(head, rows)}\n\n{_table(head_where, where)}"


def _gain(value: dict) -> str:
    """A paired gain in dB; in bold when the 95 % interval leaves out zero."""
    text = f"{value['gain']:+.2f}"
    return f"**{text}**" if value["outcome"] in ("better", "worse") else text


def long_runs_table() -> str:
    """Memory, compilations, sums and logs of long runs."""
    found = read("long_runs_cpu")
    rows = []
    for name in ("error_weighted", "failure_bins"):
        run = found[name]
        error = run[
            "largest_error_of_root" if name == "error_weighted" else "largest_error_of_counts"
        ]
        rows.append(
            [
                f"`{name}`, {run['updates']} updates",
                str(run["programs"] + run["compiled_after_first_call"]),
                f"{run['memory']['last'] / 2**20:.0f}",
                f"{run['memory']['growth'] / 2**20:+.2f} ± {run['memory']['scatter'] / 2**20:.2f}",
                f"{run['memory']['slope']:+.1f}",
                f"{error:.1e}",
            ]
        )
    run = found["nerf"]
    rows.append(
        [
            f"`hardlight nerf`, {run['steps']} steps in {run['minutes']:.0f} min",
            f"{run['compiled']}, {run['compiled_after_warm_up']} after the warm-up",
            f"{run['memory']['last'] / 2**20:.0f}",
            f"{run['memory']['growth'] / 2**20:+.2f} ± {run['memory']['scatter'] / 2**20:.2f}",
            f"{run['memory']['growth'] / (0.8 * run['steps']):+.1f}",
            "",
        ]
    )
    head = [
        "run",
        "programs compiled",
        "memory (MB)",
        "its trend (MB)",
        "bytes per step",
        "error of sums",
    ]
    sizes = run["bytes"]
    return (
        f"{_table(head, rows)}\n\nLogs of the last row: metrics.jsonl "
        f"{sizes['metrics_jsonl'] / 2**20:.2f} MB and TensorBoard events "
        f"{sizes['events'] / 2**20:.2f} MB for {run['rows']} rows, "
        f"{run['bytes_of_metrics_per_row']:.0f} and {run['bytes_of_events_per_row']:.0f} bytes "
        "each; "
        f"{sizes['num_checkpoints']} checkpoints of {sizes['checkpoints'] / 2**20:.1f} MB together."
    )


def _spread(entry: dict, digits: int = 2) -> str:
    """A mean and its deviation over seeds."""
    if entry["mean"] is None:
        return ""
    if entry["deviation"] is None:
        return f"{entry['mean']:.{digits}f}"
    return f"{entry['mean']:.{digits}f} ± {entry['deviation']:.{digits}f}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


TABLES = {
    "samplers": samplers_table,
    "nerf_step": nerf_step_table,
    "nerf_cost": nerf_cost_table,
    "nerf_peer": nerf_peer_table,
    "nerf_quality": nerf_quality_table,
    "sampler_speed": sampler_speed_table,
    "nerf_scenes": nerf_scenes_table,
    "nerf_samplers": nerf_samplers_table,
    "nerf_depth": nerf_depth_table,
    "motion_humanoid": motion_humanoid_table,
    "motion_squat": motion_squat_table,
    "motion_testbed": motion_testbed_table,
    "voxels": voxels_table,
    "image_fitting": image_fitting_table,
    "long_runs": long_runs_table,
}


def rewritten(text: str) -> str:
    """Replaces the body of every marked table."""

    def body(match: re.Match[str]) -> str:
        try:
            table = TABLES[match[1]]()
        except FileNotFoundError as error:
            table = f"Not measured yet: no {Path(error.filename).name}."
        return f"<!-- table:{match[1]} -->\n{table}\n<!-- end -->"

    return re.sub(r"<!-- table:(\w+) -->.*?<!-- end -->", body, text, flags=re.DOTALL)


def read(name: str) -> dict:
    """Reads one results file."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def main() -> int:
    """Rewrites the documents, or says which ones are stale."""
    stale = []
    for name in DOCUMENTS:
        path = ROOT / name
        if not path.exists():
            continue
        before = path.read_text()
        after = rewritten(before)
        if after != before:
            stale.append(name)
            if "--check" not in sys.argv[1:]:
                path.write_text(after)
    if stale:
        print("rewritten:" if "--check" not in sys.argv[1:] else "stale:", ", ".join(stale))
    return 1 if stale and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
