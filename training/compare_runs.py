"""Does the runs of a comparison, skipping what is done, and writes what came out."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import (
    compare_kinds,
    compare_report,
    compare_results,
    compare_workers,
    config_json,
    run_folder,
)
from .compare_config import CONFIG_NAME, Comparison, run_name
from .fault import FaultError, is_met
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
    runs = {run_name(job): RunFolder(folder / run_name(job)) for job in jobs}
    summaries = {
        name: run_folder.read_json(run.summary)
        for name, run in runs.items()
        if run.summary.is_file()
    }
    results = compare_results.collect(comparison, summaries)
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

    A run that stops at a step that is not finite is left as it is, and the next one begins.

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
            continue
        try:
            if is_met(run):
                print(f"  stopped at a fault; to try again, remove {run.fault}")
            elif run.config.is_file():
                runner.resume(str(run.path))
            else:
                runner.start(job, str(run.path))
        except FaultError as error:  # a result too: the other runs go on
            print(f"  {error}")


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
