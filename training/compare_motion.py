"""A comparison of samplers on motions: paired seeds, equal environment steps, one report."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np

from . import compare_statistics as statistics
from . import config_json, curves, motion_job, report_page, run_folder
from .compare_config import check_compared, paired_runs, run_name
from .compare_runs import CONFIG_NAME, RESULTS_NAME
from .curves import COLORS, Line
from .motion_config import MotionJob
from .nerf_config import SamplerConfig
from .run_folder import RunFolder

_COLUMNS = (
    ("final", "surviving starts at the end", 3),
    ("area", "surviving starts, mean over training", 3),
    ("steps_to_target", "control steps to {target:.0%} surviving", 0),
    ("mpjpe_global", "body error, global (m)", 4),
    ("clips_completed", "clips played whole", 2),
    ("cpu_seconds", "CPU-seconds", 0),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MotionComparison:
    """The same motions with several samplers, each with the same seeds.

    Attributes:
      base: everything the runs share; its sampler and seed are replaced.
      samplers: the first is the baseline.
      num_seeds: runs per sampler.
      target: share of surviving starts whose first crossing is counted.
    """

    job: Literal["compare motion"] = "compare motion"
    base: MotionJob
    samplers: tuple[SamplerConfig, ...]
    num_seeds: int = 1
    target: float = 0.9

    def __post_init__(self):
        """Refuses comparisons of nothing with nothing, or by anything but steps."""
        check_compared(self.samplers, self.num_seeds)
        if self.base.loop.num_iterations is None or self.base.loop.seconds is not None:
            raise ValueError("a comparison is at equal steps: give --steps and no --seconds")
        if not 0 < self.target <= 1:
            raise ValueError(f"target must be in (0, 1], got {self.target}")

    def runs(self) -> tuple[MotionJob, ...]:
        """All runs in the order they are done."""
        return paired_runs(self.base, self.samplers, self.num_seeds)


def start(comparison: MotionComparison, folder: Path) -> dict[str, Any]:
    """Begins a comparison in a new folder.

    Raises:
      ValueError, OSError: for bad clips, settings or folders.
    """
    if (folder / CONFIG_NAME).exists():
        raise ValueError(
            f"{folder}: already holds a comparison; continue it with --resume {folder}"
        )
    run_folder.check_writable(folder)
    run_folder.write_json(folder / CONFIG_NAME, config_json.to_json(comparison))
    return go_on(comparison, folder)


def resume(folder: Path) -> dict[str, Any]:
    """Goes on with a comparison: finished runs are kept, a stopped one continues.

    Raises:
      FileNotFoundError, ValueError: when there is none, or naming the broken field.
    """
    if not (folder / CONFIG_NAME).is_file():
        raise FileNotFoundError(f"{folder}: not a comparison's folder, it has no {CONFIG_NAME}")
    values = run_folder.read_json(folder / CONFIG_NAME)
    return go_on(config_json.from_json(MotionComparison, values, str(folder)), folder)


def go_on(comparison: MotionComparison, folder: Path) -> dict[str, Any]:
    """Does the runs that are not done, then writes results.json and report.html."""
    jobs = comparison.runs()
    for number, job in enumerate(jobs, start=1):
        run = RunFolder(folder / run_name(job))
        print(f"run {number} of {len(jobs)}: {run_name(job)}")
        if run.summary.is_file():
            print("  already done")
        elif run.config.is_file():
            motion_job.resume(str(run.path))
        else:
            motion_job.start(job, out=str(run.path))
    summaries = {
        run_name(job): run_folder.read_json(RunFolder(folder / run_name(job)).summary)
        for job in jobs
    }
    results = collect(comparison, summaries)
    run_folder.write_json(folder / RESULTS_NAME, results)
    _write_report(folder, comparison, results)
    return results


def collect(comparison: MotionComparison, summaries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Computes the table of a comparison from its runs' summaries."""
    jobs = sorted(comparison.runs(), key=lambda job: job.seed)
    groups = {
        sampler.name: [summaries[run_name(job)] for job in jobs if job.sampler == sampler]
        for sampler in comparison.samplers
    }
    measured: dict[str, dict[str, list[float]]] = {}
    bins: dict[str, list[float | None]] = {}
    for name, runs in groups.items():
        crossings = [statistics.crossing(run["curve"], comparison.target, axis=0) for run in runs]
        measured[name] = {
            "final": [run["final"]["starts_survived"] for run in runs],
            "area": [_mean_height(run["curve"]) for run in runs],
            "steps_to_target": [place for place in crossings if place is not None],
            "mpjpe_global": [run["final"]["mpjpe_global"] for run in runs],
            "clips_completed": [run["final"]["clips_completed"] for run in runs],
            "cpu_seconds": [run["cpu_seconds"] for run in runs],
        }
        failures = [run["final"]["failures_per_pass"] for run in runs]
        columns = [
            [value for value in column if value is not None]
            for column in zip(*failures, strict=True)
        ]
        bins[name] = [round(float(np.mean(column)), 4) if column else None for column in columns]
    baseline = comparison.samplers[0].name
    verdicts = []
    for name in list(groups)[1:]:
        for quantity, what in (
            ("area", "mean share of surviving starts over training"),
            ("final", "share of surviving starts at the end"),
        ):
            verdict = statistics.judge(measured[name][quantity], measured[baseline][quantity])
            words = statistics.sentence(
                name, baseline, verdict, what, unit=" percentage points", scale=100.0
            )
            verdicts.append(
                {
                    "sampler": name,
                    "baseline": baseline,
                    "quantity": quantity,
                    "difference": verdict.difference.mean,
                    "outcome": verdict.outcome,
                    "sentence": words,
                }
            )
    first = next(iter(summaries.values()))
    return {
        "job": comparison.job,
        "robot": first["robot"],
        "data": first["data"],
        "physics": first["physics"],
        "seeds": comparison.num_seeds,
        "target": comparison.target,
        "env_steps": first["env_steps"],
        "num_starts": first["final"]["num_starts"],
        "device": first["device"],
        "versions": first["versions"],
        "samplers": {
            name: {
                quantity: {
                    "values": [round(value, 5) for value in numbers],
                    "mean": round(statistics.spread(numbers).mean, 5) if numbers else None,
                    "deviation": statistics.spread(numbers).deviation,
                }
                for quantity, numbers in values.items()
            }
            | {"failures_per_pass": bins[name], "curves": [run["curve"] for run in groups[name]]}
            for name, values in measured.items()
        },
        "verdicts": verdicts,
    }


