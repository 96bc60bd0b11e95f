"""Adam with one rate per cell: what a cell is made of moves along its gradient, not along signs.

Adam divides every logit's step by that logit's own gradient size. In a cell, the material that is
hardly wrong and the one that is very wrong then lose ground equally fast, and the right one can
become too unlikely to ever be heard again. Dividing all logits of a cell by their largest gradient
keeps the proportions, and still lets cells with few pixels learn as fast as cells with many.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

_TINY = 1e-15


class AdamState(NamedTuple):
    """Number of steps, mean gradient of each logit, mean squared largest gradient of each cell."""

    count: Int[Array, ""]
    mean: Any
    square: Any


def adam_per_cell(
    learning_rate: optax.Schedule, *, b1: float = 0.9, b2: float = 0.99
) -> optax.GradientTransformation:
    """Adam whose second moments are shared by the logits of a cell.

    Parameters are a tree of arrays whose first three axes are those of the grid.
    """

    def init(params: Any) -> AdamState:
        square = jax.tree.map(_largest, params)
        zeros = [jax.tree.map(jnp.zeros_like, tree) for tree in (params, square)]
        return AdamState(jnp.zeros((), jnp.int32), *zeros)

    def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, AdamState]:
        del params
        count = state.count + 1
        mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mean, gradient)
        square = jax.tree.map(
            lambda s, g: b2 * s + (1 - b2) * _largest(jnp.square(g)), state.square, gradient
        )
        rate = -jnp.asarray(learning_rate(state.count)) / (1 - b1**count)

        def step(m: Array, s: Array) -> Array:
            return rate * m / (jnp.sqrt(s / (1 - b2**count)) + _TINY)

        return jax.tree.map(step, mean, square), AdamState(count, mean, square)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def _largest(values: Float[Array, "x y z *rest"]) -> Float[Array, "x y z *ones"]:
    """Largest of each cell, keeping the axes."""
    axes = tuple(range(3, values.ndim))
    return jnp.max(values, axis=axes, keepdims=True) if axes else values
