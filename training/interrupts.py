"""Stopping a run politely: the first Ctrl-C or SIGTERM asks, the second insists."""

import signal
import sys
import threading
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Becomes true when the user or the system asks the process to stop; a context manager."""

    def __init__(self) -> None:
        self.is_set = False
        self._old: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._old = {number: signal.signal(number, self._ask) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Ends the process if it was asked to stop, however late the work inside noticed.

        Raises:
          SystemExit: 130, so that what would come next, as in a comparison, does not begin.
        """
        for number, handler in self._old.items():
            signal.signal(number, handler)
        if self.is_set and kind is None:
            sys.exit(130)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.is_set:
            raise KeyboardInterrupt
        self.is_set = True
