"""What a person sees while a run works: a live bar on a terminal, plain lines elsewhere."""

import collections
import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

_PLAIN_EVERY = 10.0
_RATE_SECONDS = 2.0


class LateRate:
    """How fast something is counted, over at least the last two seconds.

    The time between two groups of steps says little: a device may have done the second before
    anyone waits for it.

    Examples:
      >>> rate = LateRate(0.0, 0)
      >>> [round(rate.add(*now)) for now in [(1.0, 10), (1.001, 20), (4.0, 50)]]
      [10, 20, 10]
    """

    def __init__(self, seconds: float, count: int):
        """Begins where a clock and a count are."""
        self._lately = collections.deque([(seconds, count)])

    def add(self, seconds: float, count: int) -> float:
        """Takes in where they are now, and gives the rate per second."""
        while len(self._lately) > 1 and self._lately[1][0] <= seconds - _RATE_SECONDS:
            self._lately.popleft()
        self._lately.append((seconds, count))
        first = self._lately[0]
        return (count - first[1]) / max(seconds - first[0], 1e-9)


class ProgressView:
    """Shows how far a run is, its rates and the time left; a context manager.

    Args:
      total: steps of the run, if they are counted.
      seconds: of training after which it ends, if they are.
      unit: what is counted.
    """

    def __init__(
        self, total: int | None, *, title: str, seconds: float | None = None, unit: str = "step"
    ):
        self._total, self._title, self._budget, self._unit = total, title, seconds, unit
        self._started_at = (0, 0.0)
        self._console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
        self._live: Progress | None = None
        self._task: Any = None
        self._last_plain = -_PLAIN_EVERY
        self._is_complete = False

    def __enter__(self) -> "ProgressView":
        if self._console.is_terminal:
            of_total = "" if self._total is None else f"/{self._total}"
            live = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[step]}" + of_total),
                TextColumn("{task.fields[status]}"),
                console=self._console,
            )
            live.start()
            total = self._budget if self._total is None else self._total
            self._task = live.add_task(self._title, total=total, step=0, status="")
            self._live = live
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        self._console.print(text)

    def update(self, step: int, *, train_seconds: float, status: str) -> None:
        """Shows where the run is.

        Args:
          train_seconds: of training, in this process and before.
          status: rates and results, in a few words.
        """
        left = self._seconds_left(step, train_seconds)
        status = f"{status}  {duration(left)} left" if left is not None else status
        if self._live is not None:
            done = step if self._total is not None else train_seconds
            self._live.update(self._task, completed=done, step=step, status=status)
        elif time.monotonic() - self._last_plain >= _PLAIN_EVERY or (
            step == self._total and not self._is_complete
        ):
            self._is_complete = step == self._total
            self._last_plain = time.monotonic()
            total = "" if self._total is None else f"/{self._total}"
            self.say(f"{self._title}: {self._unit} {step}{total}  {status}")

    def start_at(self, step: int, train_seconds: float) -> None:
        """Says where this process begins, for the time left."""
        self._started_at = (step, train_seconds)

    def _seconds_left(self, step: int, train_seconds: float) -> float | None:
        first_step, first_seconds = self._started_at
        lefts = []
        if self._total is not None and step > first_step:
            pace = (train_seconds - first_seconds) / (step - first_step)
            lefts.append(pace * (self._total - step))
        if self._budget is not None:
            lefts.append(max(0.0, self._budget - train_seconds))
        return min(lefts, default=None)


def duration(seconds: float) -> str:
    """Writes a time as people do: 42 s, 3 min 10 s, 2 h 05 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
