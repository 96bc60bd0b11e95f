"""Locks on files between processes, which end with the process that holds them, however it ends."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from . import processes
from .run_folder import RunFolder


@contextlib.contextmanager
def held(path: Path, *, refusal: str, is_shared: bool = False) -> Iterator[None]:
    """Holds a lock on a file of its own, which is made where there is none and stays.

    Where files know no locks, as on Windows and in some network folders, nothing is held.

    Args:
      refusal: what is said when others hold it.
      is_shared: others may hold it too, if they share it.
    Raises:
      ValueError: when others hold it.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            file = stack.enter_context(path.open("ab"))
            if not _lock(file, is_shared=is_shared):
                raise ValueError(refusal)
        yield


@contextlib.contextmanager
def training(folder: RunFolder) -> Iterator[None]:
    """Makes this run, of one process or several, the only one that trains in its folder.

    Raises:
      ValueError: when another process does.
    """
    with contextlib.ExitStack() as stack:
        with processes.together():
            if processes.is_first():
                refusal = f"{folder.path}: another process is training this run"
                stack.enter_context(held(folder.lock, refusal=refusal))
        yield


def _lock(file: IO[bytes], *, is_shared: bool) -> bool:
    """Locks an open file without waiting; False when others hold it.

    Raises:
      OSError: where there are no locks.
    """
    try:
        import fcntl
    except ImportError:  # on Windows
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
