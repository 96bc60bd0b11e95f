"""Runs of a comparison side by side: processes that each have cores, or a GPU, of their own.

The steps of a small model use many cores badly, so two runs with one core each end sooner than the
two in turn on both. All runs of a seed are done by one worker, in turn: what is paired meets the
same conditions, and times can still be compared. Times of different seeds may not.

`run` starts the workers, waits and shows how many runs are done; what a worker would have printed
is in worker-K.log in the comparison's folder. A worker stops, as by Ctrl-C, when its standard input
ends: when `run` was asked to stop, and also when this process was killed.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import jax

from . import runtime
from .compare_config import Comparison, run_name
from .interrupts import StopRequest
from .progress import ProgressView
from .run_folder import RunFolder

_LOOK_EVERY = 0.5
_PREALLOCATE = "XLA_PYTHON_CLIENT_PREALLOCATE"


def prepare(count: int) -> None:
    """Sets up the process that will start workers, so that it leaves GPUs' memory to them."""
    if count > 1:
        os.environ.setdefault(_PREALLOCATE, "false")
    runtime.prepare()


def run(comparison: Comparison, folder: Path, count: int) -> None:
    """Does the runs that are not done in `count` processes; returns when all are.

    Raises:
      ValueError: as `check` does.
      ChildProcessError: when a worker failed, with the end of what it said; the others finish.
    """
    check(comparison, count)
    runs = [RunFolder(folder / run_name(job)) for job in comparison.runs()]
    logs = [folder / f"worker-{index + 1}.log" for index in range(count)]
    print(f"{count} runs side by side; what each of them says: {logs[0]} ...")
    workers = [_start(folder, index, count, log) for index, log in enumerate(logs)]
    began = time.monotonic()
    try:
        with (
            StopRequest() as stop,
            ProgressView(len(runs), title=folder.name, unit="run") as view,
        ):
            view.start_at(_num_done(runs), 0.0)
            while any(worker.poll() is None for worker in workers) and not stop.is_set:
                seconds = time.monotonic() - began
                view.update(_num_done(runs), train_seconds=seconds, status="done")
                time.sleep(_LOOK_EVERY)
            _end(workers)
    finally:
        _end(workers)
    for worker, log in zip(workers, logs, strict=True):
        if worker.returncode:
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise ChildProcessError(f"{log}: this worker failed: {''.join(last)}")


def check(comparison: Comparison, count: int) -> None:
    """Refuses workers that would have nothing to do or nothing to do it with.

    Raises:
      ValueError: for less than one worker, or more than seeds or cores.
    """
    if not 1 <= count <= comparison.num_seeds:
        raise ValueError(
            f"--workers must be from 1 to the number of seeds, {comparison.num_seeds}: all runs of "
            f"a seed are done by one worker; got {count}"
        )
    places = [device.id for device in jax.local_devices() if device.platform == "gpu"] or cores()
    if count > len(places):
        raise ValueError(f"--workers must be at most the number of cores or GPUs, {len(places)}")


def cores() -> list[int]:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _start(folder: Path, index: int, count: int, log: Path) -> "subprocess.Popen[bytes]":
    environment = dict(os.environ)
    if jax.default_backend() == "gpu":
        visible = environment.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
        environment["CUDA_VISIBLE_DEVICES"] = visible.split(",")[index]
        environment.pop(_PREALLOCATE, None)
    with log.open("ab") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "training.compare_worker", str(folder), str(index), str(count)],
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # so that Ctrl-C reaches `run` alone
        )


def _end(workers: "list[subprocess.Popen[bytes]]") -> None:
    """Ends the workers' input, so that those that still work stop, and waits for them."""
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.close()
    for worker in workers:
        worker.wait()


def _num_done(runs: list[RunFolder]) -> int:
    return sum(run.summary.is_file() for run in runs)
