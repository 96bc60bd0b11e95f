"""What one would use instead of the voxel renderer: naive marches, a compiled DDA, and Embree."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from voxels.meshing import face_mesh
from voxels.rendering.crossings import Composite, axis_features


def naive_march(shape, logits, probs, lit, eye, directions) -> Composite:
    """Samples every half cell and composites the nearest cells, in a checkpointed scan. Inexact."""
    size = jnp.array(shape, jnp.float32)
    rays = directions.reshape(-1, 3)
    table = axis_features(probs, lit, eye).reshape(-1, 3, 3)
    low, high = -eye / rays, (size - eye) / rays
    enter = jnp.maximum(jnp.minimum(low, high).max(-1), 0.05)
    leave = jnp.maximum(low, high).min(-1)
    alpha = 1 - jnp.sqrt(1 - jax.nn.sigmoid(logits.reshape(-1)))  # two samples make a cell

    @jax.checkpoint
    def step(carry, i):
        color, passing = carry
        t = enter + 0.5 * (i + 0.5)
        cell = jnp.clip(jnp.floor(eye + t[:, None] * rays), 0, size - 1).astype(jnp.int32)
        flat = (cell[:, 0] * shape[1] + cell[:, 1]) * shape[2] + cell[:, 2]
        planes = (cell + (rays < 0) - eye) / rays
        a = jnp.where(t < leave, alpha[flat], 0.0)
        weight = passing * a
        color = color + weight[:, None] * table[flat, jnp.argmax(planes, axis=-1)]
        return (color, passing - weight), None

    count = 2 * math.ceil(float(np.linalg.norm(shape)))
    start = (jnp.zeros_like(rays), jnp.ones(len(rays)))
    (color, passing), _ = jax.lax.scan(step, start, jnp.arange(count))
    return Composite(color, passing, color, passing, passing)


def naive_samples(shape, logits, probs, lit, eye, directions, *, num_rays=4096) -> Composite:
    """Samples as radiance-field code does: all half-cell samples of a few thousand rays at once.

    Positions, cells, one gather and an exclusive product along each ray, chunk after chunk, each
    computed again in the backward pass so that memory does not grow with the picture. Inexact.
    """
    size = jnp.array(shape, jnp.float32)
    table = axis_features(probs, lit, eye).reshape(-1, 3, 3)
    alpha = 1 - jnp.sqrt(1 - jax.nn.sigmoid(logits.reshape(-1)))  # two samples make a cell
    count = 2 * math.ceil(float(np.linalg.norm(shape)))

    @jax.checkpoint
    def chunk(rays):
        low, high = -eye / rays, (size - eye) / rays
        enter = jnp.maximum(jnp.minimum(low, high).max(-1), 0.05)
        leave = jnp.maximum(low, high).min(-1)
        t = enter[:, None] + 0.5 * (jnp.arange(count) + 0.5)
        point = eye + t[..., None] * rays[:, None]
        cell = jnp.clip(jnp.floor(point), 0, size - 1).astype(jnp.int32)
        flat = (cell[..., 0] * shape[1] + cell[..., 1]) * shape[2] + cell[..., 2]
        planes = (cell + (rays < 0)[:, None] - eye) / rays[:, None]
        a = jnp.where(t < leave[:, None], alpha[flat], 0.0)
        passed = jnp.cumprod(1 - a, axis=-1)
        before = jnp.concatenate([jnp.ones_like(passed[:, :1]), passed[:, :-1]], axis=-1)
        shown = table[flat, jnp.argmax(planes, axis=-1)]
        return jnp.sum((before * a)[..., None] * shown, axis=1), passed[:, -1]

    chunks = directions.reshape(-1, num_rays, 3)
    color, passing = (x.reshape(-1, *x.shape[2:]) for x in jax.lax.map(chunk, chunks))
    return Composite(color, passing, color, passing, passing)


@functools.cache
def compiled_dda() -> Any:
    """A DDA with the renderer's meaning, compiled by numba for this processor, on all cores."""
    import numba

    @numba.njit(parallel=True, fastmath=True, cache=False)
    def trace(alpha, table, eye, rays, out):
        nx, ny, nz = alpha.shape
        size = np.array([nx, ny, nz])
        for r in numba.prange(rays.shape[0]):
            t0, t1 = 0.05, 1e30
            inverse = np.empty(3, np.float32)
            for k in range(3):
                d = rays[r, k] if abs(rays[r, k]) > 1e-30 else np.float32(1e-30)
                inverse[k] = 1 / d
                a, b = -eye[k] * inverse[k], (size[k] - eye[k]) * inverse[k]
                t0, t1 = max(t0, min(a, b)), min(t1, max(a, b))
            cell = np.empty(3, np.int64)
            axis = 0
            best = -1e30
            for k in range(3):
                c = int(np.floor(eye[k] + t0 * rays[r, k]))
                cell[k] = min(max(c, 0), size[k] - 1)
                near = (cell[k] + (inverse[k] < 0) - eye[k]) * inverse[k]
                if near > best:
                    best, axis = near, k
            passing = np.float32(1)
            red = green = blue = np.float32(0)
            t = t0
            while t < t1 and passing > 1e-7:
                a = alpha[cell[0], cell[1], cell[2]]
                weight = passing * a
                if weight > 0:
                    color = table[cell[0], cell[1], cell[2], axis]
                    red += weight * color[0]
                    green += weight * color[1]
                    blue += weight * color[2]
                    passing -= weight
                least = 1e30
                for k in range(3):
                    far = (cell[k] + (inverse[k] > 0) - eye[k]) * inverse[k]
                    if far < least:
                        least, axis = far, k
                t = least
                cell[axis] += 1 if inverse[axis] > 0 else -1
                if cell[axis] < 0 or cell[axis] >= size[axis]:
                    break
            out[r, 0], out[r, 1], out[r, 2], out[r, 3] = red, green, blue, passing

    return trace


def dda_call(alpha, features, eye, directions) -> tuple[Any, np.ndarray]:
    """A call of the DDA without arguments, and the array of RGBT it fills."""
    rays = np.ascontiguousarray(np.asarray(directions).reshape(-1, 3))
    out = np.zeros((len(rays), 4), np.float32)
    held = (np.ascontiguousarray(alpha), np.ascontiguousarray(features), np.asarray(eye), rays)
    return lambda: compiled_dda()(*held, out), out


def embree_call(block_map, eye, directions) -> Any:
    """A call without arguments that finds the first triangle of the exposed faces."""
    import trimesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    shape = block_map.materials.shape
    mesh = face_mesh(block_map, is_merged=False)
    corners = mesh.corners.reshape(-1, 3) - [-shape[0] / 2, 0, -shape[2] / 2]
    first = 4 * np.arange(len(mesh.face))[:, None]
    triangles = (first + np.array([[0, 1, 2, 0, 2, 3]])).reshape(-1, 3)
    tracer = RayMeshIntersector(trimesh.Trimesh(corners, triangles, process=False))
    rays = np.asarray(directions, np.float64).reshape(-1, 3)
    origins = np.broadcast_to(np.asarray(eye, np.float64), rays.shape)
    return lambda: tracer.intersects_first(origins, rays)
