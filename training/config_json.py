"""Configs as JSON and back: nested frozen dataclasses of plain values.

Reading checks every field's name and type against the class, then the class checks itself, so a
file that was edited by hand fails with the name of the field.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, Union

Config = TypeVar("Config")
BEFORE = "before"
"""Key of a field's metadata: its value in runs older than the field."""


def to_json(config: Any) -> Any:
    """Turns a config into JSON values; tuples become lists."""
    if dataclasses.is_dataclass(config):
        return {
            field.name: to_json(getattr(config, field.name)) for field in dataclasses.fields(config)
        }
    if isinstance(config, tuple):
        return [to_json(value) for value in config]
    return config


def from_json(kind: type[Config], values: Any, source: str) -> Config:
    """Builds a config of class `kind`; `from_json(type(c), to_json(c), "") == c`.

    Args:
      source: where the values are from; every message begins with it.
    Raises:
      ValueError: naming the field, for unknown or missing fields, wrong types, or values the
        class refuses.
    """
    return _convert(kind, values, source, "")


def replace_fields(config: Config, assignments: Mapping[str, str]) -> Config:
    """Changes fields, given by dotted paths and by their values as typed by a user.

    The classes check what comes out, not what is there in between, so settings that have to fit
    each other may be changed together.
    Raises:
      ValueError: for an unknown field (listing the known ones) or a value that does not fit.
    """
    values = to_json(config)
    for path, text in assignments.items():
        assign(config, values, path, text)
    return from_json(type(config), values, "")


def assign(config: Any, values: dict[str, Any], path: str, text: str) -> None:
    """Writes one setting into a config's JSON values, which are checked later.

    Entries of a table go by their names: `terms.NAME.limit=0.5` changes one, `terms=[NAME, NAME]`
    keeps these.

    Args:
      config: says which fields there are and of which type.
      values: of `to_json(config)`; changed.
    Raises:
      ValueError: as `replace_fields`.
    """
    head, _, rest = path.partition(".")
    hints = typing.get_type_hints(type(config))
    if head not in hints:
        raise ValueError(f"no setting {head!r} in {type(config).__name__}: {', '.join(hints)}")
    current = getattr(config, head)
    if rest:
        if names := _names_of_entries(current):
            name, _, field = rest.partition(".")
            if name not in names or not field:
                raise ValueError(
                    f"setting {head!r} needs an entry and its field, {head}.{names[0]}.FIELD; "
                    f"entries: {', '.join(names)}"
                )
            kept = {entry["name"]: entry for entry in values[head]}
            if name not in kept:
                raise ValueError(f"setting {head!r} keeps {', '.join(kept)}, not {name}")
            assign(current[names.index(name)], kept[name], field, text)
            return
        if not dataclasses.is_dataclass(current):
            raise ValueError(f"setting {head!r} is a plain value and has no field {rest!r}")
        assign(current, values[head], rest, text)
    elif names := _names_of_entries(current):
        kept = _parse_list(text)
        if not isinstance(kept, list) or not set(kept) <= set(names):
            raise ValueError(
                f"setting {head!r} takes the entries to keep, [{', '.join(names)}], got {text}"
            )
        values[head] = [values[head][names.index(name)] for name in kept]
    elif dataclasses.is_dataclass(current):
        names = ", ".join(f"{head}.{field.name}" for field in dataclasses.fields(current))
        raise ValueError(f"setting {head!r} is a group; choose one of {names}")
    else:
        values[head] = to_json(_convert(hints[head], _parse_list(text), "", head))


def _names_of_entries(current: Any) -> list[str]:
    """Names the entries of a table: a tuple of dataclasses that have names."""
    if not isinstance(current, tuple):
        return []
    names = [getattr(entry, "name", None) for entry in current if dataclasses.is_dataclass(entry)]
    return [name for name in names if isinstance(name, str)] if None not in names else []


