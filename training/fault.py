"""The NaN guard: a run stops at the first step that is not finite, and keeps the step's state.

The radiance field's train step leaves its state unchanged when its loss or gradient is not finite,
so there the state is the one that produced the fault, however late the host noticed, and the step
can be repeated. In the other jobs it is the state after the step.
"""

import shutil
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from . import checkpoints
from .run_folder import RunFolder, write_json

_NAME = "fault.json"


class FaultError(RuntimeError):
    """A step was not finite; the message says where the state is and what to do."""


def save_fault(
    folder: RunFolder, state: Any, *, step: int, values: dict[str, Any], advice: str
) -> FaultError:
    """Saves the state of a faulty step, apart from the checkpoints, which stay good.

    Args:
      values: the numbers that gave the fault away.
      advice: what to do now.
    Returns:
      The error to raise.
    """
    words = {name: str(value) for name, value in values.items()}
    for earlier in checkpoints.steps(folder.fault):
        if earlier >= step:  # of an attempt that went no better
            shutil.rmtree(folder.fault / str(earlier))
    saver = checkpoints.Saver(folder.fault)
    saver.save(step, state, words)
    saver.close()
    write_json(folder.fault / _NAME, {"step": step, **words})
    shown = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in words.items())
    return FaultError(
        f"step {step} was not finite ({shown}); its state is in {folder.fault}. {advice}"
    )


def is_met(folder: RunFolder) -> bool:
    """Whether a run stopped at a step that was not finite."""
    return (folder.fault / _NAME).is_file()


def check_finite(
    folder: RunFolder, state: Any, *, step: int, values: dict[str, float], learned: Any = ()
) -> None:
    """Stops a run that is not finite; going on starts at its last good checkpoint.

    Args:
      values: the step's metrics, of what was before it.
      learned: the part of the state that is learned, as it is after the step.
    Raises:
      FaultError: naming the metrics and arrays, after the state was saved.
    """
    bad = bad_values(values, learned)
    if bad:
        advice = (
            f"The last good checkpoint is in {folder.checkpoints}. The usual cause is too high a "
            "learning rate; a run with a smaller one is a new run"
        )
        raise save_fault(folder, state, step=step, values=bad, advice=advice)


def bad_values(values: dict[str, float], learned: Any) -> dict[str, Any]:
    """Finds the metrics and the learned arrays that are not finite; empty where all is well."""
    bad: dict[str, Any] = {name: value for name, value in values.items() if not np.isfinite(value)}
    return bad | {
        f"learned {name}": f"in {count} of {size}" for name, count, size in not_finite(learned)
    }


def not_finite(tree: Any) -> Iterator[tuple[str, int, int]]:
    """Lists arrays with values that are not finite: name, how many, of how many."""
    for name, leaf in checkpoints.named_leaves(tree):
        values = np.asarray(jax.device_get(leaf))
        if np.issubdtype(values.dtype, np.floating):
            bad = int(np.sum(~np.isfinite(values)))
            if bad:
                yield name, bad, values.size
