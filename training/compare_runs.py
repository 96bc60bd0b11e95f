"""Does the runs of a comparison, skipping what is done, and collects their results."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import compare_kinds, compare_report, compare_workers, config_json, run_folder
from . import compare_statistics as statistics
from .compare_config import CONFIG_NAME, Comparison, run_name
from .run_folder import RunFolder

RESULTS_NAME = "results.json"


def start(
    comparison: Comparison, folder: Path, *, workers: int = 1, **at_hand: Any
) -> dict[str, Any]:
    """Begins a comparison in a new folder.

    Args:
      workers: how many runs are done side by side, see `compare_workers`.
      at_hand: what the runner of this kind need not make again, as in `compare_kinds`.
    Raises:
      ValueError, OSError: for bad data, settings or folders, before anything is trained.
    """
    if (folder / CONFIG_NAME).exists():
        raise ValueError(
            f"{folder}: already holds a comparison; continue it with --resume {folder}, "
            "or choose another --out"
        )
    run_folder.check_writable(folder)
    write_config(comparison, folder)
    return go_on(comparison, folder, workers=workers, **at_hand)


def write_config(comparison: Comparison, folder: Path) -> None:
    """Writes what `resume` begins or goes on with."""
    run_folder.write_json(folder / CONFIG_NAME, config_json.to_json(comparison))


def resume(folder: Path, *, workers: int = 1, **at_hand: Any) -> dict[str, Any]:
    """Goes on with a comparison: finished runs are kept, a stopped one continues.

    Raises:
      FileNotFoundError, ValueError: when there is none, or naming the broken field.
    """
    return go_on(read(folder), folder, workers=workers, **at_hand)


def read(folder: Path) -> Comparison:
    """Reads what a comparison was asked to do.

    Raises:
      FileNotFoundError, ValueError: when there is none, or naming the broken field.
    """
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: not a comparison's folder, it has no {CONFIG_NAME}")
    values = run_folder.read_json(path)
    if values.get("job") not in compare_kinds.KINDS:
        raise ValueError(f"{path}: unknown job {values.get('job')!r}")
    kind = compare_kinds.KINDS[values["job"]]
    return config_json.from_json(kind.config, values, str(path))


def go_on(
    comparison: Comparison, folder: Path, *, workers: int = 1, **at_hand: Any
) -> dict[str, Any]:
    """Does the runs that are not done, then writes results.json and report.html."""
    jobs = comparison.runs()
    if workers != 1:
        compare_workers.run(comparison, folder, workers)
    else:
        with compare_workers.working_in(folder, is_alone=True):
            do(comparison, folder, jobs, **at_hand)
    summaries = {
        run_name(job): run_folder.read_json(RunFolder(folder / run_name(job)).summary)
        for job in jobs
    }
    results = collect(comparison, summaries)
    run_folder.write_json(folder / RESULTS_NAME, results)
    compare_report.write(folder, comparison, results)
    return results


def do(
    comparison: Comparison,
    folder: Path,
    jobs: Sequence[Any],
    *,
    is_stopped: Callable[[], bool] = lambda: False,
    **at_hand: Any,
) -> None:
    """Does those of some runs that are not done, one after the other.

    Args:
      is_stopped: asked before each run; the rest is then left.
    """
    runner = compare_kinds.of(comparison).runner(comparison, **at_hand)
    for number, job in enumerate(jobs, start=1):
        if is_stopped():
            return
        run = RunFolder(folder / run_name(job))
        print(f"run {number} of {len(jobs)}: {run_name(job)}")
        if run.summary.is_file():
            _check_same(run, job)
            print("  already done")
        elif run.config.is_file():
            runner.resume(str(run.path))
        else:
            runner.start(job, str(run.path))


def _check_same(run: RunFolder, job: Any) -> None:
    """Refuses to count a run of another sampler or seed that lies in a comparison's folder."""
    if not run.config.is_file():
        return  # a summary alone: somebody kept no more
    stored = run_folder.read_json(run.config)["config"]
    wanted = config_json.to_json(job)
    for part in ("seed", "sampler"):
        if stored.get(part) != wanted[part]:
            raise ValueError(
                f"{run.path}: finished with {part} {stored.get(part)}, the comparison wants "
                f"{wanted[part]}; move the folder away"
            )


