"""The same samplers on several data sets: a comparison in a folder each, and one page over all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import compare_kinds, compare_results, compare_runs, report_page, run_folder
from . import compare_statistics as statistics
from .compare_config import Comparison

SETS_NAME = "compare-sets.json"
_MARKS = {"better": "+", "worse": "−", "no clear difference": "=", "one seed": ""}


def start(
    comparisons: Mapping[str, tuple[Comparison, dict[str, Any]]],
    folder: Path,
    *,
    workers: int = 1,
) -> Any:
    """Begins comparisons in the folders of a new one.

    Args:
      comparisons: by data set, with what is already at hand for their runs.
      workers: how many runs are done side by side, see `compare_workers`.
    Raises:
      ValueError, OSError: for bad data, settings or folders of any of them, before anything is
        trained.
    """
    places = (folder / SETS_NAME, *(folder / name for name in ("", *comparisons)))
    if any(place.is_file() or (place / compare_runs.CONFIG_NAME).exists() for place in places):
        raise ValueError(
            f"{folder}: already holds comparisons; continue them with --resume {folder}, "
            "or choose another --out"
        )
    for comparison, at_hand in comparisons.values():
        compare_kinds.of(comparison).runner(comparison, **at_hand)
    run_folder.check_writable(folder)
    for name, (comparison, _) in comparisons.items():
        (folder / name).mkdir(exist_ok=True)
        compare_runs.write_config(comparison, folder / name)
    # last, so that a folder with this file holds everything that resuming needs
    run_folder.write_json(folder / SETS_NAME, {"sets": list(comparisons)})
    return _go_on({name: at_hand for name, (_, at_hand) in comparisons.items()}, folder, workers)


def resume(folder: Path, *, workers: int = 1) -> Any:
    """Goes on with comparisons: what is finished is kept.

    Raises:
      FileNotFoundError, ValueError: when there are none, or naming the broken field.
    """
    stored = run_folder.read_json(folder / SETS_NAME)
    names = stored.get("sets")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{folder / SETS_NAME}: sets must be a list of names, got {names!r}")
    return _go_on({name: {} for name in names}, folder, workers)


def is_one(folder: Path) -> bool:
    """Whether a folder holds comparisons on several data sets."""
    return (folder / SETS_NAME).is_file()


def _go_on(at_hand: dict[str, dict[str, Any]], folder: Path, workers: int) -> dict[str, Any]:
    results, names = {}, list(at_hand)
    for number, name in enumerate(names, start=1):
        print(f"data set {number} of {len(names)}: {name}")
        results[name] = compare_runs.resume(folder / name, workers=workers, **at_hand.pop(name))
    run_folder.write_json(folder / compare_runs.RESULTS_NAME, {"sets": results})
    _write_report(results, folder)
    return results


def table_rows(results: Mapping[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """One row per data set: the metric at equal steps and equal time, with verdicts as signs."""
    first = next(iter(results.values()))
    names = list(first["samplers"])
    header = ["data"]
    for title in ("equal steps", "equal time"):
        header += [f"{name}, {title}" for name in names]
    digits = compare_kinds.KINDS[first["job"]].digits
    rows = []
    for data, result in results.items():
        row = [data]
        for quantity in ("at_equal_steps", "at_equal_seconds"):
            outcomes = {
                verdict["sampler"]: verdict["outcome"]
                for verdict in result["verdicts"]
                if verdict["quantity"] == quantity
            }
            for name in names:
                numbers = result["samplers"][name][quantity]["values"]
                text = statistics.spread(numbers).text(digits) if numbers else ""
                row.append(f"{text} {_MARKS[outcomes[name]]}".strip() if name in outcomes else text)
        rows.append(row)
    return header, rows


def sentences(results: Mapping[str, dict[str, Any]]) -> list[str]:
    """Says how often each sampler beat the first one, and which runs stopped."""
    first = next(iter(results.values()))
    baseline, *others = first["samplers"]
    said = [
        f"{data}: {text}"
        for data, result in results.items()
        for text in compare_results.stopped(result)
    ]
    for name in others:
        for quantity, words in (("at_equal_steps", "steps"), ("at_equal_seconds", "time")):
            outcomes = [
                verdict["outcome"]
                for result in results.values()
                for verdict in result["verdicts"]
                if verdict["sampler"] == name and verdict["quantity"] == quantity
            ]
            judged = [outcome for outcome in outcomes if outcome != "one seed"]
            if judged:
                said.append(
                    f"{name} against {baseline} at equal {words}: better on "
                    f"{judged.count('better')}, worse on {judged.count('worse')} of "
                    f"{len(judged)} data sets."
                )
            elif outcomes:
                said.append(
                    f"{name} against {baseline} at equal {words}: one seed only, which tells "
                    "nothing of chance; use --seeds 3 or more."
                )
    return said


def _write_report(results: Mapping[str, dict[str, Any]], folder: Path) -> None:
    first = next(iter(results.values()))
    header, rows = table_rows(results)
    names = list(first["samplers"])
    turned = [list(line) for line in zip(header, *rows, strict=True)]
    parts = [report_page.paragraph(text) for text in sentences(results)]
    parts.append(report_page.table(turned[0], turned[1:]))
    parts.append(
        report_page.paragraph(
            f"{first['metric']} in {compare_kinds.KINDS[first['job']].unit}, {first['seeds']} "
            "paired seed(s) per sampler; + better, − worse, = no clear difference from "
            f"{names[0]}, by the 95 % interval of the paired difference. {first['device']}.",
            is_soft=True,
        )
    )
    parts.append(report_page.heading("Each data set"))
    parts.append(report_page.links((name, f"{name}/report.html") for name in results))
    page = report_page.page(
        f"Comparison: {' against '.join(names)}", f"{len(results)} data sets", parts
    )
    report_page.write(folder / "report.html", page)
