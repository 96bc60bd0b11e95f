"""How fast the block-world renderer is, against what one would write first and against natives.

Peers: a half-voxel ray march in JAX (checkpointed scan, inexact), a DDA in numba on all cores
(forward only), and Embree through trimesh (first hit only). Times are the least of several runs
after compilation. Run one section at a time or all; results are merged into one file.

    python benchmarks/voxels.py soft hard large compile
"""

import argparse
import functools
import json
import math
import os
import pathlib
import platform
import resource
import time

import jax
import jax.numpy as jnp
import numpy as np

from voxels.block_map import exposed_faces
from voxels.palette import daylight, lit_colors, terrain_palette
from voxels.procedural import WorldConfig, look_at, make_world
from voxels.rendering.binning import Frame
from voxels.rendering.crossings import axis_features
from voxels.rendering.first_hit import HitConfig, composite_hard
from voxels.rendering.ray_march import MarchConfig, composite_march
from voxels.rendering.splat import SplatConfig, composite_splat

RESULTS = pathlib.Path(__file__).parent / "results" / "voxels_cpu.json"
LIT = lit_colors(terrain_palette(), daylight())


def view_of(shape, pixels):
    """An eye above a corner that sees the whole grid; axes, directions and focal length."""
    size = np.array(shape, float)
    pose = look_at(size * [1.2, 1.1, 1.3], size * [0.5, 0.3, 0.5])
    focal = pixels / 2 / np.tan(np.radians(30))
    x = (np.arange(pixels) + 0.5 - pixels / 2) / focal
    grid = np.stack(np.broadcast_arrays(x[None, :], -x[:, None], -1.0), axis=-1)
    directions = grid @ pose[:3, :3].T
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    frame = Frame(
        *(jnp.asarray(v, jnp.float32) for v in (pose[:3, :3], [focal] * 2, [pixels / 2] * 2))
    )
    return jnp.asarray(pose[:3, 3], jnp.float32), frame, jnp.asarray(directions, jnp.float32)


def soft_world(shape):
    """Fog: every cell a little there, of mixed materials."""
    random = np.random.default_rng(0)
    logits = random.normal(size=shape) * 2 - 2
    probs = random.dirichlet(np.ones(7), shape)
    return jnp.asarray(logits, jnp.float32), jnp.asarray(probs, jnp.float32)


def hard_world(shape):
    """A terrain with lakes, houses and towers."""
    block_map = make_world(WorldConfig(shape=shape, num_houses=6, num_towers=4), 0)
    logits = np.where(block_map.is_solid, 5.0, -5.0).astype(np.float32)
    probs = np.eye(8, dtype=np.float32)[block_map.materials][..., 1:]
    return block_map, jnp.asarray(logits), jnp.asarray(probs)


def clock(function, *arguments, repeats=5):
    """Least time in milliseconds, and seconds of the first call."""
    begun = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    first, least = time.perf_counter() - begun, math.inf
    for _ in range(repeats):
        begun = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        least = min(least, time.perf_counter() - begun)
    return round(1000 * least, 1), round(first, 2)


def with_gradient(render):
    """Value and gradient of a loss on all colours."""

    def loss(logits, probs, lit, *rest):
        out = render(logits, probs, lit, *rest)
        return jnp.sum(jnp.square(out.features)) + jnp.sum(out.transmittance)

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))


def naive_march(shape, logits, probs, lit, eye, directions):
    """Samples every half cell and composites the nearest cells: what one would write first."""
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
    from voxels.rendering.crossings import Composite

    zero = jnp.zeros_like(passing)
    return Composite(color, passing, color, zero, zero)


@functools.cache
def numba_dda():
    """A DDA with the same meaning, compiled by LLVM for this processor, on all cores."""
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


