"""Decides which views are trained on and which are held out.

In this order: what the scene's own file lists; `train_list.txt`, `test_list.txt`, `val_list.txt`
beside it (one image name a line); else every `holdout`-th view by name is for testing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

DEFAULT_HOLDOUT = 8


class Split(NamedTuple):
    """Indices of views; val may be empty."""

    train: tuple[int, ...]
    test: tuple[int, ...]
    val: tuple[int, ...]
    notes: tuple[str, ...] = ()


def read_lists(folder: Path) -> dict[str, tuple[str, ...]]:
    """Reads `*_list.txt` files, if there are any; blank lines and lines with # do not count."""
    lists = {}
    for split in ("train", "test", "val"):
        path = folder / f"{split}_list.txt"
        if path.is_file():
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                raise ValueError(f"{path}: not a text file") from None
            lines = (line.strip() for line in text.splitlines())
            lists[split] = tuple(line for line in lines if line and not line.startswith("#"))
    return lists


def split_views(
    names: Sequence[str],
    lists: Mapping[str, Sequence[str]],
    *,
    holdout: int = DEFAULT_HOLDOUT,
    missing: Sequence[str] = (),
    source: str,
) -> Split:
    """Splits views by lists of names, or else by every `holdout`-th.

    With a train list only, the rest is for testing, and the other way round. A listed name that
    is among the `missing` images is left out. A single view is both trained and tested on.

    Args:
      names: of all views, sorted.
      lists: names (or paths ending in them) per split; may be empty.
      source: the file that lists them, named in errors.
    Raises:
      ValueError: for a listed name that no view has, a view both in train and test, an empty
        split, or holdout below 2.
    """
    if holdout < 2:
        raise ValueError(f"holdout must be at least 2, got {holdout}")
    listed = {split: _indices(names, lists[split], split, missing, source) for split in lists}
    test, val = listed.get("test"), listed.get("val", ())
    if test is None and "val" in listed:
        test, val = listed["val"], ()
    notes: tuple[str, ...] = ()
    if "train" not in listed and test is None:
        if len(names) == 1:
            return Split((0,), (0,), (), ("there is one view only: it is trained and tested on",))
        test = tuple(range(0, len(names), holdout))
        notes = (f"no split is given: every {holdout}th view by name is for testing",)
    everything = range(len(names))
    train = listed.get("train")
    if train is None:
        held = {*(test or ()), *val}
        train = tuple(index for index in everything if index not in held)
    if test is None:
        test = tuple(index for index in everything if index not in train)
    both = sorted(set(train) & set(test))
    if both:
        raise ValueError(f"{source}: {names[both[0]]} is listed both for training and for testing")
    for split, views in (("train", train), ("test", test)):
        if not views:
            raise ValueError(f"{source}: the {split} split must not be empty: it has no views")
    if tuple(val) == tuple(test):
        val = ()
    return Split(tuple(train), tuple(test), tuple(val), notes)


def _indices(
    names: Sequence[str], wanted: Sequence[str], split: str, missing: Sequence[str], source: str
) -> tuple[int, ...]:
    places = {_key(name): index for index, name in enumerate(names)}
    files = [Path(name).name for name in names]
    by_file = {file: index for index, file in enumerate(files) if files.count(file) == 1}
    gone = {_key(name) for name in missing} | {Path(name).name for name in missing}
    found = []
    for name in wanted:
        index = places.get(_key(name), by_file.get(Path(name).name))
        if index is not None:
            found.append(index)
        elif _key(name) not in gone and Path(name).name not in gone:
            raise ValueError(f"{source}: the {split} list names {name}, which is no view")
    return tuple(sorted(set(found)))


def _key(name: str) -> str:
    return Path(name).as_posix().removeprefix("./")
