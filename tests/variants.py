"""Running one test eagerly and compiled, and counting traces."""

import contextlib
import logging

import jax
import pytest


def eager(fn):
    """Leaves a function as it is."""
    return fn


variants = pytest.mark.parametrize("transform", [eager, jax.jit])


def counted(fn):
    """Wraps a function so that `.count` tells how often it was traced (or called eagerly)."""

    def wrapper(*args):
        wrapper.count += 1
        return fn(*args)

    wrapper.count = 0
    return wrapper


def assert_traced_once(fn, *calls):
    """Compiles `fn` and calls it with each tuple of arguments: one trace serves all of them."""
    wrapped = counted(fn)
    compiled = jax.jit(wrapped)
    for arguments in calls:
        jax.block_until_ready(compiled(*arguments))
    assert wrapped.count == 1, f"traced {wrapped.count} times for {len(calls)} calls"


def assert_same_shapes(before, after):
    """Two trees agree in structure, shapes and dtypes."""
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)


@contextlib.contextmanager
def count_compilations():
    """Collects the names of what XLA compiles inside the block; the list is empty if nothing."""
    names = []
    handler = logging.Handler()
    handler.emit = lambda record: names.append(record.getMessage())
    logger = logging.getLogger("jax._src.interpreters.pxla")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with jax.log_compiles(True):
            yield names
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
