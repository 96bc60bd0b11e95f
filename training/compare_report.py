"""The report of a comparison: verdicts in words, one table, the curves, the pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from . import compare_kinds, compare_results, config_json, curves, report_page
from . import compare_statistics as statistics
from .compare_config import Comparison
from .compare_kinds import Column, Kind
from .curves import COLORS, Line


def table_rows(results: dict[str, Any]) -> tuple[list[str], list[list[str]], list[tuple[int, int]]]:
    """The table of a comparison: header, rows, and the cells with the best mean of a column."""
    names = list(results["samplers"])
    columns = [
        column
        for column in _columns(compare_kinds.KINDS[results["job"]], results["target"])
        if any(results["samplers"][name][column.name]["values"] for name in names)
    ]
    header = ["sampler"] + [column.title for column in columns]
    rows = [[name] for name in names]
    best = []
    for place, column in enumerate(columns, start=1):
        entries = [results["samplers"][name][column.name] for name in names]
        for row, entry in zip(rows, entries, strict=True):
            is_crossing = column.name.endswith("to_target")
            is_told = entry["values"] or is_crossing
            text = statistics.spread(entry["values"]).text(column.digits) if is_told else ""
            missing = results["seeds"] - len(entry["values"])
            if is_crossing and missing and entry["values"]:
                text += f" ({missing} never)"
            row.append(text)
        # a mean over the seeds that got there says nothing next to a sampler that always does
        complete = [
            round(entry["mean"], column.digits)
            for entry in entries
            if len(entry["values"]) == results["seeds"]
        ]
        if column.choose and len(complete) > 1 and min(complete) < max(complete):
            winner = column.choose(complete)
            best += [
                (number, place)
                for number, entry in enumerate(entries)
                if len(entry["values"]) == results["seeds"]
                and round(entry["mean"], column.digits) == winner
            ]
    return header, rows, best


def write(folder: Path, comparison: Comparison, results: dict[str, Any]) -> Path:
    """Writes report.html; returns its path."""
    kind = compare_kinds.of(comparison)
    header, rows, best = table_rows(results)
    parts = [report_page.paragraph(text) for text in compare_results.sentences(results)]
    # quantities are many and samplers few, so quantities go down the page
    across = [list(line) for line in zip(header, *rows, strict=True)]
    turned = [(place - 1, number + 1) for number, place in best]
    parts.append(report_page.table(across[0], across[1:], best=turned))
    facts = [f"{fact} {results[fact]}" for fact in kind.facts]
    about = ", ".join([f"{results['seeds']} paired seed(s) per sampler", *facts])
    parts.append(
        report_page.paragraph(
            f"{about}, {results['device']}. Training time "
            "only: compilation and evaluation do not count. ± is the standard deviation over "
            f"seeds. {kind.note}",
            is_soft=True,
        )
    )
    parts += _differences(results)
    parts.append(report_page.heading(kind.metric[0].upper() + kind.metric[1:]))
    parts.append(
        report_page.plots(
            [
                _plot(kind, results, 1, "Equal time", "seconds of training"),
                _plot(kind, results, 0, "Equal steps", "steps"),
            ]
        )
    )
    parts += kind.parts(folder, comparison, results)
    config = json.dumps(config_json.to_json(comparison), indent=2)
    parts.append(report_page.details("Configuration", config))
    names = " against ".join(results["samplers"])
    page = report_page.page(f"Comparison: {names}", f"{results['data']}", parts)
    path = folder / "report.html"
    report_page.write(path, page)
    return path


def _differences(results: dict[str, Any]) -> list[str]:
    """Every verdict as a cell, and below the tests that do not decide."""
    verdicts = results["verdicts"]
    if not verdicts:
        return []
    names = list(dict.fromkeys(verdict["sampler"] for verdict in verdicts))
    wanted = {verdict["what"]: verdict["unit"] for verdict in verdicts}
    found = {(verdict["sampler"], verdict["what"]): verdict for verdict in verdicts}
    cells = [[found.get((name, what)) for what in wanted] for name in names]
    head = [what if unit in what else f"{what}, {unit}" for what, unit in wanted.items()]
    rows = [
        [name, *(cell["shown"] if cell else "" for cell in row)]
        for name, row in zip(names, cells, strict=True)
    ]
    clear = [
        (number, place)
        for number, row in enumerate(cells)
        for place, cell in enumerate(row, start=1)
        if cell and cell["outcome"] in ("better", "worse")
    ]
    tests = [
        f"{verdict['sampler']}, {verdict['what']}: bootstrap interval "
        f"{verdict['bootstrap_interval'][0]:+.4g} to {verdict['bootstrap_interval'][1]:+.4g}, "
        f"sign test p = {verdict['sign_test']:.3g}"
        for verdict in verdicts
        if verdict["bootstrap_interval"]
    ]
    parts = [
        report_page.heading(f"Difference from {verdicts[0]['baseline']}"),
        report_page.table(["sampler", *head], rows, best=clear),
        report_page.paragraph(
            "Mean over the paired seeds with its 95 % interval; marked where it leaves out zero.",
            is_soft=True,
        ),
    ]
    if tests:
        parts.append(report_page.details("Bootstrap and sign tests", "\n".join(tests)))
    return parts


def _columns(kind: Kind, target: float) -> list[Column]:
    """What the table shows, in order."""

    def column(name, title, digits, choose):
        return Column(name, title, digits, choose, lambda run: None)

    shown = f"{target:.{max(kind.digits - 1, 1)}f}"
    return [
        kind.final,
        column("at_equal_steps", f"{kind.metric} at equal steps", kind.digits, max),
        column("at_equal_seconds", f"{kind.metric} at equal time", kind.digits, max),
        column("area", f"mean {kind.metric} over the steps", kind.digits, max),
        column("steps_to_target", f"steps to {kind.metric} {shown}", 0, min),
        column("seconds_to_target", f"seconds to {kind.metric} {shown}", 1, min),
        *kind.columns,
    ]


def _plot(kind: Kind, results: dict[str, Any], axis: int, title: str, label: str) -> str:
    """Mean and range of each sampler's curves, as far as all of them reach."""
    lines = []
    for (name, values), color in zip(results["samplers"].items(), COLORS * 9, strict=False):
        group = values["curves"]
        if not group:
            continue
        end = min(curve[-1][axis] for curve in group)
        places = [point[axis] for point in group[0] if point[axis] <= end]
        if not places or places[-1] < end:
            places.append(end)
        table = np.array(
            [[statistics.value_at(curve, place, axis=axis) for place in places] for curve in group]
        )
        many = len(group) > 1
        lines.append(
            Line(
                name,
                places,
                list(table.mean(axis=0)),
                color=color,
                low=list(table.min(axis=0)) if many else None,
                high=list(table.max(axis=0)) if many else None,
            )
        )
    y_label = kind.unit if kind.scale == 1.0 else "share"
    return curves.draw(lines, title=title, x_label=label, y_label=y_label, target=results["target"])
