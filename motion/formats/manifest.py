"""A list of many clips: files, names, weights and splits, in one JSON file.

    {"clips": [{"file": "walk.csv", "name": "walk", "weight": 2.0, "split": "train",
                "quaternion_order": "wxyz", "fps": 30}, ...]}

Only `file` is needed; it is relative to the manifest. Splits are train, val and test.
"""

import dataclasses
import os
import reprlib
from pathlib import Path
from typing import Any, Literal, get_args

from motion.quaternion_order import Order
from motion.robots import Robot
from scenes.formats.json_files import can_be_name, read_json_value

from .clip_files import Loaded, ReadOptions, load_clip
from .npz_clip import JointOrder

Split = Literal["train", "val", "test"]
SPLITS = ("train", "val", "test")
_SWITCHES = ("is_put_on_floor", "is_levelled")
_OPTIONS = ("quaternion_order", "joint_order", "fps", *_SWITCHES)
_FIELDS = ("file", "name", "weight", "split", *_OPTIONS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One clip of a manifest.

    Attributes:
      weight: how often its bins are wanted, relative to the others.
    """

    file: Path
    name: str
    weight: float = 1.0
    split: Split = "train"
    options: ReadOptions = ReadOptions()

    def __post_init__(self) -> None:
        if not 0 < self.weight < 1e6:
            raise ValueError(f"weight must be positive, got {self.weight}")


def read_manifest(path: str | os.PathLike[str]) -> tuple[Entry, ...]:
    """Reads the list; the clips themselves are not opened.

    Raises:
      FileNotFoundError: when there is no such file.
      ValueError: naming the file and the entry, for anything else than described above, and for
        names that occur twice.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such manifest")
    content = read_json_value(path)
    rows = content.get("clips") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{path}: needs a list 'clips' with at least one clip")
    entries = tuple(_entry(path, number, row) for number, row in enumerate(rows))
    names = [entry.name for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path}: names occur twice: {', '.join(twice)}")
    return entries


def load_manifest(path: str | os.PathLike[str], robot: Robot) -> tuple[tuple[Entry, Loaded], ...]:
    """Reads the clips of all splits.

    Raises:
      FileNotFoundError, ValueError: see `read_manifest` and `load_clip`, naming the manifest too;
        when none is to be trained on.
    """
    entries = read_manifest(path)
    if all(entry.split != "train" for entry in entries):
        raise ValueError(f"{path}: has no clips of split train")
    found = []
    for entry in entries:
        try:
            loaded = load_clip(entry.file, robot, entry.options)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path}: {error}") from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        found.append((entry, loaded._replace(clip=loaded.clip._replace(name=entry.name))))
    return tuple(found)


def _entry(path: Path, number: int, row: Any) -> Entry:
    where = f"{path}: clip {number}"
    if not isinstance(row, dict) or not isinstance(row.get("file"), str):
        raise ValueError(f"{where}: must be an object with a 'file'")
    if not row["file"] or not can_be_name(row["file"]):
        raise ValueError(f"{where}: file must name one, got {reprlib.repr(row['file'])}")
    unknown = sorted(set(row) - set(_FIELDS))
    if unknown:
        raise ValueError(f"{where}: unknown fields {', '.join(unknown)}; known: {_FIELDS}")
    file = path.parent / row["file"]
    name = row.get("name", file.stem)
    if not isinstance(name, str) or not can_be_name(name):
        raise ValueError(f"{where}: name must be text, got {reprlib.repr(name)}")
    weight, split = row.get("weight", 1.0), row.get("split", "train")
    if not isinstance(weight, int | float) or isinstance(weight, bool):
        raise ValueError(f"{where}: weight must be a number, got {reprlib.repr(weight)}")
    if split not in SPLITS:
        raise ValueError(
            f"{where}: split must be one of {', '.join(SPLITS)}, got {reprlib.repr(split)}"
        )
    options = {name: _option(where, name, row[name]) for name in _OPTIONS if name in row}
    try:
        return Entry(
            file=file,
            name=name,
            weight=float(weight),
            split=split,
            options=ReadOptions(**options),
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _option(where: str, name: str, value: Any) -> Any:
    known = {"quaternion_order": get_args(Order), "joint_order": get_args(JointOrder)}
    if name in known and value not in (*known[name], None):
        raise ValueError(
            f"{where}: {name} must be one of {', '.join(known[name])}, got {reprlib.repr(value)}"
        )
    if name in _SWITCHES and not isinstance(value, bool):
        raise ValueError(f"{where}: {name} must be true or false, got {reprlib.repr(value)}")
    if name == "fps" and value is not None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{where}: {name} must be a number, got {reprlib.repr(value)}")
        return float(value)
    return value
