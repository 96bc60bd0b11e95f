"""The report of a comparison: verdicts in words, one table, the curves, the pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from . import compare_statistics as statistics
from . import config_json, curves, pictures, report_page
from .compare_config import NerfComparison, run_name
from .curves import COLORS, Line
from .run_folder import RunFolder

_COLUMNS = (
    ("final_psnr", "final PSNR, all pixels (dB)", 2, max),
    ("psnr_at_equal_steps", "PSNR at equal rays (dB)", 2, max),
    ("psnr_at_equal_seconds", "PSNR at equal time (dB)", 2, max),
    ("final_ssim", "SSIM", 4, max),
    ("steps_to_target", "steps to {target:.1f} dB", 0, min),
    ("seconds_to_target", "seconds to {target:.1f} dB", 1, min),
    ("rays_per_second", "rays per second", 0, max),
)


def table_rows(results: dict[str, Any]) -> tuple[list[str], list[list[str]], list[tuple[int, int]]]:
    """The table of a comparison: header, rows, and the cells with the best mean of a column."""
    names = list(results["samplers"])
    columns = [
        column
        for column in _COLUMNS
        if any(results["samplers"][name][column[0]]["values"] for name in names)
    ]
    header = ["sampler"] + [text.format(target=results["target_psnr"]) for _, text, _, _ in columns]
    rows = [[name] for name in names]
    best = []
    for place, (quantity, _, digits, choose) in enumerate(columns, start=1):
        entries = [results["samplers"][name][quantity] for name in names]
        for row, entry in zip(rows, entries, strict=True):
            text = statistics.spread(entry["values"]).text(digits)
            missing = results["seeds"] - len(entry["values"])
            if quantity.endswith("to_target") and missing and entry["values"]:
                text += f" ({missing} never)"
            row.append(text)
        # a mean over the seeds that got there says nothing next to a sampler that always does
        complete = [
            round(entry["mean"], digits)
            for entry in entries
            if len(entry["values"]) == results["seeds"]
        ]
        if len(complete) > 1 and min(complete) < max(complete):
            winner = choose(complete)
            best += [
                (number, place)
                for number, entry in enumerate(entries)
                if len(entry["values"]) == results["seeds"]
                and round(entry["mean"], digits) == winner
            ]
    return header, rows, best


def write(
    folder: Path,
    comparison: NerfComparison,
    results: dict[str, Any],
    summaries: dict[str, dict[str, Any]],
) -> Path:
    """Writes report.html; returns its path."""
    header, rows, best = table_rows(results)
    parts = [report_page.paragraph(verdict["sentence"]) for verdict in results["verdicts"]]
    parts.append(report_page.table(header, rows, best=best))
    parts.append(
        report_page.paragraph(
            f"{results['seeds']} paired seed(s) per sampler, {results['rays_per_step']:,} rays a "
            f"step, {results['device']}. Training time only: compilation and evaluation do not "
            "count. ± is the standard deviation over seeds. The first column is measured on every "
            "held-out pixel, the others on the curve's fixed lattice of held-out pixels.",
            is_soft=True,
        )
    )
    parts.append(report_page.heading("Held-out PSNR"))
    parts.append(
        report_page.plots(
            [
                _plot(comparison, summaries, 1, "Equal time", "seconds of training", results),
                _plot(comparison, summaries, 0, "Equal rays", "steps", results),
            ]
        )
    )
    parts.append(report_page.heading("The same held-out view, first seed"))
    parts += _held_out_pictures(folder, comparison)
    parts.append(report_page.heading("What the samplers look at"))
    parts += _density_pictures(folder, comparison)
    parts.append(
        report_page.details("Configuration", json.dumps(config_json.to_json(comparison), indent=2))
    )
    names = " against ".join(sampler.name for sampler in comparison.samplers)
    page = report_page.page(f"Comparison: {names}", f"{results['data']}", parts)
    path = folder / "report.html"
    report_page.write(path, page)
    return path


def _plot(
    comparison: NerfComparison,
    summaries: dict[str, dict[str, Any]],
    axis: int,
    title: str,
    label: str,
    results: dict[str, Any],
) -> str:
    lines = []
    for sampler, color in zip(comparison.samplers, COLORS * 9, strict=False):
        group = [
            summaries[run_name(job)]["curve"] for job in comparison.runs() if job.sampler == sampler
        ]
        end = min(curve[-1][axis] for curve in group)
        places = [point[axis] for point in group[0] if point[axis] <= end]
        if places[-1] < end:
            places.append(end)
        table = np.array(
            [[statistics.value_at(curve, place, axis=axis) for place in places] for curve in group]
        )
        many = len(group) > 1
        lines.append(
            Line(
                sampler.name,
                places,
                list(table.mean(axis=0)),
                color=color,
                low=list(table.min(axis=0)) if many else None,
                high=list(table.max(axis=0)) if many else None,
            )
        )
    return curves.draw(
        lines, title=title, x_label=label, y_label="dB", target=results["target_psnr"]
    )


def _held_out_pictures(folder: Path, comparison: NerfComparison) -> list[str]:
    return [
        report_page.picture(image, f"{name}: rendered, truth, error, depth")
        for name, image in _first_seed(folder, comparison, "test-000-beside-truth.png")
    ]


def _density_pictures(folder: Path, comparison: NerfComparison) -> list[str]:
    photo = _first_seed(folder, comparison, "sampler-000-photo.png")
    densities = _first_seed(folder, comparison, "sampler-000-density.png")
    if not photo or not densities:
        return []
    joined = pictures.side_by_side([photo[0][1], *(image for _, image in densities)])
    names = ", ".join(name for name, _ in densities)
    caption = (
        f"The first training view, then how often its pixels are drawn at the end by {names}: "
        "red up to 8 times as often as uniform, grey the same, blue down to an eighth."
    )
    return [report_page.picture(joined, caption)]


def _first_seed(
    folder: Path, comparison: NerfComparison, file: str
) -> list[tuple[str, UInt8[np.ndarray, "rows cols 3"]]]:
    """One picture of each sampler's first run, where there is one."""
    found = []
    for sampler in comparison.samplers:
        run = next(job for job in comparison.runs() if job.sampler == sampler)
        path = RunFolder(folder / run_name(run)).images / file
        if path.is_file():
            with Image.open(path) as picture:
                found.append((sampler.name, np.asarray(picture.convert("RGB"))))
    return found
