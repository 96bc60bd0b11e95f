"""What the `compare` commands have in common."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compare_config import Comparison


def sampler_names(text: str) -> list[str]:
    """Splits the names given to --samplers."""
    return [name.strip() for name in text.split(",") if name.strip()]


def run(
    make: "Callable[[], tuple[Comparison, dict[str, Any]]]",
    *,
    resume: str | None,
    out: str | None,
    name: str,
) -> int:
    """Does a new comparison, or goes on with an old one, and shows what came out.

    Args:
      make: builds the new one, and what is already at hand for its runs.
      name: of its folder when `out` does not say.
    Raises:
      ValueError, OSError: as `compare_runs` does, and when both a new folder and an old one are
        named.
    """
    if resume is not None and out is not None:
        raise ValueError("--resume writes into the comparison's own folder; leave out --out")
    from . import compare_runs, run_folder, terminal_table

    if resume is not None:
        folder = Path(resume)
        results = compare_runs.resume(folder)
    else:
        comparison, at_hand = make()
        folder = Path(out or run_folder.unused("runs", name))
        results = compare_runs.start(comparison, folder, **at_hand)
    terminal_table.show(results, folder)
    return 0
