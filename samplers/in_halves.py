"""Makes XLA work something out once, or for a part of the rows at a time.

XLA fuses cheap arithmetic into every kernel that reads its result: what ten kernels read is worked
out, and compiled, ten times. On CPU an optimisation barrier does not stop it; a loop of two rounds
does, one for each half of the rows, or more for many rows. Elsewhere a barrier does, and a loop is
dear: the host takes part in every round.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

_MOST_ROWS = 2**16


def in_halves(row_fn: Callable[..., Any], *rows: Shaped[Array, "n ..."]) -> Any:
    """Gives row_fn(*rows), on CPU computed in two halves, or smaller parts of many rows, and kept.

    Args:
      row_fn: a function of arrays of n rows, any n, that treats each row by itself; gives a tree of
        such arrays.
    """
    if jax.default_backend() != "cpu":
        return row_fn(*rows)
    return map_halves(row_fn, *rows)


def worked_out(row_fn: Callable[..., Any], *rows: Shaped[Array, "n ..."]) -> Any:
    """The same, kept on every backend: nothing that reads the result works it out again."""
    if jax.default_backend() != "cpu":
        return jax.lax.optimization_barrier(row_fn(*rows))
    return map_halves(row_fn, *rows)


def in_rounds(row_fn: Callable[..., Any], *rows: Shaped[Array, "n ..."]) -> Any:
    """Gives row_fn(*rows), on CPU for at most 2^16 rows at a time.

    What XLA keeps between two kernels then stays in the cache: rows of 64 bytes, a million of them,
    are written to memory and read back otherwise.
    """
    rounds = -(-rows[0].shape[0] // _MOST_ROWS)
    if jax.default_backend() != "cpu" or rounds < 2:
        return row_fn(*rows)
    return _map_rounds(row_fn, rounds, *rows)


def map_halves(row_fn: Callable[..., Any], *rows: Shaped[Array, "n ..."]) -> Any:
    """Gives row_fn(*rows) by a loop of two rounds, of more for many rows, on any backend."""
    return _map_rounds(row_fn, max(2, -(-rows[0].shape[0] // _MOST_ROWS)), *rows)


def _map_rounds(row_fn: Callable[..., Any], rounds: int, *rows: Shaped[Array, "n ..."]) -> Any:
    n = rows[0].shape[0]
    padded = (jnp.pad(part, [(0, -n % rounds)] + [(0, 0)] * (part.ndim - 1)) for part in rows)
    parts = tuple(part.reshape(rounds, -1, *part.shape[1:]) for part in padded)
    found = jax.lax.map(lambda parts: row_fn(*parts), parts)
    return jax.tree.map(lambda part: part.reshape(-1, *part.shape[2:])[:n], found)
