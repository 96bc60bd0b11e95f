"""Reads JSON files whose errors name the file and the field."""

import json
import math
import reprlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

_MISSING = object()
_MOST_DIGITS = 300  # what fits into a float, with room


class Fields:
    """A JSON object that knows which file and which field it is.

    Attributes:
      file: path of the file it was read from.
      prefix: where in the file it is, "" for the whole.
      values: the object's entries.
    """

    def __init__(self, file: Path, values: dict[str, Any], prefix: str = "") -> None:
        self.file = file
        self.values = values
        self.prefix = prefix

    def where(self, name: str) -> str:
        """File and full name of a field, as errors begin."""
        return f"{self.file}: {self.prefix}{name}"

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def number(self, name: str, default: int | float | None = None) -> float:
        """A finite number.

        Raises:
          ValueError: if it is missing without a default, or is not a finite number.
        """
        value = self.values.get(name, _MISSING)
        if value is _MISSING or value is None:
            if default is None:
                raise ValueError(f"{self.where(name)} is missing; a number is needed")
            return float(default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{self.where(name)} must be a number, got {_shown(value)}")
        if not math.isfinite(value):
            raise ValueError(f"{self.where(name)} must be finite, got {value!r}")
        return float(value)

    def positive(self, name: str, default: int | float | None = None) -> float:
        """A finite number above zero.

        Raises:
          ValueError: as `number`, or if it is not positive.
        """
        value = self.number(name, default)
        if value <= 0:
            raise ValueError(f"{self.where(name)} must be positive, got {value:g}")
        return value

    def flag(self, name: str) -> bool:
        """True or false, or 1 or 0; false where it is missing.

        Raises:
          ValueError: if it is something else.
        """
        value = self.values.get(name)
        if value is not None and (not isinstance(value, int) or value not in (0, 1)):
            raise ValueError(f"{self.where(name)} must be true or false, got {_shown(value)}")
        return bool(value)

    def text(self, name: str) -> str:
        """A string that is not empty and can name a file.

        Raises:
          ValueError: if it is missing, empty or something else.
        """
        value = self.values.get(name)
        if not isinstance(value, str) or not value:
            raise ValueError(f"{self.where(name)} must be a non-empty text, got {_shown(value)}")
        if not can_be_name(value):
            raise ValueError(f"{self.where(name)} must be readable text, got {_shown(value)}")
        return value

    def matrix(self, name: str) -> Float[np.ndarray, "4 4"]:
        """A 4x4 matrix; 3x4 is completed by the row 0 0 0 1. Values may be non-finite.

        Raises:
          ValueError: if it is missing or of another shape.
        """
        value = self.values.get(name, _MISSING)
        if value is _MISSING:
            raise ValueError(f"{self.where(name)} is missing; a 4x4 matrix is needed")
        try:
            matrix = np.array(value, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"{self.where(name)} must be a 4x4 matrix of numbers") from None
        if matrix.shape == (3, 4):
            matrix = np.vstack([matrix, [0.0, 0.0, 0.0, 1.0]])
        if matrix.shape != (4, 4):
            raise ValueError(f"{self.where(name)} must be a 4x4 matrix, got shape {matrix.shape}")
        return matrix

    def objects(self, name: str) -> "list[Fields]":
        """A list of objects, each knowing its place.

        Raises:
          ValueError: if it is missing, empty or not a list of objects.
        """
        value = self.values.get(name, _MISSING)
        if value is _MISSING:
            raise ValueError(f"{self.where(name)} is missing; a list is needed")
        if not isinstance(value, list):
            raise ValueError(f"{self.where(name)} must be a list, got {type(value).__name__}")
        if not value:
            raise ValueError(f"{self.where(name)} must not be empty: the split has no views")
        entries = []
        for index, entry in enumerate(value):
            place = f"{name}[{index}]"
            if not isinstance(entry, dict):
                raise ValueError(f"{self.where(place)} must be an object, got {_shown(entry)}")
            entries.append(Fields(self.file, entry, f"{self.prefix}{place}."))
        return entries


def read_json(path: Path) -> Fields:
    """Reads a file that holds one JSON object.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: naming file, line and column, if it is not JSON or not an object.
    """
    values = read_json_value(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path}: must hold a JSON object, got {type(values).__name__}")
    return Fields(path, values)


def read_json_value(path: Path) -> Any:
    """Reads a file that holds any one JSON value; its integers are below 1e300.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: naming the file, and line and column where it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_int=_integer)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: file not found") from None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}: not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file, so not JSON") from None
    except RecursionError:
        raise ValueError(f"{path}: lists or objects are nested too deeply") from None
    except _TooLongError as error:
        raise ValueError(f"{path}: {error}") from None


def can_be_name(text: str) -> bool:
    """Whether a text can be part of a file's name: no zero character, no half of a pair."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


class _TooLongError(ValueError):
    """An integer no float can hold."""


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise _TooLongError(f"holds a number of {len(digits)} digits")
    return int(digits)


def _shown(value: Any) -> str:
    """A value for a message: short, and without following it into its depths."""
    return reprlib.repr(value)
