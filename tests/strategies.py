"""Hypothesis strategies: values are free, shapes come from the caller (each shape compiles)."""

import jax
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

NASTY = (float("nan"), float("inf"), float("-inf"), -1.0, 0.0, 1e-45, 1e-30, 1.0, 1e30, 3e38)


def keys():
    """New-style PRNG keys."""
    return st.integers(0, 2**31 - 1).map(jax.random.key)


def finite(shape, low=-10.0, high=10.0):
    """Finite float32 arrays within bounds."""
    values = st.floats(low, high, width=32)
    return hnp.arrays(np.float32, shape, elements=values)


def positive(shape, low=0.0625, high=16.0):
    """Positive float32 arrays."""
    return finite(shape, low, high)


def nasty(shape):
    """Float32 arrays with NaN, infinities, negatives, zeros, subnormals and giants among them."""
    values = st.one_of(st.sampled_from(NASTY), st.floats(-2, 2, width=32))
    return hnp.arrays(np.float32, shape, elements=values)


def weights(shape):
    """Usable weights: many zeros, some spread over magnitudes, at least one positive."""
    values = st.one_of(st.just(0.0), st.floats(0.0625, 1024.0, width=32))
    return hnp.arrays(np.float32, shape, elements=values).filter(lambda w: w.sum() > 0)


def probabilities(size):
    """Distributions over `size` items, some one-hot, some with zeros."""
    one_hot = st.integers(0, size - 1).map(lambda i: np.eye(size, dtype=np.float32)[i])
    general = weights(size).map(lambda w: (w / w.sum()).astype(np.float32))
    return st.one_of(one_hot, general)


def indices(shape, size):
    """Indices below `size`, often repeated."""
    return hnp.arrays(np.int32, shape, elements=st.integers(0, size - 1))
