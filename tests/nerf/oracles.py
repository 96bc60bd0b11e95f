"""Slow, plain NumPy float64 versions of what `nerf` computes."""

import numpy as np


def render_weights(optical_depth):
    """Weights of one ray, sample by sample."""
    through, weights = 1.0, []
    for tau in np.asarray(optical_depth, np.float64):
        weights.append(through * -np.expm1(-tau))
        through *= np.exp(-tau)
    return np.array(weights)


def hash_encode(levels, tables, point):
    """Features of one point, corner by corner, with Python integers for the hash."""
    features = []
    for level, table in zip(levels, tables, strict=True):
        scaled = np.asarray(point, np.float64) * level.resolution
        cell = np.minimum(np.floor(scaled), level.resolution - 1).astype(int)
        fraction = scaled - cell
        total = np.zeros(table.shape[1])
        for corner in np.ndindex(2, 2, 2):
            i, j, k = (int(c + o) for c, o in zip(cell, corner, strict=True))
            if level.is_dense:
                side = level.resolution + 1
                index = i + side * (j + side * k)
            else:
                hashed = i ^ (j * 2654435761) % 2**32 ^ (k * 805459861) % 2**32
                index = hashed % level.num_entries
            weight = np.prod([f if o else 1 - f for f, o in zip(fraction, corner, strict=True)])
            total += weight * np.asarray(table[index], np.float64)
        features.append(total)
    return np.concatenate(features)


def march(occupied, resolution, low, high, origin, direction, far, start, step, count):
    """Distances of one ray's samples: candidates in occupied cells, until it leaves the box."""
    with np.errstate(divide="ignore"):
        a, b = (low - origin) / direction, (high - origin) / direction
    leave = min(np.min(np.maximum(a, b)), far)
    kept = []
    for k in range(count):
        t = start + k * step
        unit = (origin + t * direction - low) / (high - low)
        cell = np.clip((unit * resolution).astype(int), 0, resolution - 1)
        if t < leave and occupied[tuple(cell)]:
            kept.append(t)
    return kept
