"""Every command of the command line by name.

A command is a frozen dataclass whose fields are its flags and whose `run()` does the work and
returns the exit code. It is named here by module and class, and imported only when it is used, so
help is quick; a command's module must not import JAX at its top.
"""

import dataclasses
import importlib
from typing import ClassVar, Protocol


class Command(Protocol):
    """What a command class has to offer."""

    examples: ClassVar[str]
    """Lines shown under its help."""

    def run(self) -> int:
        """Does the work; returns the exit code."""
        ...


@dataclasses.dataclass(frozen=True)
class Entry:
    """One command: the words that call it, one line of help, and where its class is."""

    words: tuple[str, ...]
    summary: str
    module: str
    name: str

    def load(self) -> type[Command]:
        """Imports the command's class."""
        return getattr(importlib.import_module(self.module), self.name)


ENTRIES: tuple[Entry, ...] = (
    Entry(
        ("nerf",),
        "train a radiance field on posed images, evaluate it, save it",
        "training.nerf_command",
        "NerfCommand",
    ),
    Entry(
        ("voxels",),
        "shape a block world until its pictures look as they should, and export it",
        "training.voxels_command",
        "VoxelsCommand",
    ),
    Entry(
        ("motion",),
        "train a humanoid to track motions, evaluate it, film it, export it",
        "training.motion_command",
        "MotionCommand",
    ),
    Entry(
        ("compare", "nerf"),
        "train with several samplers at an equal budget and report who wins",
        "training.compare_command",
        "CompareNerfCommand",
    ),
    Entry(
        ("compare", "voxels"),
        "shape a block world with several camera samplers and report who wins",
        "training.compare_voxels_command",
        "CompareVoxelsCommand",
    ),
    Entry(
        ("compare", "motion"),
        "track motions with several samplers at equal steps and report who wins",
        "training.compare_motion_command",
        "CompareMotionCommand",
    ),
    Entry(
        ("render",),
        "render a run's views, an orbit or a camera path",
        "training.render_command",
        "RenderCommand",
    ),
    Entry(("view",), "look around in a run from a browser", "training.view_command", "ViewCommand"),
    Entry(
        ("export",),
        "write a run's mesh, points or policy for other programs",
        "training.export_command",
        "ExportCommand",
    ),
    Entry(
        ("replay",),
        "repeat the step that stopped a run with NaN and say where it came from",
        "training.replay_command",
        "ReplayCommand",
    ),
    Entry(
        ("doctor",),
        "check this installation: versions, devices, caches, known faults",
        "training.doctor",
        "DoctorCommand",
    ),
)


def find(words: list[str]) -> tuple[Entry, list[str]]:
    """Finds the command that the words begin with, and what is left of them.

    Raises:
      ValueError: when no command fits, listing those that do.
    """
    for entry in ENTRIES:
        if tuple(words[: len(entry.words)]) == entry.words:
            return entry, words[len(entry.words) :]
    jobs = [entry.words[1] for entry in ENTRIES if words and entry.words[0] == words[0]]
    if jobs:
        got = f", got {words[1]!r}" if len(words) > 1 else ""
        raise ValueError(f"hardlight {words[0]} needs a job: one of {', '.join(jobs)}{got}")
    known = dict.fromkeys(entry.words[0] for entry in ENTRIES)
    raise ValueError(f"no command {words[0]!r}; commands: {', '.join(known)}")
