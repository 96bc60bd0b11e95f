"""The report of one radiance-field run: numbers, curves, pictures, in one file."""

import json
from pathlib import Path
from typing import Any

from . import curves, report_page
from .curves import Line
from .nerf_outputs import Shown
from .progress import duration
from .run_folder import RunFolder
from .run_log import read_rows


def write(
    folder: RunFolder,
    summary: dict[str, Any],
    config: dict[str, Any],
    *,
    views: list[Shown],
    sampler: list[Shown],
    orbit: Path | None,
) -> None:
    """Writes report.html."""
    final = summary["final"]
    numbers = [
        ("held-out PSNR", f"{final['psnr']:.2f} dB"),
        *([("held-out SSIM", f"{final['ssim']:.4f}")] if "ssim" in final else []),
        *[
            (f"held-out LPIPS ({name[6:]})", f"{final[name]:.4f}")
            for name in final
            if name.startswith("lpips_")
        ],
        ("training time", duration(summary["train_seconds"])),
        ("steps", f"{summary['steps']:,}"),
        ("rays per second", f"{summary['rays_per_second']:,.0f}"),
    ]
    parts = [report_page.facts(numbers)]
    if summary["ended_by"] == "seconds":
        parts.append(
            report_page.paragraph(
                f"Stopped by its time budget after {summary['steps']} of "
                f"{summary['planned_steps']} planned steps."
            )
        )
    if orbit is not None:
        parts.append(report_page.movie(orbit, "An orbit around the scene."))
    if views:
        parts.append(report_page.heading("Held-out views"))
        parts += [report_page.picture(view.image, view.caption) for view in views]
    parts.append(report_page.heading("Curves"))
    parts.append(report_page.plots(_plots(folder, summary)))
    if sampler:
        parts.append(report_page.heading(f"What the sampler looks at: {summary['sampler']}"))
        parts += [report_page.picture(view.image, view.caption) for view in sampler]
    parts.append(report_page.heading("The run"))
    parts.append(report_page.table(("", "value"), _facts(summary)))
    parts.append(report_page.details("Configuration", json.dumps(config, indent=2)))
    subtitle = f"{summary['data']}, sampler {summary['sampler']}, seed {summary['seed']}"
    report_page.write(folder.report, report_page.page("Radiance field", subtitle, parts))


def _plots(folder: RunFolder, summary: dict[str, Any]) -> list[str]:
    rows = [row for row in read_rows(folder.metrics) if row["kind"] == "train"]
    drawings = []
    if summary["curve"]:
        drawings.append(
            curves.draw(
                [
                    Line(
                        "held-out",
                        [point[1] for point in summary["curve"]],
                        [point[2] for point in summary["curve"]],
                    )
                ],
                title="Held-out PSNR",
                x_label="seconds of training",
                y_label="dB",
            )
        )
    for name, title, label in (
        ("psnr", "PSNR of the training rays", "dB"),
        ("rays_per_second", "Speed", "rays per second"),
        ("occupied", "Occupied share of the grid", ""),
    ):
        known = [row for row in rows if row.get(name) is not None]
        if len(known) > 1:
            drawings.append(
                curves.draw(
                    [Line(name, [row["step"] for row in known], [row[name] for row in known])],
                    title=title,
                    x_label="step",
                    y_label=label,
                )
            )
    return drawings


def _facts(summary: dict[str, Any]) -> list[tuple[str, str]]:
    final, draws, memory = summary["final"], summary["draws"], summary["peak_memory_bytes"]
    rows = [
        ("device", summary["device"]),
        ("rays per step", f"{summary['rays']:,}"),
        ("samples per second", f"{summary['samples_per_second']:,.0f}"),
        ("parameters", f"{summary['num_parameters']:,}"),
        ("compilation", f"{summary['compile_seconds']:.1f} s"),
        ("evaluation during the run", f"{summary['eval_seconds']:.1f} s"),
        ("peak memory", "unknown" if memory is None else f"{memory / 2**20:,.0f} MiB"),
        ("held-out views", str(final["num_views"])),
        (
            "squared error held by the worst 1 % of their pixels",
            f"{final['error_held_by_worst']['0.01']:.0%}",
        ),
        ("rays that the draws' weights are worth", f"{draws['effective_sample_share']:.0%}"),
    ]
    if "entropy" in draws:
        rows.append(("entropy of the draws at the end, 1 is uniform", f"{draws['entropy']:.4f}"))
    if "seen" in draws:
        rows.append(("training pixels drawn at least once", f"{draws['seen']:.0%}"))
    if "depth_rmse" in final:
        rows += [
            ("depth error (RMSE, in the unit of the data)", f"{final['depth_rmse']:.4g}"),
            ("depth error over depth", f"{final['depth_relative']:.1%}"),
            ("depth right within a factor of 1.25", f"{final['depth_within_quarter']:.0%}"),
        ]
    rows += [(name, version) for name, version in summary["versions"].items()]
    return rows
