"""Checkpoints: the whole train state with what else a run needs to go on as if never stopped.

Orbax writes them in the background, into a folder that gets its name only when it is complete, so
a run killed at any moment leaves whole checkpoints only. On top of that every array carries a
CRC-32, made before writing and compared after reading: a damaged newest checkpoint is reported and
the one before it is used; when the run then saves, the damaged one becomes unreadable-STEP.

What is kept beside the arrays carries a checksum of its own.

Arrays are stored flat, under the name of their place in the state ("params.params.tables[0]"), so
a state that does not fit says by name what is different.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

_FORMAT = 1
_KEPT = 2
_ASIDE = "unreadable-"
_LATE_READS = 0.5  # seconds


class Restored(NamedTuple):
    """A checkpoint read back."""

    step: int
    state: Any
    extra: dict[str, Any]
    """What was saved beside the arrays."""
    warnings: tuple[str, ...]
    """One sentence per newer checkpoint that could not be used."""


class Saver:
    """Writes checkpoints of one run in the background.

    Without a folder, as in all processes of a run but the first, nothing is written.
    """

    def __init__(self, folder: Path | None, *, last: int | None = None):
        """Opens nothing yet.

        Args:
          last: step of the checkpoint a run goes on from; it is whole, and not written again.
        """
        self._folder = folder
        self._last = last
        self._manager: ocp.CheckpointManager | None = None

    def save(self, step: int, state: Any, extra: dict[str, Any]) -> None:
        """Copies the state and returns; writing goes on in the background.

        Args:
          extra: JSON values to keep with it.
        Raises:
          OSError: when this or the previous checkpoint could not be written.
        """
        if self._folder is None or step == self._last:
            return
        arrays = {name: np.array(leaf) for name, leaf in named_leaves(state)}
        meta = {
            "format": _FORMAT,
            "step": step,
            "extra": extra,
            "arrays": {
                name: [str(array.dtype), list(array.shape), _checksum(array)]
                for name, array in arrays.items()
            },
        }
        meta["checksum"] = _checksum_of_meta(meta)
        # orbax refuses empty arrays; their shape in `meta` is all there is to know
        stored = {name: array for name, array in arrays.items() if array.size}
        with _explained(self._folder):
            self._open(self._folder, step).save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(stored), meta=ocp.args.JsonSave(meta)
                ),
                force=True,
            )
        self._last = step

    def _open(self, folder: Path, step: int) -> ocp.CheckpointManager:
        if self._manager is None:
            _set_aside(folder, step)
            options = ocp.CheckpointManagerOptions(
                max_to_keep=_KEPT, enable_async_checkpointing=True, cleanup_tmp_directories=True
            )
            if jax.process_count() > 1:
                folder.mkdir(parents=True, exist_ok=True)  # orbax leaves that to one of many
                options = dataclasses.replace(
                    options, create=False, multiprocessing_options=_only_this_process()
                )
            self._manager = ocp.CheckpointManager(folder.absolute(), options=options)
        return self._manager

    def wait(self) -> None:
        """Returns when the last checkpoint is on disk.

        Raises:
          OSError: when it could not be written.
        """
        if self._manager is not None and self._folder is not None:
            with _explained(self._folder):
                self._manager.wait_until_finished()

    def close(self) -> None:
        """Finishes writing and ends the background thread."""
        if self._manager is not None:
            self.wait()
            self._manager.close()
            self._manager = None


def restore(folder: Path, template: Any) -> Restored:
    """Reads the newest checkpoint that is whole.

    Args:
      template: a state of the same structure; its values are not used.
    Raises:
      FileNotFoundError: if there is no checkpoint at all.
      ValueError: if all are damaged, naming them, or if the newest whole one is of another version
        or holds another state, naming the arrays that differ.
      PermissionError, MemoryError: if the newest one may be whole, but cannot be read here and now.
    """
    warnings: list[str] = []
    for step in steps(folder):
        path = folder / str(step)
        try:
            with _late_reads_ignored():
                arrays, meta = _read(path)
        except (MemoryError, PermissionError, _OtherVersionError):
            raise
        except Exception as error:  # orbax and tensorstore raise many kinds for damaged files
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else ""
            if reason.startswith("PERMISSION_DENIED"):  # as tensorstore says it
                raise PermissionError(f"checkpoint {path} cannot be read: {reason}") from error
            warnings.append(f"checkpoint {path} is damaged ({type(error).__name__}: {reason})")
            continue
        state = _fit(template, arrays, path)
        return Restored(step=step, state=state, extra=meta["extra"], warnings=tuple(warnings))
    if warnings:
        raise ValueError("no usable checkpoint: " + "; ".join(warnings))
    raise FileNotFoundError(f"{folder}: no checkpoint yet; the run was stopped before its first")


def steps(folder: Path) -> list[int]:
    """Steps of the finished checkpoints, newest first."""
    if not folder.is_dir():
        return []
    return sorted(
        (int(path.name) for path in folder.iterdir() if path.name.isdigit()), reverse=True
    )


def named_leaves(state: Any) -> Iterator[tuple[str, Any]]:
    """Walks a state's arrays with the name of their place."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        yield jax.tree_util.keystr(path, simple=True, separator="."), leaf


