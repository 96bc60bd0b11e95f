"""Tables and verdicts of comparisons on the terminal."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from . import compare_report, compare_sets


def show(results: dict[str, Any], folder: Path) -> None:
    """Prints the table, one column per sampler, the verdicts, and where the report is."""
    console = Console(highlight=False, soft_wrap=True)
    header, rows, best = compare_report.table_rows(results)
    table = Table(box=None, header_style="bold", padding=(0, 2))
    table.add_column(results["data"])
    for row in rows:
        table.add_column(row[0], justify="right")
    for place in range(1, len(header)):
        cells = [
            f"[green]{row[place]}[/green]" if (number, place) in best else row[place]
            for number, row in enumerate(rows)
        ]
        table.add_row(header[place], *cells)
    console.print(table)
    for verdict in results["verdicts"]:
        console.print(verdict["sentence"])
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
