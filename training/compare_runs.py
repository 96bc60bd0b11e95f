"""Does the runs of a comparison, skipping what is done, and collects their results."""

from pathlib import Path
from typing import Any

from scenes.posed_images import SplitImages

from . import compare_report, config_json, nerf_job, nerf_setup, run_folder
from . import compare_statistics as statistics
from .compare_config import NerfComparison, run_name
from .nerf_evaluation import Evaluator
from .run_folder import RunFolder

CONFIG_NAME = "compare.json"
RESULTS_NAME = "results.json"


def start(
    comparison: NerfComparison,
    folder: Path,
    *,
    scene: SplitImages | None = None,
    shared: nerf_job.Shared | None = None,
) -> dict[str, Any]:
    """Begins a comparison in a new folder.

    Args:
      scene, shared: as for `go_on`.
    Raises:
      ValueError, OSError: for bad data, settings or folders, before anything is trained.
    """
    if (folder / CONFIG_NAME).exists():
        raise ValueError(
            f"{folder}: already holds a comparison; continue it with --resume {folder}, "
            "or choose another --out"
        )
    run_folder.check_writable(folder)
    run_folder.write_json(folder / CONFIG_NAME, config_json.to_json(comparison))
    return go_on(comparison, folder, scene=scene, shared=shared)


def resume(folder: Path, *, shared: nerf_job.Shared | None = None) -> dict[str, Any]:
    """Goes on with a comparison: finished runs are kept, a stopped one continues.

    Raises:
      FileNotFoundError, ValueError: when there is none, or naming the broken field.
    """
    if not (folder / CONFIG_NAME).is_file():
        raise FileNotFoundError(f"{folder}: not a comparison's folder, it has no {CONFIG_NAME}")
    values = run_folder.read_json(folder / CONFIG_NAME)
    comparison = config_json.from_json(NerfComparison, values, str(folder / CONFIG_NAME))
    return go_on(comparison, folder, shared=shared)


def go_on(
    comparison: NerfComparison,
    folder: Path,
    *,
    scene: SplitImages | None = None,
    shared: nerf_job.Shared | None = None,
) -> dict[str, Any]:
    """Does the runs that are not done, then writes results.json and report.html.

    Args:
      scene: the images, if they are already loaded.
      shared: scene and compiled programs of the base job, if they are already at hand.
    """
    jobs = comparison.runs()
    if shared is not None:
        scene = shared.scene
    elif scene is None:
        scene = nerf_setup.load(comparison.base.scene)
    # every sampler and its options are checked before the first run begins
    setups = {
        sampler.name: nerf_setup.prepare(job, scene)
        for sampler in comparison.samplers
        for job in jobs
        if job.sampler == sampler and job.seed == comparison.base.seed
    }
    if shared is None:
        evaluator = Evaluator(next(iter(setups.values())))
        shared = nerf_job.Shared(scene=scene, evaluator=evaluator, steps={})
    del setups
    for number, job in enumerate(jobs, start=1):
        run = RunFolder(folder / run_name(job))
        print(f"run {number} of {len(jobs)}: {run_name(job)}")
        if run.summary.is_file():
            print("  already done")
        elif run.config.is_file():
            nerf_job.resume(str(run.path), shared=shared)
        else:
            nerf_job.start(job, out=str(run.path), shared=shared)
    summaries = {
        run_name(job): run_folder.read_json(RunFolder(folder / run_name(job)).summary)
        for job in jobs
    }
    results = collect(comparison, summaries)
    run_folder.write_json(folder / RESULTS_NAME, results)
    compare_report.write(folder, comparison, results, summaries)
    return results


def collect(comparison: NerfComparison, summaries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Computes the table of a comparison from its runs' summaries."""
    by_sampler = {
        sampler.name: [
            summaries[run_name(job)]
            for job in sorted(comparison.runs(), key=lambda job: job.seed)
            if job.sampler == sampler
        ]
        for sampler in comparison.samplers
    }
    curves = {name: [run["curve"] for run in runs] for name, runs in by_sampler.items()}
    every_curve = [curve for group in curves.values() for curve in group]
    target = comparison.target
    target = statistics.common_target(every_curve) if target is None else target
    equal_steps = min(curve[-1][0] for curve in every_curve)
    equal_seconds = min(curve[-1][1] for curve in every_curve)
    first_run = next(iter(summaries.values()))
    results: dict[str, Any] = {
        "job": comparison.job,
        "data": comparison.base.scene.data,
        "seeds": comparison.num_seeds,
        "rays_per_step": comparison.base.train.rays_per_step,
        "equal_steps": equal_steps,
        "equal_seconds": equal_seconds,
        "target_psnr": target,
        "device": first_run["device"],
        "versions": first_run["versions"],
        "samplers": {},
        "verdicts": [],
    }
    baseline = comparison.samplers[0].name
    measured: dict[str, dict[str, list[float]]] = {}
    for name, runs in by_sampler.items():
        values = {
            "final_psnr": [run["final"]["psnr"] for run in runs],
            "final_ssim": [run["final"]["ssim"] for run in runs if "ssim" in run["final"]],
            "psnr_at_equal_steps": [
                statistics.value_at(curve, equal_steps, axis=0) for curve in curves[name]
            ],
            "psnr_at_equal_seconds": [
                statistics.value_at(curve, equal_seconds, axis=1) for curve in curves[name]
            ],
            "train_seconds": [run["train_seconds"] for run in runs],
            "rays_per_second": [run["rays_per_second"] for run in runs],
        }
        for axis, unit in ((0, "steps"), (1, "seconds")):
            reached = [statistics.crossing(curve, target, axis=axis) for curve in curves[name]]
            values[f"{unit}_to_target"] = [place for place in reached if place is not None]
        measured[name] = values
        results["samplers"][name] = {
            quantity: {
                "values": [round(value, 4) for value in numbers],
                "mean": None if not numbers else round(statistics.spread(numbers).mean, 4),
                "deviation": statistics.spread(numbers).deviation,
            }
            for quantity, numbers in values.items()
        }
    for name in list(by_sampler)[1:]:
        for quantity, what in (
            ("psnr_at_equal_steps", f"at equal rays (step {equal_steps:,.0f})"),
            ("psnr_at_equal_seconds", f"at equal time ({equal_seconds:.0f} s of training)"),
        ):
            verdict = statistics.judge(measured[name][quantity], measured[baseline][quantity])
            results["verdicts"].append(
                {
                    "sampler": name,
                    "baseline": baseline,
                    "quantity": quantity,
                    "difference": verdict.difference.mean,
                    "outcome": verdict.outcome,
                    "sentence": statistics.sentence(name, baseline, verdict, what),
                }
            )
    return results
