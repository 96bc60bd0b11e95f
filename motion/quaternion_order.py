"""Whether quaternions are written w x y z or x y z w, judged by what people do: stay upright.

Reading the wrong order turns an upright root by half a turn about a line that leaves the vertical
as soon as the body turns, so the wrong reading shows as a body that tips over. A clip that keeps
one heading, and stays upright, looks the same both ways but for facing backwards.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float

from . import resampling

Order = Literal["wxyz", "xyzw"]
_CLEAR = 0.3
_TELLING = 0.01


def detect(columns: Float[np.ndarray, "frames 4"]) -> Order | None:
    """Names the order under which the root is more upright, or else faces its own zero.

    Returns None when the two cannot be told apart.
    """
    first, second = (_uprightness(reorder(columns, order)) for order in ("wxyz", "xyzw"))
    if abs(first - second) > _TELLING:
        return "wxyz" if first > second else "xyzw"
    scalar = np.mean(columns**2, axis=0)
    if abs(scalar[0] - scalar[3]) > _TELLING:
        return "wxyz" if scalar[0] > scalar[3] else "xyzw"
    return None


def check(columns: Float[np.ndarray, "frames 4"], order: Order, source: str) -> None:
    """Raises ValueError when the other order makes the root clearly more upright."""
    other: Order = "xyzw" if order == "wxyz" else "wxyz"
    here, there = (_uprightness(reorder(columns, name)) for name in (order, other))
    if there - here > _CLEAR:
        raise ValueError(
            f"{source}: root quaternions look like {_spaced(other)}, not {_spaced(order)}: read as "
            f"{_spaced(order)} the root's up axis points {here:+.2f} up on average, as "
            f"{_spaced(other)} {there:+.2f}"
        )


def reorder(columns: Float[np.ndarray, "frames 4"], order: Order) -> Float[np.ndarray, "frames 4"]:
    """Brings quaternions of the named order to w x y z."""
    return columns if order == "wxyz" else np.roll(columns, 1, axis=1)


def _uprightness(quaternion: Float[np.ndarray, "frames 4"]) -> float:
    return float(np.mean(resampling.up_component(quaternion)))


def _spaced(order: str) -> str:
    return " ".join(order)