def table_rows(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The table of a comparison: header and rows."""
    header = ["sampler"] + [text.format(target=results["target"]) for _, text, _ in _COLUMNS]
    rows = []
    for name, values in results["samplers"].items():
        row = [name]
        for quantity, _, digits in _COLUMNS:
            numbers = values[quantity]["values"]
            text = statistics.spread(numbers).text(digits)
            missing = results["seeds"] - len(numbers)
            row.append(f"{text} ({missing} never)" if missing and numbers else text)
        rows.append(row)
    return header, rows


def _mean_height(curve: list[list[float]]) -> float:
    """Mean of a curve over its steps, straight lines between its points."""
    steps, _, height = np.array(curve, float).T
    if len(steps) < 2:
        return float(height[0])
    return float(np.trapezoid(height, steps) / (steps[-1] - steps[0]))


def _write_report(folder: Path, comparison: MotionComparison, results: dict[str, Any]) -> None:
    header, rows = table_rows(results)
    parts = [report_page.paragraph(verdict["sentence"]) for verdict in results["verdicts"]]
    parts.append(report_page.table(header, rows))
    parts.append(
        report_page.paragraph(
            f"{results['seeds']} paired seed(s), {results['env_steps']:,} control steps each, "
            f"{results['num_starts']} starts per evaluation, {results['device']}. ± is the "
            "standard deviation over seeds.",
            is_soft=True,
        )
    )
    lines, bars = [], []
    for (name, values), color in zip(results["samplers"].items(), COLORS, strict=False):
        table = np.array([[point[2] for point in curve] for curve in values["curves"]])
        steps = [point[0] / 1000 for point in values["curves"][0]]
        many = len(table) > 1
        lines.append(
            Line(
                name,
                steps,
                list(table.mean(axis=0)),
                color=color,
                low=list(table.min(axis=0)) if many else None,
                high=list(table.max(axis=0)) if many else None,
            )
        )
        known = [(p, v) for p, v in enumerate(values["failures_per_pass"]) if v is not None]
        bars.append(Line(name, [p for p, _ in known], [v for _, v in known], color=color))
    drawings = [
        curves.draw(
            lines,
            title="Surviving starts",
            x_label="thousand control steps",
            y_label="share",
            target=results["target"],
        ),
        curves.draw(bars, title="Failures per pass at the end", x_label="bin", y_label="failures"),
    ]
    parts.append(report_page.plots(drawings))
    config = json.dumps(config_json.to_json(comparison), indent=2)
    parts.append(report_page.details("Configuration", config))
    names = " against ".join(results["samplers"])
    subtitle = f"{results['robot']}: {results['data']}"
    page = report_page.page(f"Comparison: {names}", subtitle, parts)
    report_page.write(folder / "report.html", page)
