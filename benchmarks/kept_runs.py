"""Runs that are kept in a file as they finish, so that an interrupted benchmark goes on there."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import measuring
from training import run_folder


class KeptRuns:
    """What runs gave, by name."""

    def __init__(self, path: str):
        """Reads what an earlier, interrupted benchmark left."""
        self._path = Path(path)
        is_there = self._path.is_file()
        self._done: dict[str, Any] = run_folder.read_json(self._path) if is_there else {}

    def __getitem__(self, name: str) -> Any:
        return self._done[name]

    def add(self, names: Mapping[int, str], run: Callable[[list[int]], list[Any]]) -> None:
        """Runs the seeds that are missing, all in one fresh process, and keeps what they gave.

        Args:
          names: of each seed's run.
          run: a function of a module, or a partial of one; seeds -> a result for each.
        """
        missing = [seed for seed, name in names.items() if name not in self._done]
        if not missing:
            return
        call = functools.partial(run, missing)
        for seed, values in zip(missing, measuring.in_fresh_process(call), strict=True):
            self._done[names[seed]] = values
            print(f"{names[seed]}: {values}", flush=True)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        run_folder.write_json(self._path, self._done)
