"""The jobs that can be compared: how their runs are done, what they measure, what they show."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from scenes.posed_images import SplitImages

from . import (
    curves,
    motion_job,
    motion_setup,
    nerf_job,
    nerf_setup,
    pictures,
    report_page,
    voxels_job,
    voxels_setup,
)
from .compare_config import (
    Comparison,
    MotionComparison,
    NerfComparison,
    VoxelsComparison,
    run_name,
)
from .curves import COLORS, Line
from .nerf_evaluation import Evaluator
from .nerf_loop import WORST_HOLD
from .run_folder import RunFolder


class Runner(Protocol):
    """Does the runs of one comparison."""

    def start(self, job: Any, out: str) -> Any:
        """Does a run in a new folder."""
        ...

    def resume(self, path: str) -> Any:
        """Goes on with a run that was stopped."""
        ...


class Column(NamedTuple):
    """A quantity of the table beside those that every job has."""

    name: str
    title: str
    digits: int
    choose: Callable[..., float] | None
    """max or min: which mean is the best; None: neither is."""
    read: Callable[[dict[str, Any]], float | None]
    """From a run's summary."""
    unit: str | None = None
    """Of the differences that verdicts are on; None: there are none on it. Larger is better."""
    scale: float = 1.0
    """The quantity times this is in `unit`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """One job."""

    config: type[Comparison]
    runner: Callable[..., Runner]
    """(comparison, **what is already at hand); checks every sampler before anything is trained."""
    metric: str
    """What the curve shows."""
    unit: str
    scale: float = 1.0
    """The metric times this is in `unit`."""
    digits: int
    target_step: float
    """Targets found from the curves are multiples of this."""
    final: Column
    columns: tuple[Column, ...] = ()
    note: str
    """What a reader of the table has to know."""
    facts: tuple[str, ...] = ()
    """What of a run's summary holds for the whole comparison."""
    per_sampler: Callable[[list[dict[str, Any]]], dict[str, Any]] = lambda runs: {}
    """Results of a sampler beside its table, from the summaries of its runs."""
    parts: Callable[[Path, Comparison, dict[str, Any]], list[str]]
    """What the report shows below the curves, from the comparison's results."""


class NerfRunner:
    """Runs on one scene share its images and compiled programs."""

    def __init__(
        self,
        comparison: Comparison,
        *,
        scene: SplitImages | None = None,
        shared: nerf_job.Shared | None = None,
    ):
        if shared is not None:
            scene = shared.scene
        elif scene is None:
            scene = nerf_setup.load(comparison.base.scene)
        setups = [nerf_setup.prepare(job, scene) for job in _first_seed(comparison)]
        if shared is None:
            shared = nerf_job.Shared(scene=scene, evaluator=Evaluator(setups[0]), steps={})
        self._shared = shared

    def start(self, job: Any, out: str) -> Any:
        """Does a run in a new folder."""
        return nerf_job.start(job, out=out, shared=self._shared)

    def resume(self, path: str) -> Any:
        """Goes on with a run that was stopped."""
        return nerf_job.resume(path, shared=self._shared)


class PlainRunner:
    """Runs that share nothing."""

    def __init__(self, comparison: Comparison, *, job: Any, prepare: Callable[[Any], Any]):
        for run in _first_seed(comparison):
            prepare(run)
        self._job = job

    def start(self, job: Any, out: str) -> Any:
        """Does a run in a new folder."""
        return self._job.start(job, out=out)

    def resume(self, path: str) -> Any:
        """Goes on with a run that was stopped."""
        return self._job.resume(path)


def of(comparison: Comparison) -> Kind:
    """Finds a comparison's kind."""
    return KINDS[comparison.job]


def _first_seed(comparison: Comparison) -> list[Any]:
    """One run of each sampler."""
    return [job for job in comparison.runs() if job.seed == comparison.base.seed]


def _nerf_parts(folder: Path, comparison: Comparison, results: dict[str, Any]) -> list[str]:
    held = [
        Line(
            name,
            [100 * float(share) for share in values["error_held_by_worst"]],
            list(values["error_held_by_worst"].values()),
            color=color,
        )
        for (name, values), color in zip(results["samplers"].items(), COLORS * 9, strict=False)
        if values["curves"]
    ]
    spread = curves.draw(
        held,
        title="Squared error held by the worst pixels at the end",
        x_label="worst pixels, % of all held-out ones",
        y_label="share of the error",
        is_log_x=True,
    )
    parts = [report_page.heading("How the error is spread"), report_page.plots([spread])]
    parts.append(report_page.heading("The same held-out view, first seed"))
    parts += [
        report_page.picture(image, f"{name}: rendered, truth, error, depth")
        for name, image in _pictures(folder, comparison, "test-000-beside-truth.png")
    ]
    photo = _pictures(folder, comparison, "sampler-000-photo.png")
    densities = _pictures(folder, comparison, "sampler-000-density.png")
    if photo and densities:
        names = ", ".join(name for name, _ in densities)
        parts.append(report_page.heading("What the samplers look at"))
        parts.append(
            report_page.picture(
                pictures.side_by_side([photo[0][1], *(image for _, image in densities)]),
                f"The first training view, then how often its pixels are drawn at the end by "
                f"{names}: red up to 8 times as often as uniform, grey the same, blue down to an "
                "eighth.",
            )
        )
    return parts


def _voxels_parts(folder: Path, comparison: Comparison, results: dict[str, Any]) -> list[str]:
    shown = _pictures(folder, comparison, f"step_{results['equal_steps']:04d}_view_0.png")
    return [report_page.heading("The first view at the end, first seed")] + [
        report_page.picture(image, name) for name, image in shown
    ]