def parse_value(text: str) -> bool | int | float | str | None:
    """Reads a value as a user types it: true, false, none, a number, or else a word."""
    words: dict[str, bool | None] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _parse_list(text: str) -> Any:
    """Reads a value, or several between brackets: [16, 16, 8]."""
    if not (text.startswith("[") and text.endswith("]")):
        return parse_value(text)
    inside = text[1:-1].strip()
    return [parse_value(part.strip()) for part in inside.split(",")] if inside else []


def parse_assignments(items: Sequence[str], flag: str, *, implied: str = "") -> dict[str, str]:
    """Splits NAME=VALUE words.

    Args:
      implied: what names may begin with or leave out; it is taken off.
    Raises:
      ValueError: for a word without "=" or a name given twice.
    """
    result: dict[str, str] = {}
    for item in items:
        name, found, value = item.partition("=")
        if not found or not name:
            raise ValueError(f"{flag} takes NAME=VALUE, got {item!r}")
        name = name.removeprefix(implied)
        if name in result:
            raise ValueError(f"{flag} gives {name} twice")
        result[name] = value
    return result


def changed_fields(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Lists the fields in which two configs differ, as `path: old -> new`."""
    if dataclasses.is_dataclass(old) and type(old) is type(new):
        found: list[str] = []
        for field in dataclasses.fields(old):
            path = f"{prefix}.{field.name}" if prefix else field.name
            found += changed_fields(getattr(old, field.name), getattr(new, field.name), path)
        return found
    return [] if old == new else [f"{prefix}: {old!r} -> {new!r}"]


def _convert(kind: Any, values: Any, source: str, path: str) -> Any:
    where = ": ".join(part for part in (source, path) if part)

    def wrong(wanted: str) -> ValueError:
        return ValueError(f"{where}: must be {wanted}, got {values!r}")

    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _convert_dataclass(kind, values, source, path)
    if origin is Literal:
        if values not in arguments:
            raise wrong("one of " + ", ".join(map(str, arguments)))
        return values
    if origin in (Union, types.UnionType):
        for choice in sorted(arguments, key=lambda choice: choice is float):
            try:
                return _convert(choice, values, source, path)
            except ValueError:
                continue
        raise wrong(" or ".join(_name(choice) for choice in arguments))
    if origin is tuple:
        if not isinstance(values, (list, tuple)):
            raise wrong("a list")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            arguments = (arguments[0],) * len(values)
        if len(arguments) != len(values):
            raise wrong(f"a list of {len(arguments)}")
        return tuple(
            _convert(part, value, source, f"{path}[{index}]")
            for index, (part, value) in enumerate(zip(arguments, values, strict=True))
        )
    if kind is float and type(values) is int:
        return float(values)
    if kind is float and type(values) is float and not math.isfinite(values):
        raise wrong("a finite number")
    if kind is type(None):
        kind = types.NoneType
    if type(values) is not kind:
        raise wrong(_name(kind))
    return values


def _convert_dataclass(kind: Any, values: Any, source: str, path: str) -> Any:
    where = ": ".join(part for part in (source, path) if part)
    if not isinstance(values, dict):
        raise ValueError(f"{where}: must be an object, got {values!r}")
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    for name in values:
        if name not in names:
            raise ValueError(f"{where}: unknown field {name!r}; fields: {', '.join(names)}")
    added = {f.name: f.metadata[BEFORE] for f in dataclasses.fields(kind) if BEFORE in f.metadata}
    values = added | values
    missing = [name for name in names if name not in values]
    if missing:
        raise ValueError(f"{where}: missing field {', '.join(missing)}")
    converted = {
        name: _convert(hints[name], values[name], source, f"{path}.{name}" if path else name)
        for name in names
    }
    try:
        return kind(**converted)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _name(kind: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    return (
        "none" if kind is types.NoneType else names.get(kind, getattr(kind, "__name__", str(kind)))
    )
