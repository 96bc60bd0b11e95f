"""What a person sees while a run works: a live bar on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

_PLAIN_EVERY = 10.0


class ProgressView:
    """Shows rays per second, PSNR and time left; a context manager."""

    def __init__(self, total: int, *, title: str, seconds: float | None = None):
        self._total, self._title, self._budget = total, title, seconds
        self._console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
        self._live: Progress | None = None
        self._task: Any = None
        self._last_plain = -_PLAIN_EVERY

    def __enter__(self) -> "ProgressView":
        if self._console.is_terminal:
            live = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[status]}"),
                console=self._console,
            )
            live.start()
            self._task = live.add_task(self._title, total=self._total, status="")
            self._live = live
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        self._console.print(text)

    def update(
        self,
        step: int,
        *,
        train_seconds: float,
        started_at: tuple[int, float],
        rays_per_second: float,
        train_psnr: float,
        test_psnr: float | None,
    ) -> None:
        """Shows where the run is.

        Args:
          started_at: step and seconds at which this process began, for the time left.
          train_psnr: of the rays drawn lately.
          test_psnr: latest held-out value, if any.
        """
        first_step, first_seconds = started_at
        pace = (train_seconds - first_seconds) / max(1, step - first_step)
        left = pace * (self._total - step)
        if self._budget is not None:
            left = min(left, max(0.0, self._budget - train_seconds))
        held_out = "" if test_psnr is None else f"  held-out {test_psnr:.2f} dB"
        status = (
            f"{rays_per_second:,.0f} rays/s  train {train_psnr:.2f} dB{held_out}  "
            f"{duration(left)} left"
        )
        if self._live is not None:
            self._live.update(self._task, completed=step, status=status)
        elif time.monotonic() - self._last_plain >= _PLAIN_EVERY or step >= self._total:
            self._last_plain = time.monotonic()
            self.say(f"{self._title}: step {step}/{self._total}  {status}")


def duration(seconds: float) -> str:
    """Writes a time as people do: 42 s, 3 min 10 s, 2 h 05 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
