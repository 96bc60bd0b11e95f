"""One of several processes that do a comparison's runs: a program, started by `compare_workers`.

    python -m training.compare_worker FOLDER INDEX COUNT

Imports what is heavy after the process has its cores, since libraries count them when they load.
"""

import os
import signal
import sys
import threading
from pathlib import Path

from scenes.cores import cores


def main(arguments: list[str]) -> int:
    """Does the runs of every COUNT-th seed on every COUNT-th core, from INDEX on."""
    folder, index, count = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores()[index::count])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells may have it ignored
    is_stopped = threading.Event()
    threading.Thread(target=_stop_with_input, args=(is_stopped,), daemon=True).start()
    from . import cli, compare_runs, compare_workers, runtime

    runtime.prepare()
    try:
        with compare_workers.working_in(folder):
            comparison = compare_runs.read(folder)
            seeds = sorted({job.seed for job in comparison.runs()})[index::count]
            jobs = [job for job in comparison.runs() if job.seed in seeds]
            compare_runs.do(comparison, folder, jobs, is_stopped=is_stopped.is_set)
    except KeyboardInterrupt:
        return 130
    except cli.EXPECTED_ERRORS as error:
        print(f"error: {cli.one_line(error)}")
        return 2
    return 0


def _stop_with_input(is_stopped: threading.Event) -> None:
    """Asks this process to stop when its input ends."""
    while os.read(0, 4096):  # unbuffered: a buffered read would hold a lock that exiting needs
        pass
    is_stopped.set()
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
