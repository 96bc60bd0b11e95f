"""Run folders: where everything of one run lies, and how its text files are written and read.

Files are written by `scenes.formats.atomic`, so a reader, or a run that is killed, never meets half
a file.
"""

import dataclasses
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any, TypeVar

from scenes.formats import json_files
from scenes.formats.atomic import write_file

from . import config_json

Job = TypeVar("Job")


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The paths of one run."""

    path: Path

    @property
    def config(self) -> Path:
        """What was asked for."""
        return self.path / "config.json"

    @property
    def metrics(self) -> Path:
        """One JSON object per logged step."""
        return self.path / "metrics.jsonl"

    @property
    def summary(self) -> Path:
        """What came out."""
        return self.path / "summary.json"

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.path / "report.html"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def images(self) -> Path:
        """Folder of pictures and videos."""
        return self.path / "images"

    @property
    def fault(self) -> Path:
        """Folder with the state before a step that was not finite; only after a fault."""
        return self.path / "fault"

    @property
    def lock(self) -> Path:
        """An empty file, locked while a process trains the run."""
        return self.path / ".lock"


def create(path: str | os.PathLike[str]) -> RunFolder:
    """Makes the folder of a new run.

    Raises:
      ValueError: if the folder already holds a run, or a file is in the way.
      OSError: if it cannot be made or written to.
    """
    folder = RunFolder(Path(path))
    if folder.config.exists():
        raise ValueError(
            f"{folder.path}: already holds a run; continue it with --resume {folder.path}, "
            "or choose another --out"
        )
    check_writable(folder.path)
    return folder


def existing(path: str | os.PathLike[str]) -> RunFolder:
    """Opens the folder of an earlier run.

    Raises:
      FileNotFoundError: if there is no run.
    """
    folder = RunFolder(Path(path))
    if not folder.path.is_dir():
        raise FileNotFoundError(f"{folder.path}: no such run folder")
    if not folder.config.is_file():
        raise FileNotFoundError(f"{folder.path}: not a run folder, it has no config.json")
    return folder


def unused(parent: str | os.PathLike[str], name: str) -> Path:
    """The first of NAME, NAME-2, NAME-3, ... that does not exist under `parent`."""
    path, number = Path(parent) / name, 2
    while path.exists():
        path, number = Path(parent) / f"{name}-{number}", number + 1
    return path


def name_of(data: str) -> str:
    """What folders made from some data are called: the last part of its path, or its NAME:."""
    return re.sub(r"[^\w.-]+", "-", Path(data.split(":")[-1]).resolve().name)


def check_writable(path: Path) -> None:
    """Makes the folder if needed and proves that files can be written in it.

    Raises:
      OSError: naming the folder and the reason.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path):
            pass
    except FileExistsError as error:
        raise FileExistsError(f"output folder {path}: a file of that name is in the way") from error
    except OSError as error:
        raise type(error)(f"output folder {path} cannot be written to: {error.strerror}") from error


def write_text(path: Path, text: str) -> None:
    """Writes a text file in one step."""
    write_file(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_json(path: Path, values: Any) -> None:
    """Writes a JSON file in one step; numbers must be finite."""
    write_text(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
      FileNotFoundError, ValueError: naming the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return json_files.read_json(path).values


def read_config(folder: RunFolder, kind: type[Any]) -> dict[str, Any]:
    """Reads what a run was asked to do ("config") and the fingerprint of its data ("data").

    Args:
      kind: a job's dataclass; its field `job` names it.
    Raises:
      FileNotFoundError, ValueError: naming the file and the field, when it holds no run of that
        kind.
    """
    stored = read_json(folder.config)
    if "config" in stored and job_of(stored) != kind.job:
        raise ValueError(f"{folder.config}: not a {kind.job} run")
    for name in ("config", "data"):
        if name not in stored:
            raise ValueError(f"{folder.config}: missing field {name!r}")
        if not isinstance(stored[name], dict):
            raise ValueError(f"{folder.config}: {name} must be an object")
    return stored


def read_job(folder: RunFolder, kind: type[Job]) -> Job:
    """Reads what a run was asked to do.

    Raises:
      FileNotFoundError, ValueError: as `read_config` does, and for settings that are not a job's.
    """
    return config_json.from_json(kind, read_config(folder, kind)["config"], str(folder.config))


def job_of(stored: dict[str, Any]) -> str | None:
    """Which job a run's config.json is of; None if it does not say."""
    config = stored.get("config")
    job = config.get("job") if isinstance(config, dict) else None
    return job if isinstance(job, str) else None
