"""Slow, plain NumPy float64 versions of what the packages compute fast."""

import numpy as np


def mixture(weights, uniform_fraction):
    """(1 - λ) w / Σw + λ / N; uniform when all weights are 0."""
    weights = np.asarray(weights, np.float64)
    n = weights.size
    share = weights / weights.sum() if weights.sum() > 0 else np.full(n, 1.0 / n)
    return (1.0 - uniform_fraction) * share + uniform_fraction / n


def write_leaves(leaves, index, value, valid, rule, decay=None):
    """Merges rows of one item by a rule, then overwrites or averages; one row at a time."""
    leaves = np.asarray(leaves, np.float64).copy()
    merged = {}
    for i, v, ok in zip(index, value, valid, strict=True):
        if ok and np.isfinite(v) and v >= 0 and 0 <= i < leaves.size:
            merged.setdefault(int(i), []).append(float(v))
    combine = {"mean": np.mean, "max": np.max, "sum": np.sum, "last": lambda rows: rows[-1]}[rule]
    for i, rows in merged.items():
        new = combine(rows)
        leaves[i] = new if decay is None else decay * leaves[i] + (1.0 - decay) * new
    return leaves


def water_fill(probs, cap):
    """Capped distribution by repeated clipping and rescaling of what is below the cap."""
    probs = np.asarray(probs, np.float64)
    capped = np.zeros(probs.size, bool)
    while True:
        free = 1.0 - cap * capped.sum()
        rest = np.where(capped, 0.0, probs)
        scaled = rest / rest.sum() * free if rest.sum() > 0 else rest
        result = np.where(capped, cap, scaled)
        over = (result > cap * (1 + 1e-12)) & ~capped
        if not over.any():
            return result
        capped |= over
