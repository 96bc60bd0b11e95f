"""The NaN guard: keeps the state before the first step that was not finite, and replays that step.

The train step leaves its state unchanged when its loss or gradient is not finite, so the state at
hand is the one that produced the fault, however late the host noticed.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from . import checkpoints
from .run_folder import RunFolder, write_json


class FaultError(RuntimeError):
    """A step was not finite; the message says where the state is and what to do."""


def save_fault(
    folder: RunFolder, state: Any, *, step: int, loss: float, gradient_norm: float
) -> FaultError:
    """Saves the state before the faulty step and returns the error to raise."""
    saver = checkpoints.Saver(folder.fault)
    saver.save(step, state, {"loss": str(loss), "gradient_norm": str(gradient_norm)})
    saver.close()
    write_json(
        folder.fault / "fault.json",
        {"step": step, "loss": str(loss), "gradient_norm": str(gradient_norm)},
    )
    return FaultError(
        f"step {step} was not finite (loss {loss}, gradient norm {gradient_norm}); the state "
        f"before it is in {folder.fault}. `hardlight replay {folder.path}` repeats the step and "
        "says where it came from. The usual cause is too high a learning rate: try "
        "--set optimizer.learning_rate=0.003"
    )


def not_finite(tree: Any) -> Iterator[tuple[str, int, int]]:
    """Lists arrays with values that are not finite: name, how many, of how many."""
    for name, leaf in checkpoints.named_leaves(tree):
        values = np.asarray(jax.device_get(leaf))
        if np.issubdtype(values.dtype, np.floating):
            bad = int(np.sum(~np.isfinite(values)))
            if bad:
                yield name, bad, values.size
