"""The processor cores that this process may use; costs nothing to import."""

import os


def cores() -> list[int]:
    """Lists them by number, in order; all of the machine's where the system does not tell.

    A process that was given some of the machine's cores must not start a thread for each of all.
    """
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
