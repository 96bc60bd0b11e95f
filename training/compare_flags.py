"""What the `compare` commands have in common."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import config_json

if TYPE_CHECKING:
    from .compare_config import Comparison
    from .sampler_config import SamplerConfig


def sampler_names(text: str) -> dict[str, str]:
    """Reads --samplers: the samplers' names, each by what the comparison calls it.

    Raises:
      ValueError: for a label twice, or one that cannot be a folder's name.
    """
    found: dict[str, str] = {}
    for word in text.split(","):
        label, is_labelled, name = (part.strip() for part in word.partition("="))
        if not label:
            continue
        if label in found:
            raise ValueError(f"--samplers: {label} is there twice; tell them apart: LABEL={label}")
        if not re.fullmatch(r"[\w.-]*\w[\w.-]*", label):
            raise ValueError(f"--samplers: {label!r} cannot name a folder")
        found[label] = name if is_labelled else label
    return found


def split_options(
    names: Iterable[str], assignments: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, dict[str, str]]]:
    """Parts what is set for every run from what is set for one sampler (LABEL:NAME=VALUE).

    Raises:
      ValueError: for a label that is not compared, or a word that is no assignment.
    """
    known, shared = set(names), []
    options: dict[str, dict[str, str]] = {}
    for name, value in config_json.parse_assignments(assignments, "--set").items():
        label, is_option, option = name.partition(":")
        if not is_option:
            shared.append(f"{name}={value}")
        elif label in known:
            options.setdefault(label, {})[option] = value
        else:
            raise ValueError(f"--set {name}: {label} is not among the samplers compared")
    return tuple(shared), options


def samplers(names: str, assignments: Sequence[str]) -> "tuple[SamplerConfig, ...]":
    """Builds what is compared, from --samplers and --set.

    Raises:
      ValueError: as `sampler_names` and `split_options` do.
    """
    from . import sampler_config

    named = sampler_names(names)
    _, options = split_options(named, assignments)
    return tuple(
        sampler_config.typed(name, options.get(label, {}), label="" if label == name else label)
        for label, name in named.items()
    )


def run(
    make: "Callable[[], Mapping[str, tuple[Comparison, dict[str, Any]]]]",
    *,
    resume: str | None,
    out: str | None,
    name: str,
    workers: int,
) -> int:
    """Does a new comparison, or goes on with an old one, and shows what came out.

    Args:
      make: builds the new one of each data set, and what is already at hand for its runs.
      name: of the folder when `out` does not say.
      workers: how many runs are done side by side.
    Raises:
      ValueError, OSError: as `compare_runs` does, and when both a new folder and an old one are
        named.
    """
    if resume is not None and out is not None:
        raise ValueError("--resume writes into the comparison's own folder; leave out --out")
    from . import compare_runs, compare_sets, compare_workers, run_folder, terminal_table

    compare_workers.prepare(workers)
    if resume is not None:
        folder = Path(resume)
        if compare_sets.is_one(folder):
            terminal_table.show_sets(compare_sets.resume(folder, workers=workers), folder)
        else:
            terminal_table.show(compare_runs.resume(folder, workers=workers), folder)
        return 0
    comparisons = make()
    for comparison, _ in comparisons.values():
        compare_workers.check(comparison, workers)
    if workers > 1:  # each worker loads for itself
        comparisons = {name: (comparison, {}) for name, (comparison, _) in comparisons.items()}
    folder = Path(out or run_folder.unused("runs", name))
    if len(comparisons) > 1:
        terminal_table.show_sets(compare_sets.start(comparisons, folder, workers=workers), folder)
    else:
        ((comparison, at_hand),) = comparisons.values()
        results = compare_runs.start(comparison, folder, workers=workers, **at_hand)
        terminal_table.show(results, folder)
    return 0


def by_name(paths: Iterable[str], what: str) -> dict[str, str]:
    """Names inputs by their last part, for folders.

    Raises:
      ValueError: when two would share a name.
    """
    from . import run_folder

    found: dict[str, str] = {}
    for path in paths:
        name = run_folder.name_of(path)
        if name in found:
            raise ValueError(f"{what} {found[name]} and {path} would share the folder {name}")
        found[name] = path
    return found