def time_numba(alpha, features, eye, directions, repeats=5):
    """Least time of the numba DDA in milliseconds."""
    rays = np.ascontiguousarray(np.asarray(directions).reshape(-1, 3))
    out = np.zeros((len(rays), 4), np.float32)
    arguments = (np.ascontiguousarray(alpha), np.ascontiguousarray(features), np.asarray(eye), rays)
    numba_dda()(*arguments, out)
    least = math.inf
    for _ in range(repeats):
        begun = time.perf_counter()
        numba_dda()(*arguments, out)
        least = min(least, time.perf_counter() - begun)
    return round(1000 * least, 1), out


def soft(results):
    """A 64 x 48 x 64 fog at 256 x 256: forward, and forward with backward."""
    shape, pixels = (64, 48, 64), 256
    logits, probs = soft_world(shape)
    eye, _, directions = view_of(shape, pixels)
    arguments = (logits, probs, LIT, eye, directions)
    config = MarchConfig(has_geometry=False)
    march = functools.partial(composite_march, config)
    naive = functools.partial(naive_march, shape)
    ours, first = clock(jax.jit(march), *arguments)
    ours_both, first_both = clock(with_gradient(march), *arguments)
    naive_forward, _ = clock(jax.jit(naive), *arguments, repeats=3)
    naive_both, _ = clock(with_gradient(naive), *arguments, repeats=2)
    features = axis_features(probs, LIT, eye)
    native, out = time_numba(jax.nn.sigmoid(logits), features, eye, directions)
    gap = np.abs(out[:, :3] - np.asarray(march(*arguments).features).reshape(-1, 3)).max()
    results["soft 64x48x64 at 256x256"] = {
        "forward_ms": ours,
        "forward_backward_ms": ours_both,
        "first_call_s": {"forward": first, "forward_backward": first_both},
        "naive_forward_ms": naive_forward,
        "naive_forward_backward_ms": naive_both,
        "numba_forward_ms": native,
        "times_naive_forward": round(naive_forward / ours, 1),
        "times_naive_forward_backward": round(naive_both / ours_both, 1),
        "ours_over_numba": round(ours / native, 2),
        "largest_difference_to_numba": float(gap),
    }


def hard(results):
    """A 64 x 48 x 64 terrain at 512 x 512: first hits against Embree and numba, and the splat."""
    import trimesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    from voxels.meshing import face_mesh

    shape, pixels = (64, 48, 64), 512
    block_map, logits, probs = hard_world(shape)
    eye, frame, directions = view_of(shape, pixels)
    flat_logits, flat_probs = logits.reshape(-1), probs.reshape(-1, 7)
    config = HitConfig(shape=shape)
    hit = functools.partial(composite_hard, config, None)
    arguments = (flat_logits, flat_probs, LIT, eye, directions)
    ours, _ = clock(jax.jit(hit), *arguments)
    both, _ = clock(with_gradient(hit), *arguments)
    mesh = face_mesh(block_map, is_merged=False)
    corners = mesh.corners.reshape(-1, 3) - [-shape[0] / 2, 0, -shape[2] / 2]
    first = 4 * np.arange(len(mesh.face))[:, None]
    triangles = (first + np.array([[0, 1, 2, 0, 2, 3]])).reshape(-1, 3)
    tracer = RayMeshIntersector(trimesh.Trimesh(corners, triangles, process=False))
    rays = np.asarray(directions, np.float64).reshape(-1, 3)
    origins = np.broadcast_to(np.asarray(eye, np.float64), rays.shape)
    tracer.intersects_first(origins, rays)
    embree = math.inf
    for _ in range(5):
        begun = time.perf_counter()
        tracer.intersects_first(origins, rays)
        embree = min(embree, 1000 * (time.perf_counter() - begun))
    features = axis_features(probs, LIT, eye)
    native, _ = time_numba(logits > 0, features, eye, directions)
    flat = np.flatnonzero(exposed_faces(block_map.materials).any(-1))
    listed = jnp.asarray(flat, jnp.int32)
    splat_config = SplatConfig(shape=shape, max_pairs=1 << 17)

    def splat(logits, probs, lit, eye, directions):
        return composite_splat(
            splat_config, listed, logits, probs, lit, eye, frame, directions
        ).composite

    sparse = (flat_logits[flat], flat_probs[flat], LIT, eye, directions)
    splat_forward, _ = clock(jax.jit(splat), *sparse, repeats=3)
    splat_both, _ = clock(with_gradient(splat), *sparse, repeats=3)
    march = functools.partial(composite_march, MarchConfig(has_geometry=False))
    dense = (logits, probs, LIT, eye, directions)
    march_forward, _ = clock(jax.jit(march), *dense, repeats=3)
    march_both, _ = clock(with_gradient(march), *dense, repeats=3)
    results["terrain 64x48x64 at 512x512"] = {
        "hard_forward_ms": ours,
        "hard_forward_backward_ms": both,
        "embree_first_hit_ms": round(embree, 1),
        "hard_over_embree": round(ours / embree, 2),
        "numba_hard_ms": native,
        "listed_cells": len(flat),
        "splat_forward_ms": splat_forward,
        "splat_forward_backward_ms": splat_both,
        "march_forward_ms": march_forward,
        "march_forward_backward_ms": march_both,
    }


