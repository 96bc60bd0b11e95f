"""Makes XLA work something out once.

XLA fuses cheap arithmetic into every kernel that reads its result: what ten kernels read is worked
out, and compiled, ten times. On CPU an optimisation barrier does not stop it; a loop of two rounds
does, one for each half of the rows. Elsewhere a barrier does, and a loop is dear: the host takes
part in every round.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped


def in_halves(row_fn: Callable[..., Any], *rows: Shaped[Array, "n ..."]) -> Any:
    """Gives row_fn(*rows), on CPU computed in two halves and kept.

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


def map_halves(row_fn: Callable[..., Any], *rows: Shaped[Array, "n ..."]) -> Any:
    """Gives row_fn(*rows) by a loop of two rounds, on any backend."""
    n = rows[0].shape[0]
    padded = (jnp.pad(part, [(0, n % 2)] + [(0, 0)] * (part.ndim - 1)) for part in rows)
    halves = tuple(part.reshape(2, -1, *part.shape[1:]) for part in padded)
    found = jax.lax.map(lambda parts: row_fn(*parts), halves)
    return jax.tree.map(lambda part: part.reshape(-1, *part.shape[2:])[:n], found)
