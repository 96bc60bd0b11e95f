"""Tables and verdicts of comparisons on the terminal."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from . import compare_report, compare_results, compare_sets

_SIDE_BY_SIDE = 3
"""Samplers that fit side by side on a terminal."""


def show(results: dict[str, Any], folder: Path) -> None:
    """Prints the table, one column per sampler, the verdicts, and where the report is.

    Many samplers would not fit side by side: they go down the page, with the first quantities.
    """
    console = Console(highlight=False, soft_wrap=True)
    header, rows, best = compare_report.table_rows(results)
    table = Table(box=None, header_style="bold", padding=(0, 2))
    table.add_column(results["data"])
    marked = [
        [
            f"[green]{cell}[/green]" if (number, place) in best else cell
            for place, cell in enumerate(row)
        ]
        for number, row in enumerate(rows)
    ]
    if len(rows) > _SIDE_BY_SIDE:
        for title in header[1:4]:
            table.add_column(title, justify="right")
        for row in marked:
            table.add_row(*row[:4])
    else:
        for row in rows:
            table.add_column(row[0], justify="right")
        for place in range(1, len(header)):
            table.add_row(header[place], *(row[place] for row in marked))
    console.print(table)
    for sentence in compare_results.sentences(results):
        console.print(sentence)
    print(f"report: {folder / 'report.html'}")


def show_sets(results: dict[str, dict[str, Any]], folder: Path) -> None:
    """Prints one column per data set, what the samplers won, and where the report is."""
    console = Console(highlight=False, soft_wrap=True)
    header, rows = compare_sets.table_rows(results)
    table = Table(box=None, header_style="bold", padding=(0, 2))
    table.add_column("")
    for row in rows:
        table.add_column(row[0], justify="right")
    for place in range(1, len(header)):
        table.add_row(header[place], *(row[place] for row in rows))
    console.print(table)
    for sentence in compare_sets.sentences(results):
        console.print(sentence)
    print(f"report: {folder / 'report.html'}")
