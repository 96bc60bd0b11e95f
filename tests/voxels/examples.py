"""Random grids and cameras in cell units, as float64 NumPy arrays."""

import numpy as np

from voxels.procedural import look_at

EYES = {
    "outside": ((-6.3, 5.2, 12.1), (3.0, 2.0, 3.0)),
    "inside": ((3.3, 2.2, 4.4), (9.0, 1.0, 2.0)),
    "on a corner": ((3.0, 2.0, 4.0), (0.0, 2.0, 4.0)),
    "far below": ((4.0, -60.0, 4.01), (4.0, 3.0, 4.0)),
    "on a face of the grid": ((4.0, 6.0, 3.5), (4.3, 0.0, 3.1)),
}


def random_cells(seed, shape, materials=4):
    """Occupancy logits, material probabilities and a table of lit colours."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=shape) * 2 - 1.0
    probs = random.dirichlet(np.ones(materials), shape)
    return logits, probs, random.random((materials, 6, 3))


def pinhole(eye, centre, rows, cols, focal):
    """Camera axes as columns, principal point, and unit directions through the pixel centres."""
    pose = look_at(np.array(eye, float), np.array(centre, float))
    x = (np.arange(cols) + 0.5 - cols / 2) / focal
    y = (np.arange(rows) + 0.5 - rows / 2) / focal
    grid = np.stack(np.broadcast_arrays(x[None, :], -y[:, None], -1.0), axis=-1)
    directions = grid @ pose[:3, :3].T
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    return pose[:3, :3], np.array([cols / 2, rows / 2]), directions