def collect(comparison: Comparison, summaries: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Computes the table of a comparison from its runs' summaries."""
    kind = compare_kinds.of(comparison)
    jobs = sorted(comparison.runs(), key=lambda job: job.seed)
    groups = {
        sampler.title: [summaries[run_name(job)] for job in jobs if job.sampler == sampler]
        for sampler in comparison.samplers
    }
    every_curve = [summary["curve"] for summary in summaries.values()]
    target = comparison.target
    if target is None:
        target = statistics.common_target(every_curve, step=kind.target_step)
    steps, seconds = (min(curve[-1][axis] for curve in every_curve) for axis in (0, 1))
    measured: dict[str, dict[str, list[float]]] = {}
    for name, runs in groups.items():
        lines = [run["curve"] for run in runs]
        values: dict[str, list[float | None]] = {
            "at_equal_steps": [statistics.value_at(line, steps, axis=0) for line in lines],
            "at_equal_seconds": [statistics.value_at(line, seconds, axis=1) for line in lines],
            "area": [statistics.mean_height(line, end=steps) for line in lines],
            "steps_to_target": [statistics.crossing(line, target, axis=0) for line in lines],
            "seconds_to_target": [statistics.crossing(line, target, axis=1) for line in lines],
            "train_seconds": [run["train_seconds"] for run in runs],
        }
        for column in (kind.final, *kind.columns):
            values[column.name] = [column.read(run) for run in runs]
        measured[name] = {
            quantity: [value for value in row if value is not None]
            for quantity, row in values.items()
        }
    first = next(iter(summaries.values()))
    devices = sorted({run["device"] for run in summaries.values()})
    quantities = {
        "at_equal_steps": f"{kind.metric} at equal steps ({steps:,.0f})",
        "at_equal_seconds": f"{kind.metric} at equal time ({seconds:.0f} s of training)",
        "area": f"mean {kind.metric} over the steps",
    }
    judged = [kind.final, *(column for column in kind.columns if column.name == "ssim")]
    for column in judged:
        if column.choose is max and all(
            len(values[column.name]) == comparison.num_seeds for values in measured.values()
        ):
            quantities[column.name] = column.title
    if len(devices) > 1:  # a run on two cores is no match for one on one
        del quantities["at_equal_seconds"]
    return {
        "job": comparison.job,
        "data": first["data"],
        "seeds": comparison.num_seeds,
        "metric": kind.metric,
        "equal_steps": steps,
        "equal_seconds": seconds,
        "target": target,
        **{fact: first[fact] for fact in kind.facts},
        "device": "; ".join(devices),
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
            | {"curves": [run["curve"] for run in groups[name]]}
            | kind.per_sampler(groups[name])
            for name, values in measured.items()
        },
        "verdicts": [
            _verdict(kind, name, comparison.samplers[0].title, quantity, what, measured)
            for name in list(groups)[1:]
            for quantity, what in quantities.items()
        ],
    }


def _verdict(
    kind: compare_kinds.Kind,
    name: str,
    baseline: str,
    quantity: str,
    what: str,
    measured: dict[str, dict[str, list[float]]],
) -> dict[str, Any]:
    verdict = statistics.judge(measured[name][quantity], measured[baseline][quantity])
    return {
        "sampler": name,
        "baseline": baseline,
        "quantity": quantity,
        "difference": verdict.difference.mean,
        "interval": verdict.interval and list(verdict.interval),
        "bootstrap_interval": verdict.bootstrap and list(verdict.bootstrap),
        "sign_test": verdict.sign_test,
        "outcome": verdict.outcome,
        "sentence": statistics.sentence(
            name,
            baseline,
            verdict,
            what,
            unit="" if quantity == "ssim" else kind.unit,
            scale=1.0 if quantity == "ssim" else kind.scale,
            digits=4 if quantity == "ssim" else 2,
        ),
    }
