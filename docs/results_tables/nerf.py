"""Tables of the radiance-field job."""

import statistics
from typing import Any

from . import cells


def nerf_step_table() -> str:
    """Where the time of a train step goes."""
    found = cells.read("nerf_throughput_cpu")
    rows = [
        [name, f"{ms:.1f}", f"{100 * found['parts_share'][name]:.0f} %"]
        for name, ms in found["parts_milliseconds"].items()
    ]
    total = f"**{found['train']['milliseconds_per_step']:.1f}**"
    return cells.table(["part", "ms", "share"], [*rows, ["step", total, ""]])


def nerf_cost_table() -> str:
    """Rates, start and memory of the radiance-field job."""
    found = cells.read("nerf_throughput_cpu")
    train, image = found["train"], found["image"]
    rows = [
        ["training", f"{train['rays_per_second'] / 1e3:.0f} k rays/s"],
        ["", f"{train['samples_per_second'] / 1e6:.2f} M samples/s"],
        [f"rendering {image['cols']} x {image['rows']}", f"{image['seconds']:.1f} s"],
        ["peak memory", f"{found['peak_memory_mb'] / 1e3:.1f} GB"],
        *_start_rows(),
    ]
    shares = found["sampler_share"]
    rows += [[f"`{name}` in a step", f"{100 * share:.1f} %"] for name, share in shares.items()]
    return cells.table(["", ""], rows)


def _start_rows() -> list[list[str]]:
    """Median and range over the starts."""
    found = cells.read("nerf_start_cpu")
    rows = []
    for label, starts, part in (
        ("first step after, nothing compiled yet", "first_starts", "first_step_seconds"),
        ("of which compiling", "first_starts", "compile_seconds"),
        ("first step after, second start", "second_starts", "first_step_seconds"),
    ):
        seconds = sorted(start[part] for start in found[starts])
        middle = statistics.median(seconds)
        rows.append([label, f"{middle:.1f} s ({seconds[0]:.1f} to {seconds[-1]:.1f})"])
    return rows


def nerf_peer_table() -> str:
    """The same training by PyTorch."""
    found = cells.read("nerf_peer_cpu")
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
    table = cells.table(["steps", "s, ours", "s, PyTorch", "dB, ours", "dB, PyTorch"], rows)
    return (
        f"{table}\n\nRays per second: {rates['ours']:.0f} against {rates['peer']:.0f}, "
        f"{found['ratios']['speedup_per_ray']:.1f} times."
    )


def nerf_quality_table() -> str:
    """What a given time of training reaches."""
    rows = []
    for run in cells.read("nerf_small_cpu")["runs"]:
        last = run["curve"][-1]
        asked = f"{run['asked_cpu_seconds']:.0f} CPU seconds"
        rows.append(
            [run["scene"], asked, str(run["steps"]), f"{last['psnr']:.2f}", f"{last['ssim']:.3f}"]
        )
    return cells.table(["scene", "training", "steps", "PSNR (dB)", "SSIM"], rows)


def nerf_scenes_table() -> str:
    """What a short run reaches on captures of every kind."""
    rows = []
    for name, runs in cells.read("nerf_scenes_cpu")["scenes"].items():
        for run in (runs[seconds] for seconds in sorted(runs, key=float)):
            size = f"{run['views']} of {run['cols']} x {run['rows']}"
            quality = [f"{run['psnr']:.2f}", f"{run['ssim']:.3f}"]
            steps = [str(run["cores"]), str(run["steps"]), f"{run['train_seconds']:.0f}"]
            rows.append([name, run["kind"].replace("_", " "), size, *steps, *quality])
    head = ["scene", "kind", "views", "cores", "steps", "s", "PSNR (dB)", "SSIM"]
    return cells.table(head, rows)


def nerf_surfaces_table() -> str:
    """What decisions about unbounded captures bring, and where surfaces lie with each."""
    return _surfaces("nerf_surfaces_cpu")


def nerf_decay_table() -> str:
    """What the decay of tables brings on a forward-facing capture."""
    return _surfaces("nerf_decay_cpu")


def _surfaces(file: str) -> str:
    rows = []
    for scene, choices in cells.read(file)["held_out"].items():
        for name, found in choices.items():
            row = [scene, name, ", ".join(f"{psnr:.2f}" for psnr in found["psnr"]["values"])]
            for quantity, digits in (("in_front", 2), ("depth_error", 3), ("within_tenth", 2)):
                row.append(f"{found[quantity]['mean']:.{digits}f}" if quantity in found else "")
            rows.append([*row, f"{found['occupied']['mean']:.2f}"])
    head = ["scene", "setting", "PSNR of each seed (dB)", "ends in front", "depth error"]
    head = [*head, "within a tenth", "occupied"]
    used = [at for at in range(len(head)) if any(row[at] for row in rows)]
    return cells.table([head[at] for at in used], [[row[at] for at in used] for row in rows])


