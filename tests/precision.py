"""Which matrix products a program leaves to an accelerator's default of few bits."""

from collections.abc import Iterator
from typing import Any

import jax
from jax.lax import Precision


def count_products(function: Any, *arguments: Any) -> tuple[int, int]:
    """Counts the matrix products of a program, and those not asked for in full float32.

    CPUs compute all of them in float32, so only the program tells.
    """
    products = [
        equation
        for equation in _equations(jax.make_jaxpr(function)(*arguments).jaxpr)
        if equation.primitive.name in ("dot_general", "conv_general_dilated")
    ]
    exact = (Precision.HIGHEST, Precision.HIGHEST)
    inexact = [equation for equation in products if equation.params["precision"] != exact]
    return len(products), len(inexact)


def _equations(jaxpr: Any) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")
        ):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _equations(inner)
