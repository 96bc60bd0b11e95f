"""`hardlight replay`: repeats the step that stopped a run because it was not finite."""

import dataclasses
from typing import Annotated, ClassVar

import tyro

from . import runtime


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplayCommand:
    """Repeats the step that stopped a radiance field with NaN, and says where the bad numbers
    appear.

    The run keeps the state before that step in RUN/fault.
    """

    examples: ClassVar[str] = """
  hardlight replay runs/blocks-uniform"""

    run_folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run that stopped."""

    def run(self) -> int:
        """Repeats the step; exit code 1 when it is still not finite."""
        runtime.prepare()
        from . import fault_replay

        report = fault_replay.replay(self.run_folder)
        for line in report.lines:
            print(line)
        return 0 if report.is_finite else 1
