"""Settings as users type them: is a number where a number belongs?"""

import numbers
import types
import typing
from typing import Any

import numpy as np

_PLAIN = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
    types.NoneType: "none",
}


def check_type(where: str, value: object, hint: Any) -> None:
    """Raises ValueError for a number, word or truth value where the config has another of them."""
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if any(kind not in _PLAIN for kind in allowed):
        return
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    fits = {
        bool: isinstance(value, bool | np.bool_),
        int: is_number and isinstance(value, numbers.Integral),
        float: is_number,
        str: isinstance(value, str),
        types.NoneType: value is None,
    }
    if not any(fits[kind] for kind in allowed):
        wanted = " or ".join(_PLAIN[kind] for kind in allowed)
        raise ValueError(f"{where} must be {wanted}, got {value!r}")
