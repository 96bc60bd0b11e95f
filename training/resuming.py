"""Where a stopped run goes on."""

from typing import Any

from . import checkpoints
from .checkpoints import Restored
from .run_folder import RunFolder


def last_state(folder: RunFolder, template: Any, *, unit: str = "step") -> Restored | None:
    """Reads a run's newest whole checkpoint and says which; None when it has none yet.

    Args:
      template: the state, or its shapes.
      unit: what the run counts.
    Raises:
      ValueError: when no checkpoint is whole, or it holds another state.
    """
    if not checkpoints.steps(folder.checkpoints):
        print(f"{folder.path}: stopped before its first checkpoint, so it begins again")
        return None
    restored = checkpoints.restore(folder.checkpoints, template)
    for warning in restored.warnings:
        print(f"warning: {warning}; going back to {unit} {restored.step}")
    print(f"{folder.path}: going on after {unit} {restored.step}")
    return restored
