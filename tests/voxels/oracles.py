"""Slow or third-party answers for the voxel renderer: loops in float64, and Embree."""

import itertools

import numpy as np

from voxels.block_map import exposed_faces

FACE_AXES = ((0, 1), (0, 0), (1, 1), (1, 0), (2, 1), (2, 0))  # axis, and offset of the plane


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-np.asarray(x, np.float64)))


def brute_force(mode, near, logits, probs, lit, eye, directions):
    """Composites one ray after another by cutting it at every plane; plain NumPy, float64.

    Independent of boxes, sorting and traversal: all plane crossings of the ray are sorted, and
    the cell of each piece is found from its midpoint.
    """
    shape = logits.shape
    occupancy = sigmoid(logits)
    rows, cols = directions.shape[:2]
    features = np.zeros((rows, cols, lit.shape[-1]))
    passing = np.ones((rows, cols))
    depth = np.zeros((rows, cols))
    for r in range(rows):
        for c in range(cols):
            d = np.asarray(directions[r, c], np.float64)
            planes = [
                (np.arange(shape[k] + 1) - eye[k]) / d[k] for k in range(3) if abs(d[k]) > 1e-12
            ]
            cuts = np.unique(np.concatenate([[near], *planes]))
            cuts = cuts[cuts >= near]
            for t_in, t_out in itertools.pairwise(cuts):
                cell = np.floor(eye + 0.5 * (t_in + t_out) * d).astype(int)
                if t_out - t_in < 1e-12 or (cell < 0).any() or (cell >= shape).any():
                    continue
                o = occupancy[tuple(cell)]
                a = {"solid": o, "beer": 1 - (1 - o) ** (t_out - t_in), "hard": float(o > 0.5)}[
                    mode
                ]
                with np.errstate(divide="ignore", invalid="ignore"):
                    entry = np.where(d > 0, cell - eye, cell + 1 - eye) / d
                axis = int(np.argmax(np.where(np.abs(d) > 1e-12, entry, -np.inf)))
                face = 2 * axis + (d[axis] > 0)
                weight = passing[r, c] * a
                features[r, c] += weight * (probs[tuple(cell)] @ lit[:, face])
                depth[r, c] += weight * t_in
                passing[r, c] *= 1 - a
    return features, passing, depth


def embree_first_hits(materials, eye, directions):
    """Face, material and distance in cells of the first hit of each ray, by Embree; -1 for sky."""
    import trimesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    exposed = exposed_faces(materials)
    vertices, owners = [], []
    for face, (axis, offset) in enumerate(FACE_AXES):
        cells = np.argwhere(exposed[..., face])
        u, v = [k for k in range(3) if k != axis]
        for du, dv in ((0, 0), (1, 0), (1, 1), (0, 1)):
            corner = cells.astype(np.float64)
            corner[:, axis] += offset
            corner[:, u] += du
            corner[:, v] += dv
            vertices.append(corner)
        owners.append(np.stack([np.full(len(cells), face), materials[tuple(cells.T)]], 1))
    quads = np.concatenate(
        [np.stack(vertices[4 * f : 4 * f + 4], axis=1) for f in range(6)]
    )  # faces x 4 corners
    owner = np.concatenate(owners)
    first = 4 * np.arange(len(quads))[:, None]
    triangles = np.concatenate(
        [first + np.array([0, 1, 2]), first + np.array([0, 2, 3])], axis=1
    ).reshape(-1, 3)
    mesh = trimesh.Trimesh(quads.reshape(-1, 3), triangles, process=False)
    flat = directions.reshape(-1, 3).astype(np.float64)
    origins = np.broadcast_to(eye, flat.shape)
    hit = RayMeshIntersector(mesh).intersects_first(origins, flat)
    is_hit = hit >= 0
    quad = np.where(is_hit, hit // 2, 0)
    face = np.where(is_hit, owner[quad, 0], -1)
    material = np.where(is_hit, owner[quad, 1], -1)
    axis = np.array([a for a, _ in FACE_AXES])[np.where(is_hit, face, 0)]
    plane = quads[quad, 0][np.arange(len(quad)), axis]
    along = np.take_along_axis(flat, axis[:, None], axis=1)[:, 0]
    along = np.where(along == 0, 1.0, along)
    distance = np.where(is_hit, (plane - np.asarray(eye)[axis]) / along, np.inf)
    shape = directions.shape[:2]
    return face.reshape(shape), material.reshape(shape), distance.reshape(shape)
