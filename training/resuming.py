"""Where a stopped run goes on."""

import dataclasses
from typing import Any, TypeVar

from . import checkpoints
from .checkpoints import Restored
from .run_folder import RunFolder

Progress = TypeVar("Progress")


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


def progress(
    kind: type[Progress], folder: RunFolder, *, step: int, extra: dict[str, Any]
) -> Progress:
    """Reads how far a run was from what was saved beside the arrays.

    Args:
      kind: a dataclass.
      step, extra: of the checkpoint.
    Raises:
      ValueError: naming the checkpoint and the field, when one is unknown or missing.
    """
    fields = dataclasses.fields(kind)  # pyright: ignore[reportArgumentType]
    path, names = folder.checkpoints / str(step), [field.name for field in fields]
    for wrong, has, wanted in (("unknown", extra, names), ("missing", names, extra)):
        for name in has:
            if name not in wanted:
                raise ValueError(
                    f"checkpoint {path}: {wrong} field {name!r}; it may be of another version"
                )
    return kind(**extra)