def nerf_corrections_table() -> str:
    """Corrections of colours and poses on a phone's photographs."""
    rows = []
    for name, found in cells.read("nerf_corrections_cpu")["held_out"].items():
        row = [name]
        for quantity, digits in (("psnr", 2), ("psnr_color_fitted", 2), ("ssim", 3)):
            values = found[quantity]
            row.append(f"{values['mean']:.{digits}f}")
            gains = ", ".join(f"{gain:+.{digits}f}" for gain in values["paired_gain"])
            row.append(gains if any(values["paired_gain"]) else "")
        rows.append(row)
    head = ["corrections", "PSNR (dB)", "gain per seed", "after fitting colours (dB)"]
    return cells.table([*head, "gain per seed", "SSIM", "gain per seed"], rows)


def nerf_samplers_table() -> str:
    """Ways to choose pixels, paired seeds."""
    return _compared("nerf_samplers_cpu")


_CHOICES = {
    "error_map": "`error_map`, the default",
    "spatial": "`spatial`: tiles, exact weights",
    "error_weighted": "`error_weighted`: single pixels, exact weights",
    "without_weights": "the same without weights (`correction=0`)",
    "mixed": "`mixed`: both, and uniform",
    "soft_mining": "`soft_mining`",
}


def ray_gains_table() -> str:
    """What each way to draw rays gains over uniform draws; marked where chance may explain it."""
    found = cells.read("nerf_samplers_cpu")
    head, columns = ["rays drawn by"], []
    for data, results in found["data"].items():
        train = found["configs"][data]["base"]["train"]
        head.append(f"{_SHORT.get(data, data)}, {train['num_steps']:,} steps")
        columns.append({(v["sampler"], v["quantity"]): v for v in results["verdicts"]})
    rows = []
    for name, words in _CHOICES.items():
        quantities = {"final": words, "at_equal_seconds": f"{words}, at equal time"}
        for quantity, title in quantities.items():
            if quantity == "final" or name in ("error_map", "soft_mining"):
                verdicts = [column[name, quantity] for column in columns]
                rows.append([title, *(_gain(verdict) for verdict in verdicts)])
    return cells.table(head, rows)


_SHORT = {"blender_lego_400": "lego", "detail": "detailed scene", "llff_fern": "fern"}


def _gain(verdict: dict[str, Any]) -> str:
    """In dB, bold where it is beyond chance."""
    text = f"{verdict['difference']:+.1f} dB"
    return text if verdict["outcome"] == "no clear difference" else f"**{text}**"


def nerf_ablation_table() -> str:
    """What of tiles drawn by their error earns their gain, paired seeds."""
    return _compared("nerf_ablation_cpu")


def nerf_weights_table() -> str:
    """Tiles drawn by their error, with and without weights, on other scenes and for longer."""
    return _compared("nerf_weights_cpu")


_COLUMNS = {
    "final": ("PSNR of all held-out pixels (dB)", 2),
    "ssim": ("SSIM", 3),
    "at_equal_steps": ("of every 6th row and column (dB)", 2),
    "at_equal_seconds": ("at equal time (dB)", 2),
    "area": ("mean on the way (dB)", 2),
    "seen": ("pixels seen", 2),
    "entropy": ("entropy of draws", 3),
    "worst_percent": ("error in the worst 1 %", 2),
    "train_seconds": ("s of training", 0),
}


def _compared(name: str) -> str:
    """Samplers by data set, and the verdicts that are clear."""
    rows, clear, results = [], [], cells.read(name)
    for data, found in results["data"].items():
        base = results["configs"][data]["base"]
        setting = f"{base['train']['num_steps']} steps of {base['train']['rays_per_step']} rays"
        label = f"{data}, {setting}"
        for sampler, values in found["samplers"].items():
            row = [cells.spread(values[key], digits) for key, (_, digits) in _COLUMNS.items()]
            rows.append([label, f"`{sampler}`", *row])
            label = ""
        clear += [
            f"* {data}: {verdict['sentence']}"
            for verdict in found["verdicts"]
            if verdict["outcome"] in ("better", "worse")
        ]
    head = ["data", "sampler", *(title for title, _ in _COLUMNS.values())]
    return "\n".join([cells.table(head, rows), "", *(clear or ["No verdict is beyond chance."])])


def nerf_default_table() -> str:
    """The default, the same without its return to uniform draws, and uniform draws."""
    return _compared("nerf_default_cpu")


def nerf_return_table() -> str:
    """When the default returns to uniform draws, on fresh seeds."""
    return _compared("nerf_return_cpu")


def nerf_depth_table() -> str:
    """Presets of depth guidance on an RGB-D scan."""
    rows = []
    for views, presets in cells.read("nerf_depth_cpu")["held_out"].items():
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
    return cells.table(head, rows)


TABLES = {
    "ray_gains": ray_gains_table,
    "nerf_return": nerf_return_table,
    "nerf_step": nerf_step_table,
    "nerf_cost": nerf_cost_table,
    "nerf_peer": nerf_peer_table,
    "nerf_quality": nerf_quality_table,
    "nerf_scenes": nerf_scenes_table,
    "nerf_surfaces": nerf_surfaces_table,
    "nerf_decay": nerf_decay_table,
    "nerf_corrections": nerf_corrections_table,
    "nerf_samplers": nerf_samplers_table,
    "nerf_ablation": nerf_ablation_table,
    "nerf_weights": nerf_weights_table,
    "nerf_default": nerf_default_table,
    "nerf_depth": nerf_depth_table,
}
