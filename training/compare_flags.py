"""What the `compare` commands have in common."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compare_config import Comparison


def sampler_names(text: str) -> list[str]:
    """Splits the names given to --samplers."""
    return [name.strip() for name in text.split(",") if name.strip()]


def run(
    make: "Callable[[], Mapping[str, tuple[Comparison, dict[str, Any]]]]",
    *,
    resume: str | None,
    out: str | None,
    name: str,
) -> int:
    """Does a new comparison, or goes on with an old one, and shows what came out.

    Args:
      make: builds the new one of each data set, and what is already at hand for its runs.
      name: of the folder when `out` does not say.
    Raises:
      ValueError, OSError: as `compare_runs` does, and when both a new folder and an old one are
        named.
    """
    if resume is not None and out is not None:
        raise ValueError("--resume writes into the comparison's own folder; leave out --out")
    from . import compare_runs, compare_sets, run_folder, terminal_table

    if resume is not None:
        folder = Path(resume)
        if compare_sets.is_one(folder):
            terminal_table.show_sets(compare_sets.resume(folder), folder)
        else:
            terminal_table.show(compare_runs.resume(folder), folder)
        return 0
    comparisons = make()
    folder = Path(out or run_folder.unused("runs", name))
    if len(comparisons) > 1:
        terminal_table.show_sets(compare_sets.start(comparisons, folder), folder)
    else:
        ((comparison, at_hand),) = comparisons.values()
        terminal_table.show(compare_runs.start(comparison, folder, **at_hand), folder)
    return 0


def by_name(paths: Iterable[str], what: str) -> dict[str, str]:
    """Names inputs by their last part, for folders.

    Raises:
      ValueError: when two would share a name.
    """
    found: dict[str, str] = {}
    for path in paths:
        name = re.sub(r"[^\w.-]+", "-", Path(path.rstrip("/").split(":")[-1]).name)
        if name in found:
            raise ValueError(f"{what} {found[name]} and {path} would share the folder {name}")
        found[name] = path
    return found
