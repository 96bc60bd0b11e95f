"""The log of a run: metrics.jsonl and TensorBoard event files, written together.

A resumed run first drops the rows after its checkpoint, so a curve never runs twice through the
same steps. Event files cannot be shortened; they carry TensorBoard's own mark that says from which
step on older events are void.
"""

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# not tensorboardX's SummaryWriter, whose thread dies of a full disk and leaves the run waiting
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore
from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore

from .run_folder import RunFolder, write_text


class RunLog:
    """Appends rows to a run's metrics; each row is on disk when `write` returns.

    Without a folder, as in all processes of a run but the first, nothing is written.
    """

    def __init__(self, folder: RunFolder | None, *, resumed_at: int | None = None):
        self._file = self._events = None
        if folder is None:
            return
        if resumed_at is not None:
            keep_rows(folder.metrics, last_step=resumed_at)
        self._file = folder.metrics.open("a", encoding="utf-8")
        self._events = EventsWriter(str(folder.path / "events"), f".{os.getpid()}")
        if resumed_at is not None:
            self._void_from(resumed_at + 1)

    def write(self, step: int, values: Mapping[str, float | int], *, group: str = "train") -> None:
        """Adds one row; numbers that are not finite become null.

        Args:
          group: prefix in TensorBoard, and the row's "kind".
        """
        if self._file is None or self._events is None:
            return
        row: dict[str, Any] = {"kind": group, "step": step}
        known: dict[str, float | int] = {}
        for name, value in values.items():
            is_number = isinstance(value, int) or math.isfinite(value)
            row[name] = value if is_number else None
            if is_number:
                known[f"{group}/{name}"] = value
        try:
            self._file.write(json.dumps(row, allow_nan=False) + "\n")
            self._file.flush()
            self._add_scalars(step, known)
        except OSError as error:
            raise OSError(f"{self._file.name} could not be written: {error.strerror}") from error

    def _add_scalars(self, step: int, values: Mapping[str, float | int]) -> None:
        assert self._events is not None
        parts = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=parts))
        self._events.write_event(event)
        self._events.flush()

    def _void_from(self, step: int) -> None:
        """Tells TensorBoard that events of this step and later ones in older files do not count."""
        assert self._events is not None
        start = SessionLog(status=SessionLog.START)
        self._events.write_event(Event(wall_time=time.time(), step=step, session_log=start))

    def close(self) -> None:
        """Closes both files.

        Raises:
          OSError: when what is left could not be written, unless another error is on its way.
        """
        if self._file is None or self._events is None:
            return
        on_its_way = sys.exception()
        try:
            self._file.close()
            self._events.close()
        except OSError as error:
            if on_its_way is None:
                raise OSError(f"{self._file.name} could not be written: {error}") from error


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Reads the rows of a metrics.jsonl; a last line that was cut off is left out.

    Raises:
      ValueError: for a broken line elsewhere, naming file and line.
    """
    if not path.exists():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines) and not line.endswith(b"\n"):
                return
            raise ValueError(f"{path}: line {number} is not valid JSON: {error}") from error
        if not isinstance(row, dict) or type(row.get("step")) is not int:
            raise ValueError(f"{path}: line {number} is no row of metrics, it has no step")
        yield row


def keep_rows(path: Path, *, last_step: int) -> None:
    """Drops the rows of later steps, in one step."""
    rows = [row for row in read_rows(path) if row["step"] <= last_step]
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
