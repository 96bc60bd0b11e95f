"""One of several processes that do a comparison's runs: a program, started by `compare_workers`.

python -m training.compare_worker FOLDER INDEX COUNT
"""

import os
import signal
import sys
import threading
from pathlib import Path

from . import compare_runs, compare_workers, runtime


def main(arguments: list[str]) -> int:
    """Does the runs of every COUNT-th seed on every COUNT-th core, from INDEX on."""
    folder, index, count = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    if hasattr(os, "sched_setaffinity"):  # before JAX counts the cores
        os.sched_setaffinity(0, compare_workers.cores()[index::count])
    threading.Thread(target=_stop_with_input, daemon=True).start()
    runtime.prepare()
    try:
        comparison = compare_runs.read(folder)
        seeds = sorted({job.seed for job in comparison.runs()})[index::count]
        jobs = [job for job in comparison.runs() if job.seed in seeds]
        compare_runs.do(comparison, folder, jobs)
    except (ValueError, OSError) as error:
        print(f"error: {error}")
        return 2
    return 0


def _stop_with_input() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
