"""Runs of a comparison side by side: processes that each have cores, or a GPU, of their own.

The steps of a small model use many cores badly, so two runs with one core each are usually done
before two in turn on both. All runs of a seed are done by one worker, in turn, so that what is
paired has the same cores and times can be compared, though the other worker may be busier during
one than during another.

`run` starts the workers, waits and shows how many runs are done; what a worker would have printed
is in worker-K.log in the comparison's folder. A worker stops, as by Ctrl-C, when its standard input
ends: when `run` was asked to stop, and also when this process was killed. While it lives it holds a
lock on the comparison, so that nobody else goes on with it.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax

from . import file_lock, runtime
from .compare_config import Comparison, run_name
from .compare_worker import cores
from .interrupts import StopRequest
from .progress import ProgressView
from .run_folder import RunFolder

_LOOK_EVERY = 0.5
_SECONDS_TO_END = 20.0


def prepare(count: int) -> None:
    """Sets up the process that will start workers, so that it leaves GPUs' memory to them.

    They inherit that memory is taken as it is needed, unless the environment says otherwise.
    """
    if count > 1:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    runtime.prepare()


def check(comparison: Comparison, count: int) -> None:
    """Refuses workers that would have nothing to do or nothing to do it with.

    Raises:
      ValueError: for less than one worker, more than seeds, cores or GPUs, or on other devices.
    """
    if not 1 <= count <= comparison.num_seeds:
        raise ValueError(
            f"--workers must be from 1 to the number of seeds, {comparison.num_seeds}: all runs of "
            f"a seed are done by one worker; got {count}"
        )
    if count == 1:
        return
    backend = jax.default_backend()
    if backend not in ("cpu", "gpu"):
        raise ValueError(f"--workers needs CPUs or GPUs, got {backend}")
    places = {"cores": len(cores())}
    if backend == "gpu":
        places["GPUs"] = jax.local_device_count()
    for what, number in places.items():
        if count > number:
            raise ValueError(f"--workers must be at most the number of {what}, {number}")


@contextlib.contextmanager
def working_in(folder: Path, *, is_alone: bool = False) -> Iterator[None]:
    """Holds a comparison: with others that work in it, or alone.

    Raises:
      ValueError: when others hold it and it is wanted alone.
    """
    refusal = (
        f"{folder}: another process works on this comparison; a worker that was told to stop ends "
        "with its step, or when its run is evaluated"
    )
    with file_lock.held(RunFolder(folder).lock, refusal=refusal, is_shared=not is_alone):
        yield


def run(comparison: Comparison, folder: Path, count: int) -> None:
    """Does the runs that are not done in `count` processes; returns when all are.

    Raises:
      ValueError: as `check` does, or when workers of an earlier start still work.
      ChildProcessError: when workers failed, with the end of what they said; the others finish.
    """
    check(comparison, count)
    with working_in(folder, is_alone=True):
        pass
    runs = [RunFolder(folder / run_name(job)) for job in comparison.runs()]
    logs = [folder / f"worker-{index + 1}.log" for index in range(count)]
    print(f"{count} runs side by side; what each of them says: {logs[0]} ...")
    began, workers = time.monotonic(), []
    try:
        with (
            StopRequest() as stop,
            ProgressView(len(runs), title=folder.name, unit="run") as view,
        ):
            for index, log in enumerate(logs):
                workers.append(_start(folder, index, count, log))
            view.start_at(_num_done(runs), 0.0)
            is_working = True
            while is_working and not stop.is_set:
                is_working = any(worker.poll() is None for worker in workers)
                seconds = time.monotonic() - began
                view.update(_num_done(runs), train_seconds=seconds, status="done")
                time.sleep(_LOOK_EVERY if is_working else 0.0)
            _end(workers)
    except BaseException:
        _end(workers, is_urgent=True)
        raise
    failed = [
        f"{log} ({_how_it_ended(worker.returncode)}): {_last_words(log)}"
        for worker, log in zip(workers, logs, strict=True)
        if worker.returncode
    ]
    if failed:
        raise ChildProcessError("; ".join(["a worker failed", *failed]))


def _start(folder: Path, index: int, count: int, log: Path) -> "subprocess.Popen[bytes]":
    environment = dict(os.environ)
    if jax.default_backend() == "gpu":
        visible = environment.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
        environment["CUDA_VISIBLE_DEVICES"] = visible.split(",")[index]
    # -P: the folder one happens to be in may hold a package of the same name
    package = str(Path(__file__).resolve().parents[1])
    before = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join([package, before] if before else [package])
    program = [sys.executable, "-P", "-m", "training.compare_worker"]
    with log.open("ab") as said:
        return subprocess.Popen(
            [*program, str(folder.resolve()), str(index), str(count)],
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # so that Ctrl-C reaches `run` alone
        )


def _end(workers: "list[subprocess.Popen[bytes]]", *, is_urgent: bool = False) -> None:
    """Ends the workers' input, so that those that still work stop, and waits for them.

    Args:
      is_urgent: they are not to finish what they do; after a while they are killed.
    """
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.close()
    for worker in workers:
        if is_urgent:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.terminate()
                worker.wait(_SECONDS_TO_END)
            worker.kill()
        worker.wait()


def _how_it_ended(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "nothing said"


def _num_done(runs: list[RunFolder]) -> int:
    return sum(run.summary.is_file() for run in runs)
