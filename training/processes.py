"""Several processes as one run: joining them, and agreeing on everything that is not computed.

Each process of a run drives its own devices and executes the same program. What the program
computes is the same everywhere; what a process reads from its surroundings is not: the clock,
signals, files. The first process (number 0) reads those for all, or all say what they found and
everyone acts on it. Alone, every function does the plain thing at no cost.

Only the first process prints and writes.
"""

import contextlib
import dataclasses
import json
import os
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from .interrupts import StopRequest

Value = TypeVar("Value")

AUTO = "auto"
VARIABLES = {
    "coordinator": "JAX_COORDINATOR_ADDRESS",
    "num_processes": "JAX_NUM_PROCESSES",
    "process_id": "JAX_PROCESS_ID",
}
_MESSAGE_BYTES = 600


@dataclasses.dataclass(frozen=True, kw_only=True)
class Joining:
    """Which processes belong together, and which of them this one is.

    Attributes:
      coordinator: host and port at which the first process waits for the others; AUTO lets JAX
        find all three out from SLURM, Open MPI, Kubernetes or a TPU pod.
      num_processes: of the run.
      process_id: of this one, from 0.
    """

    coordinator: str
    num_processes: int = 1
    process_id: int = 0

    def __post_init__(self):
        """Refuses addresses and numbers that cannot be."""
        if self.coordinator == AUTO:
            return
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdigit():
            raise ValueError(f"the coordinator must be HOST:PORT or auto, got {self.coordinator!r}")
        if not 0 <= self.process_id < self.num_processes:
            raise ValueError(
                "process ids count from 0 to the number of processes - 1, "
                f"got {self.process_id} of {self.num_processes}"
            )


def joining(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
) -> Joining | None:
    """Puts flags and environment variables together, flags first; None when neither says anything.

    Raises:
      ValueError: when only a part is given, naming what is missing, or a value cannot be.
    """
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    found: dict[str, Any] = {
        name: environ.get(VARIABLES[name]) if value is None else value
        for name, value in given.items()
    }
    if coordinator == AUTO:
        if num_processes is not None or process_id is not None:
            raise ValueError(
                "--coordinator auto finds out the processes by itself; drop the others"
            )
        return Joining(coordinator=AUTO)
    missing = [name for name, value in found.items() if value in (None, "")]
    if len(missing) == len(found):
        return None
    if missing:
        words = [f"--{name.replace('_', '-')} (or {VARIABLES[name]})" for name in missing]
        raise ValueError(f"a run of several processes also needs {' and '.join(words)}")
    for name in ("num_processes", "process_id"):
        try:
            found[name] = int(found[name])
        except ValueError as error:
            raise ValueError(
                f"{VARIABLES[name]} must be a whole number, got {found[name]!r}"
            ) from error
    return Joining(**found)


def join(asked: Joining) -> None:
    """Joins the other processes and silences all but the first; before JAX has found its devices.

    Raises:
      RuntimeError: when the others are not found.
    """
    import jax

    try:
        if asked.coordinator == AUTO:
            jax.distributed.initialize()
        else:
            jax.distributed.initialize(
                coordinator_address=asked.coordinator,
                num_processes=asked.num_processes,
                process_id=asked.process_id,
            )
    except (ValueError, RuntimeError) as error:
        hint = (
            "JAX found no cluster around this process (SLURM, Open MPI, Kubernetes, TPU pod); "
            "say --coordinator HOST:PORT --num-processes N --process-id I"
            if asked.coordinator == AUTO
            else f"process {asked.process_id} of {asked.num_processes} at {asked.coordinator}"
        )
        raise RuntimeError(f"the processes could not be joined: {hint}: {error}") from error
    if not is_first():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def count() -> int:
    """Processes of this run."""
    import jax

    return jax.process_count()


def is_first() -> bool:
    """Whether this process is the one that prints and writes."""
    import jax

    return jax.process_index() == 0


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Lets an error in one process end all of them, instead of leaving the others waiting.

    Every process has to come here; nobody leaves before the last one.
    Raises:
      RuntimeError: in the first process, for an error of another one, naming it.
      SystemExit: in the other processes, which do not print.
    """
    if count() == 1:
        yield
        return
    error: Exception | None = None
    try:
        yield
    except (ValueError, OSError, RuntimeError) as raised:
        error = raised
    text = "" if error is None else (str(error).strip() or type(error).__name__)
    messages = _everyones(text.encode()[:_MESSAGE_BYTES].ljust(_MESSAGE_BYTES, b"\0"))
    said = [message.rstrip(b"\0").decode(errors="replace") for message in messages]
    if not any(said):
        return
    if not is_first():
        raise SystemExit(2)
    if error is not None:
        raise error
    number = next(index for index, words in enumerate(said) if words)
    raise RuntimeError(f"process {number}: {said[number]}")


def told_by_first(make: Callable[[], Value]) -> Value:
    """Lets the first process make a JSON value and tells all; an error in making it ends all."""
    if count() == 1:
        return make()
    value: Any = None
    with together():
        if is_first():
            value = make()
    from jax.experimental import multihost_utils

    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(text.size)))
    padded = text if is_first() else np.zeros(size, np.uint8)
    told = multihost_utils.broadcast_one_to_all(padded)
    return json.loads(np.asarray(told, np.uint8).tobytes())


def clock() -> Callable[[], float]:
    """A clock that shows the same time to all processes, in seconds: decisions by it agree.

    Every process has to ask it equally often.
    """
    if count() == 1:
        return time.perf_counter
    return lambda: struct.unpack("d", _everyones(struct.pack("d", time.perf_counter()))[0])[0]


class AnyStop:
    """A stop request that is heard by all processes when one of them was asked to stop."""

    def __init__(self, own: StopRequest):
        self._own = own

    @property
    def is_set(self) -> bool:
        """Whether any process was asked; every process has to look equally often."""
        if count() == 1:
            return self._own.is_set
        return any(flag != b"\0" for flag in _everyones(bytes([self._own.is_set])))


def _everyones(message: bytes) -> list[bytes]:
    """What every process says, in their order; all messages have one length."""
    from jax.experimental import multihost_utils

    rows = multihost_utils.process_allgather(np.frombuffer(message, np.uint8))
    return [np.asarray(row, np.uint8).tobytes() for row in rows]