def large(results):
    """A 256 x 256 x 256 terrain at 512 x 512, with parameters for its exposed cells only."""
    shape, pixels = (256, 256, 256), 512
    block_map = make_world(WorldConfig(shape=shape, num_houses=6, num_towers=4), 0)
    flat = np.flatnonzero(exposed_faces(block_map.materials).any(-1)).astype(np.int32)
    material = block_map.materials.reshape(-1)[flat]
    eye, _, directions = view_of(shape, pixels)
    hit = functools.partial(composite_hard, HitConfig(shape=shape), jnp.asarray(flat))
    arguments = (
        jnp.full(len(flat), 5.0),
        jnp.asarray(np.eye(8, dtype=np.float32)[material][:, 1:]),
        LIT,
        eye,
        directions,
    )
    del block_map
    forward, _ = clock(jax.jit(hit), *arguments, repeats=3)
    both, _ = clock(with_gradient(hit), *arguments, repeats=3)
    results["terrain 256x256x256 at 512x512"] = {
        "listed_cells": len(flat),
        "hard_forward_ms": forward,
        "hard_forward_backward_ms": both,
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def compilation(results):
    """Seconds to compile each program, and how many programs new cameras and maps need."""
    shape, pixels = (64, 48, 64), 256
    logits, probs = soft_world(shape)
    eye, _, directions = view_of(shape, pixels)
    march = functools.partial(composite_march, MarchConfig(has_geometry=False))
    hit = functools.partial(composite_hard, HitConfig(shape=shape), None)
    flat = (logits.reshape(-1), probs.reshape(-1, 7), LIT, eye, directions)
    numbers = {}
    for name, program, arguments in (
        ("march forward", jax.jit(march), (logits, probs, LIT, eye, directions)),
        ("march forward + backward", with_gradient(march), (logits, probs, LIT, eye, directions)),
        ("hard forward", jax.jit(hit), flat),
        ("hard forward + backward", with_gradient(hit), flat),
    ):
        begun = time.perf_counter()
        compiled = program.lower(*arguments).compile()
        numbers[name] = round(time.perf_counter() - begun, 2)
        for shift in (0.0, 3.7):
            moved = (arguments[0] + shift, *arguments[1:3], eye + shift, directions)
            jax.block_until_ready(compiled(*moved))
            program(*moved)
        numbers[f"{name}: programs for 2 maps and 2 cameras"] = program._cache_size()
    results["compilation in seconds"] = numbers


SECTIONS = {"soft": soft, "hard": hard, "large": large, "compile": compilation}


def main() -> None:
    """Runs the sections asked for and merges their numbers into the results file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", help=f"any of {', '.join(SECTIONS)}; default all")
    asked = parser.parse_args().sections or list(SECTIONS)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results["machine"] = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "device": jax.default_backend(),
        "jax": jax.__version__,
    }
    for name in asked:
        SECTIONS[name](results)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
