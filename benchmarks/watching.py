"""Watches a long run from inside its process: resident memory, compilations, and their trend."""

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

_COMPILED = "/jax/core/compile/backend_compile_duration"


class Watch:
    """Notes [place, resident bytes] when told to, and when something is compiled.

    A place is whatever the caller counts: updates, or seconds.
    """

    def __init__(self):
        from jax import monitoring

        self.points: list[tuple[float, int]] = []
        self.compilations: list[float] = []
        """Seconds since the start of the watch of everything compiled or fetched from a cache."""
        self.began = time.perf_counter()
        monitoring.register_event_duration_secs_listener(self._heard)

    def note(self, place: float) -> None:
        """Reads the memory once."""
        self.points.append((place, resident_bytes()))

    def seconds(self) -> float:
        """Seconds since the start of the watch."""
        return time.perf_counter() - self.began

    def close(self) -> None:
        """Stops listening."""
        from jax import monitoring

        monitoring.unregister_event_duration_listener(self._heard)

    def _heard(self, event: str, duration: float, **_: Any) -> None:
        if event == _COMPILED:
            self.compilations.append(self.seconds())


class Metronome:
    """Notes the memory of a watch from a thread of its own, at seconds of the watch."""

    def __init__(self, watch: Watch, *, every: float):
        self._watch, self._every, self._stop = watch, every, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Metronome":
        """Starts."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops and waits for the thread."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self._watch.note(self._watch.seconds())


def resident_bytes() -> int:
    """Memory of this process that is in RAM now.

    Raises:
      OSError: where there is no /proc.
    """
    if not sys.platform.startswith("linux"):
        raise OSError(f"resident memory is read from /proc, which {sys.platform} has not")
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def memory_trend(points: list[tuple[float, int]], *, skip: float = 0.2) -> dict[str, float]:
    """Fits a line to memory after a warm-up.

    Args:
      skip: share of the places at the start that is left out.
    Returns:
      `slope` in bytes per place; `growth` and `scatter`, in bytes: slope times the length of the
      fit, and the standard deviation about the line; `first` and `last`, in bytes; `skipped`.
    Raises:
      ValueError: when fewer than three points are left.
    """
    places, sizes = np.asarray(points, np.float64).T
    skipped = places[0] + skip * (places[-1] - places[0])
    is_used = places >= skipped
    if is_used.sum() < 3:
        raise ValueError(f"a trend needs 3 points after the warm-up, got {is_used.sum()}")
    places, sizes = places[is_used], sizes[is_used]
    slope, level = np.polyfit(places - places[0], sizes, 1)
    residual = sizes - level - slope * (places - places[0])
    return {
        "slope": float(slope),
        "growth": float(slope * (places[-1] - places[0])),
        "scatter": float(residual.std()),
        "first": float(sizes[0]),
        "last": float(sizes[-1]),
        "skipped": float(skipped),
    }