def _failures(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean failures per pass of each bin; None where no run passed."""
    columns = zip(*(run["final"]["failures_per_pass"] for run in runs), strict=True)
    known = [[value for value in column if value is not None] for column in columns]
    return {
        "failures_per_pass": [
            round(float(np.mean(column)), 4) if column else None for column in known
        ]
    }


def _held_by_worst(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean over the seeds of the error that the worst pixels hold."""
    tables = [run["final"]["error_held_by_worst"] for run in runs]
    return {
        "error_held_by_worst": {
            share: round(float(np.mean([table[share] for table in tables])), 4)
            for share in tables[0]
        }
    }


def _motion_parts(folder: Path, comparison: Comparison, results: dict[str, Any]) -> list[str]:
    lines = []
    for (name, values), color in zip(results["samplers"].items(), COLORS * 9, strict=False):
        if not values["curves"]:
            continue
        known = [(p, v) for p, v in enumerate(values["failures_per_pass"]) if v is not None]
        lines.append(Line(name, [p for p, _ in known], [v for _, v in known], color=color))
    failures = curves.draw(
        lines, title="Failures per pass at the end", x_label="bin", y_label="failures"
    )
    parts = [report_page.heading("Where it falls"), report_page.plots([failures])]
    for name, image in _pictures(folder, comparison, "policy.png"):
        parts.append(report_page.picture(image, f"{name}, first seed: policy and reference"))
    return parts


def _pictures(
    folder: Path, comparison: Comparison, file: str
) -> list[tuple[str, UInt8[np.ndarray, "rows cols 3"]]]:
    """One picture of each sampler's first run, where there is one."""
    found = []
    for job in _first_seed(comparison):
        path = RunFolder(folder / run_name(job)).images / file
        if path.is_file():
            with Image.open(path) as picture:
                found.append((job.sampler.title, np.asarray(picture.convert("RGB"))))
    return found


def _of_final(name: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda run: run["final"].get(name)


def _of_run(name: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda run: run.get(name)


def _of_draws(name: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda run: run.get("draws", {}).get(name)


def _of_errors(share: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda run: run["final"].get("error_held_by_worst", {}).get(share)


def _voxels_runner(comparison: Comparison) -> Runner:
    return PlainRunner(comparison, job=voxels_job, prepare=voxels_setup.prepare)


def _motion_runner(comparison: Comparison) -> Runner:
    return PlainRunner(comparison, job=motion_job, prepare=motion_setup.prepare)


KINDS: dict[str, Kind] = {
    "compare nerf": Kind(
        config=NerfComparison,
        runner=NerfRunner,
        metric="PSNR",
        unit="dB",
        digits=2,
        target_step=0.1,
        final=Column("final", "final PSNR, all pixels (dB)", 2, max, _of_final("psnr"), "dB"),
        columns=(
            Column("ssim", "SSIM", 4, max, _of_final("ssim"), ""),
            Column("depth_rmse", "depth error", 4, min, _of_final("depth_rmse")),
            Column("seen", "pixels drawn at least once", 3, None, _of_draws("seen")),
            Column("entropy", "entropy of the draws", 4, None, _of_draws("entropy")),
            Column(
                "effective_sample_share",
                "effective share of the rays",
                3,
                None,
                _of_draws("effective_sample_share"),
            ),
            Column(
                "worst_percent",
                "error held by the worst 1 % of pixels",
                3,
                None,
                _of_errors("0.01"),
            ),
            Column(
                "worst_percent_at_first",
                "the same at the first look (lattice)",
                3,
                None,
                lambda run: run.get("first_look", {}).get(WORST_HOLD),
            ),
            Column("rays_per_second", "rays per second", 0, max, _of_run("rays_per_second")),
        ),
        note="The final value is measured on every held-out pixel, the others on the curve's fixed "
        "lattice of held-out pixels.",
        facts=("rays",),
        per_sampler=_held_by_worst,
        parts=_nerf_parts,
    ),
    "compare voxels": Kind(
        config=VoxelsComparison,
        runner=_voxels_runner,
        metric="PSNR",
        unit="dB",
        digits=2,
        target_step=0.1,
        final=Column("final", "final PSNR, all views (dB)", 2, max, _of_final("psnr"), "dB"),
        columns=(
            Column(
                "visible_right",
                "visible cells right",
                4,
                max,
                _of_final("visible_right"),
                "percentage points",
                100.0,
            ),
            Column("export_gap", "export gap (dB)", 1, max, _of_final("export_gap")),
            Column("entropy", "entropy of the cameras at the end", 3, None, _of_draws("entropy")),
        ),
        note="The final value is measured on all views, the others on the fixed views.",
        facts=("guidance",),
        parts=_voxels_parts,
    ),
    "compare motion": Kind(
        config=MotionComparison,
        runner=_motion_runner,
        metric="surviving starts",
        unit="percentage points",
        scale=100.0,
        digits=3,
        target_step=0.05,
        final=Column(
            "final",
            "surviving starts at the end",
            3,
            max,
            _of_final("starts_survived"),
            "percentage points",
            100.0,
        ),
        columns=(
            Column("mpjpe_global", "body error, global (m)", 4, min, _of_final("mpjpe_global")),
            Column("clips_completed", "clips played whole", 2, max, _of_final("clips_completed")),
            Column("entropy", "entropy of the starts", 3, None, _of_draws("entropy")),
            Column(
                "effective_sample_share",
                "effective share of the bins",
                3,
                None,
                _of_draws("effective_sample_share"),
            ),
            Column("cpu_seconds", "CPU-seconds", 0, None, _of_run("cpu_seconds")),
        ),
        note="Steps are control steps of all copies together.",
        facts=("robot", "physics"),
        per_sampler=_failures,
        parts=_motion_parts,
    ),
}
