"""Files that appear whole or not at all.

A file is written under another name in the same folder, brought to the disk and then renamed, so a
reader, a process that is killed or a power cut never meets half a file.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path

_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a file beside `path`, then puts it in its place in one step.

    Args:
      write: gets the other file's path, which has the same ending.
    Raises:
      OSError: when it cannot be written, naming it; what was there before stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        write(partial)
        _sync(partial)  # or a power cut could leave the new name on an empty file
        os.replace(partial, path)
    except OSError as error:
        reason = error.strerror or error
        raise type(error)(f"{path} cannot be written: {reason}") from error
    finally:
        partial.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    with path.open("r+b") as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in _CANNOT_SYNC:  # some file systems have nothing to bring
                raise