def _only_this_process() -> ocp.options.MultiprocessingOptions:
    """Orbax waits for the other processes of a run unless it is told that this one is alone."""
    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    here = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"process-{here}"
    )


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    options = _only_this_process()
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=options)
    )
    with ocp.Checkpointer(handler, multiprocessing_options=options) as reader:
        meta = reader.restore(
            path.absolute(), args=ocp.args.Composite(meta=ocp.args.JsonRestore())
        ).meta
        _check_meta(meta, path)
        if meta["step"] != int(path.name):
            raise ValueError(f"it is of step {meta['step']}, not of its folder's")
        names = [name for name, (_, shape, _) in meta["arrays"].items() if 0 not in shape]
        arrays = reader.restore(
            path.absolute(),
            args=ocp.args.Composite(
                state=ocp.args.PyTreeRestore(
                    item={name: 0 for name in names},
                    restore_args={name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names},
                )
            ),
        ).state
    for name, (dtype, shape, checksum) in meta["arrays"].items():
        if 0 in shape:
            arrays[name] = np.zeros(shape, dtype)
        elif (str(arrays[name].dtype), list(arrays[name].shape)) != (dtype, shape):
            raise ValueError(f"array {name} does not have the type and shape it was saved with")
        elif _checksum(arrays[name]) != checksum:
            raise ValueError(f"array {name} does not have the checksum it was saved with")
    return arrays, meta


class _OtherVersionError(ValueError):
    """A checkpoint that is no less whole for being of another version."""


def _check_meta(meta: dict[str, Any], path: Path) -> None:
    """Looks at what is kept beside the arrays before anything else is made of it."""
    found = meta.get("format", _FORMAT)
    if "checksum" in meta and meta["checksum"] != _checksum_of_meta(meta):
        raise ValueError(
            "what is kept beside the arrays has another checksum than when saved"
            + ("" if found == _FORMAT else f", and says that its format is {found}")
        )
    if found != _FORMAT:
        raise _OtherVersionError(
            f"checkpoint {path} is of another version of hardlight: its format is {found}, "
            f"this version reads {_FORMAT}"
        )


def _set_aside(folder: Path, step: int) -> None:
    """Renames the checkpoints of this step and later ones: a run goes on from the newest it can
    read, so those could not be read. The last ones set aside are kept."""
    for newer in reversed(steps(folder)):
        if newer >= step:
            place = folder / f"{_ASIDE}{newer}"
            shutil.rmtree(place, ignore_errors=True)
            (folder / str(newer)).rename(place)
            os.utime(place)
    aside = sorted(folder.glob(f"{_ASIDE}*"), key=lambda place: place.stat().st_mtime_ns)
    for old in aside[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def _fit(template: Any, arrays: dict[str, np.ndarray], path: Path) -> Any:
    wanted = dict(named_leaves(template))
    problems = [f"{name} is missing" for name in wanted if name not in arrays]
    problems += [f"{name} is not part of this run" for name in arrays if name not in wanted]
    for name in wanted.keys() & arrays.keys():
        want = (tuple(wanted[name].shape), str(wanted[name].dtype))
        got = (arrays[name].shape, str(arrays[name].dtype))
        if want != got:
            problems.append(f"{name} must be {want[1]}{want[0]}, got {got[1]}{got[0]}")
    if problems:
        more = f", and {len(problems) - 4} more" if len(problems) > 4 else ""
        listed = ", ".join(sorted(problems)[:4])
        raise ValueError(f"checkpoint {path} holds another state: {listed}{more}")
    # what was an array of the host stays one: JAX would halve its 64-bit numbers
    leaves = [
        arrays[name] if isinstance(leaf, np.ndarray) else jax.numpy.asarray(arrays[name])
        for name, leaf in wanted.items()
    ]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _checksum_of_meta(meta: dict[str, Any]) -> int:
    told = {name: value for name, value in meta.items() if name != "checksum"}
    return zlib.crc32(json.dumps(told, sort_keys=True).encode())


@contextlib.contextmanager
def _late_reads_ignored() -> Iterator[None]:
    """Silences reads that end after orbax has given up on a damaged checkpoint.

    Orbax closes its event loop at the first failed read; the others then complain to nobody.
    """
    report = sys.unraisablehook

    def filtered(unraisable: Any) -> None:
        if "Event loop is closed" not in str(unraisable.exc_value):
            report(unraisable)

    sys.unraisablehook = filtered
    try:
        yield
    except Exception:
        time.sleep(_LATE_READS)
        raise
    finally:
        sys.unraisablehook = report


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turns whatever a failed write raises into an OSError that names the folder."""
    try:
        yield
    except Exception as error:
        text = str(error).strip()
        reason = text.splitlines()[0][:300] if text else type(error).__name__
        raise OSError(f"{folder}: a checkpoint could not be written: {reason}") from error
