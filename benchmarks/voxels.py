"""How fast the block-world renderer is, against what one would write first and against natives.

    python -m benchmarks.voxels                   everything, two minutes on two cores
    python -m benchmarks.voxels --parts soft hard
    python -m benchmarks.voxels --parts strides   on an accelerator

Peers: two half-voxel marches in JAX (checkpointed, inexact), one in a scan and one that takes all
samples of a chunk of rays at once as radiance-field code does, a DDA in numba on all cores (forward
only), and Embree through trimesh (first hit only). Times are the least of several calls after
compilation, those of the fog in turn, each part in a process of its own; compile times are without
a cache of programs.
Writes benchmarks/results/voxels_BACKEND.json; parts not run keep their numbers.
"""

import dataclasses
import functools
import json
import math
import resource
import time
from typing import Any

import tyro

from benchmarks import measuring

_LARGE = (256, 256, 256)
_PARTS = ("soft", "hard", "large", "compilation", "strides")
_STRIDES = (1, 4, 8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
    """Measures the voxel renderer."""

    parts: tuple[str, ...] = _PARTS[:-1]
    """Any of soft, hard, large, compilation, strides."""


def soft() -> dict[str, Any]:
    """A 64 x 48 x 64 fog at 256 x 256: forward, and forward with backward; ours at 512 x 512."""
    import jax
    import numpy as np

    from benchmarks.peers.voxel_tracers import dda_call, naive_march, naive_samples
    from voxels.rendering.crossings import axis_features
    from voxels.rendering.numba_march import composite_numba
    from voxels.rendering.ray_march import MarchConfig, composite_march

    shape, pixels = (64, 48, 64), 256
    logits, probs = _fog(shape)
    eye, _, directions = _view(shape, pixels)
    arguments = (logits, probs, _lit(), eye, directions)
    march = functools.partial(composite_march, MarchConfig(has_geometry=False, **_form()))
    fast = functools.partial(composite_numba, MarchConfig(has_geometry=False))
    naive = functools.partial(naive_march, shape)
    sampled = functools.partial(naive_samples, shape)
    features = axis_features(probs, _lit(), eye)
    call, out = dda_call(jax.nn.sigmoid(logits), features, eye, directions)
    wide = (*arguments[:4], _view(shape, 2 * pixels)[2])
    calls: dict[str, tuple[Any, tuple[Any, ...]]] = {"peer_numba_forward": (call, ())}
    for name, render in (
        ("", march),
        ("with_numba_", fast),
        ("naive_", naive),
        ("sampled_", sampled),
    ):
        looked, differentiated = jax.jit(render), _gradient(render)
        calls[f"{name}forward"] = looked, arguments
        calls[f"{name}forward_backward"] = differentiated, arguments
        if name in ("", "with_numba_"):
            calls[f"{name}forward_512"] = looked, wide
            calls[f"{name}forward_backward_512"] = differentiated, wide
    times = _least_in_turn(calls)
    gap = np.abs(out[:, :3] - np.asarray(march(*arguments).features).reshape(-1, 3)).max()
    ratios = {
        f"times_{peer}_{what}{suffix}": times[f"{peer}_{what}"] / times[f"{ours}{what}"]
        for peer in ("naive", "sampled")
        for what in ("forward", "forward_backward")
        for ours, suffix in (("", ""), ("with_numba_", "_with_numba"))
    }
    return {
        **{f"{name}_ms": value for name, value in times.items()},
        **ratios,
        "over_peer_numba": times["forward"] / times["peer_numba_forward"],
        "with_numba_over_peer_numba": times["with_numba_forward"] / times["peer_numba_forward"],
        "largest_difference_to_peer_numba": float(gap),
    }


def hard() -> dict[str, Any]:
    """A 64 x 48 x 64 terrain at 512 x 512: first hits, and the soft backends on the same world."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from benchmarks.peers.voxel_tracers import dda_call, embree_call
    from voxels.block_map import exposed_faces
    from voxels.procedural import WorldConfig, make_world
    from voxels.rendering.crossings import axis_features
    from voxels.rendering.first_hit import HitConfig, composite_hard, find_hits
    from voxels.rendering.numba_march import composite_numba
    from voxels.rendering.ray_march import MarchConfig, composite_march
    from voxels.rendering.splat import SplatConfig, composite_splat

    shape, pixels = (64, 48, 64), 512
    block_map = make_world(WorldConfig(shape=shape, num_houses=6, num_towers=4), 0)
    logits = jnp.asarray(np.where(block_map.is_solid, 5.0, -5.0), jnp.float32)
    probs = jnp.asarray(np.eye(8, dtype=np.float32)[block_map.materials][..., 1:])
    eye, frame, directions = _view(shape, pixels)
    flat_logits, flat_probs = logits.reshape(-1), probs.reshape(-1, 7)
    config = HitConfig(shape=shape, **_form())
    hit = functools.partial(composite_hard, config, None)
    arguments = (flat_logits, flat_probs, _lit(), eye, directions)
    search = jax.jit(functools.partial(find_hits, config))
    hits_only = _least(search, block_map.is_solid, eye, directions)
    ours, both = _least(jax.jit(hit), *arguments), _least(_gradient(hit), *arguments)
    embree = _least(embree_call(block_map, eye, directions))
    features = axis_features(probs, _lit(), eye)
    solid = (logits > 0).astype(jnp.float32)
    native = _least(dda_call(solid, features, eye, directions)[0])
    flat = np.flatnonzero(exposed_faces(block_map.materials).any(-1))
    listed = jnp.asarray(flat, jnp.int32)
    splat_config = SplatConfig(shape=shape, max_pairs=1 << 17)

    def splat(logits, probs, lit, eye, directions):
        return composite_splat(
            splat_config, listed, logits, probs, lit, eye, frame, directions
        ).composite

    sparse = (flat_logits[flat], flat_probs[flat], _lit(), eye, directions)
    march = functools.partial(composite_march, MarchConfig(has_geometry=False, **_form()))
    fast = functools.partial(composite_numba, MarchConfig(has_geometry=False))
    dense = (logits, probs, _lit(), eye, directions)
    return {
        "first_hit_ms": hits_only,
        "hard_forward_ms": ours,
        "hard_forward_backward_ms": both,
        "embree_first_hit_ms": embree,
        "first_hit_over_embree": hits_only / embree,
        "hard_forward_over_embree": ours / embree,
        "peer_numba_hard_ms": native,
        "listed_cells": len(flat),
        "splat_forward_ms": _least(jax.jit(splat), *sparse, repeats=3),
        "splat_forward_backward_ms": _least(_gradient(splat), *sparse, repeats=3),
        "march_forward_ms": _least(jax.jit(march), *dense, repeats=3),
        "march_forward_backward_ms": _least(_gradient(march), *dense, repeats=3),
        "march_with_numba_forward_ms": _least(jax.jit(fast), *dense, repeats=3),
        "march_with_numba_forward_backward_ms": _least(_gradient(fast), *dense, repeats=3),
    }


def exposed_cells(shape: tuple[int, int, int]) -> Any:
    """Indices of the exposed cells of a terrain, and their materials."""
    import numpy as np

    from voxels.block_map import exposed_faces
    from voxels.procedural import WorldConfig, make_world

    block_map = make_world(WorldConfig(shape=shape, num_houses=6, num_towers=4), 0)
    flat = np.flatnonzero(exposed_faces(block_map.materials).any(-1)).astype(np.int32)
    return flat, block_map.materials.reshape(-1)[flat]


def large(flat: Any, material: Any) -> dict[str, Any]:
    """A 256 x 256 x 256 terrain at 512 x 512, with parameters for its exposed cells only."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from voxels.rendering.first_hit import HitConfig, composite_hard

    shape, pixels = _LARGE, 512
    eye, _, directions = _view(shape, pixels)

    def hit(logits: Any, probs: Any, lit: Any, eye: Any, directions: Any, listed: Any) -> Any:
        # a list of cells that is no argument would be a constant, and XLA would compute with it
        return composite_hard(
            HitConfig(shape=shape, **_form()), listed, logits, probs, lit, eye, directions
        )

    materials = jnp.asarray(np.eye(8, dtype=np.float32)[material][:, 1:])
    arguments = (jnp.full(len(flat), 5.0), materials, _lit(), eye, directions, jnp.asarray(flat))
    return {
        "listed_cells": len(flat),
        "hard_forward_ms": _least(jax.jit(hit), *arguments, repeats=3),
        "hard_forward_backward_ms": _least(_gradient(hit), *arguments, repeats=3),
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def compilation() -> dict[str, Any]:
    """Seconds to compile each program, and how many programs two maps and two cameras need.

    numba compiles at the first call, so that is counted for `with_numba`.
    """
    import jax

    from voxels.rendering.first_hit import HitConfig, composite_hard
    from voxels.rendering.numba_march import composite_numba
    from voxels.rendering.ray_march import MarchConfig, composite_march

    shape, pixels = (64, 48, 64), 256
    logits, probs = _fog(shape)
    eye, _, directions = _view(shape, pixels)
    march = functools.partial(composite_march, MarchConfig(has_geometry=False, **_form()))
    hit = functools.partial(composite_hard, HitConfig(shape=shape, **_form()), None)
    fast = functools.partial(composite_numba, MarchConfig(has_geometry=False))
    dense = (logits, probs, _lit(), eye, directions)
    flat = (logits.reshape(-1), probs.reshape(-1, 7), _lit(), eye, directions)
    numbers = {}
    for name, program, arguments in (
        ("march_forward", jax.jit(march), dense),
        ("march_forward_backward", _gradient(march), dense),
        ("with_numba_forward_backward", _gradient(fast), dense),
        ("hard_forward", jax.jit(hit), flat),
        ("hard_forward_backward", _gradient(hit), flat),
    ):
        begun = time.perf_counter()
        compiled = program.lower(*arguments).compile()
        if name.startswith("with_numba"):
            jax.block_until_ready(compiled(*arguments))
        numbers[f"{name}_s"] = time.perf_counter() - begun
        for shift in (0.0, 3.7):
            moved = (arguments[0] + shift, *arguments[1:3], eye + shift, directions)
            jax.block_until_ready(program(*moved))
        numbers[f"{name}_programs"] = program._cache_size()
    return numbers


def strides() -> dict[str, Any]:
    """The fog of `soft`, whole images at once, by the crossings between two looks at the rays."""
    import jax

    from voxels.rendering.ray_march import MarchConfig, composite_march

    shape = (64, 48, 64)
    logits, probs = _fog(shape)
    numbers: dict[str, Any] = {}
    for stride in _STRIDES:
        config = MarchConfig(has_geometry=False, tile=0, stride=stride)
        march = functools.partial(composite_march, config)
        row = numbers.setdefault(str(stride), {})
        for pixels, suffix in ((256, ""), (512, "_512")):
            eye, _, directions = _view(shape, pixels)
            arguments = (logits, probs, _lit(), eye, directions)
            row[f"forward{suffix}_ms"] = _least(jax.jit(march), *arguments)
            row[f"forward_backward{suffix}_ms"] = _least(_gradient(march), *arguments)
    return numbers


def main(asked: Parts) -> None:
    """Runs the parts asked for and merges their numbers into the results file."""
    wrong = [part for part in asked.parts if part not in _PARTS]
    if wrong:
        raise SystemExit(f"no parts {wrong}; parts: {', '.join(_PARTS)}")
    before = measuring.stored("voxels")
    values = {part: before[part] for part in _PARTS if part in before}
    # the world is made elsewhere: the peak memory is to be that of rendering
    make = functools.partial(exposed_cells, _LARGE)
    cells = measuring.in_fresh_process(make) if "large" in asked.parts else ()
    calls = {
        "soft": soft,
        "hard": hard,
        "large": functools.partial(large, *cells),
        "compilation": compilation,
        "strides": strides,
    }
    for part in asked.parts:
        values[part] = measuring.in_fresh_process(calls[part], is_cold=part == "compilation")
        print(part, json.dumps(values[part]), flush=True)
    measuring.write("voxels", values)


def _form() -> dict[str, Any]:
    """How the renderer walks on this backend."""
    import jax

    from voxels.rendering.images import ON_ACCELERATORS

    return {} if jax.default_backend() == "cpu" else ON_ACCELERATORS


def _lit() -> Any:
    from voxels.palette import daylight, lit_colors, terrain_palette

    return lit_colors(terrain_palette(), daylight())


def _fog(shape: tuple[int, int, int]) -> tuple[Any, Any]:
    """Every cell a little there, of mixed materials."""
    import jax.numpy as jnp
    import numpy as np

    random = np.random.default_rng(0)
    logits = random.normal(size=shape) * 2 - 2
    probs = random.dirichlet(np.ones(7), shape)
    return jnp.asarray(logits, jnp.float32), jnp.asarray(probs, jnp.float32)


def _view(shape: tuple[int, int, int], pixels: int) -> tuple[Any, Any, Any]:
    """An eye above a corner that sees the whole grid; its frame and directions."""
    import jax.numpy as jnp
    import numpy as np

    from voxels.procedural import look_at
    from voxels.rendering.binning import Frame

    size = np.array(shape, float)
    pose = look_at(size * [1.2, 1.1, 1.3], size * [0.5, 0.3, 0.5])
    focal = pixels / 2 / np.tan(np.radians(30))
    x = (np.arange(pixels) + 0.5 - pixels / 2) / focal
    grid = np.stack(np.broadcast_arrays(x[None, :], -x[:, None], -1.0), axis=-1)
    directions = grid @ pose[:3, :3].T
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    parts = (pose[:3, :3], [focal] * 2, [pixels / 2] * 2)
    frame = Frame(*(jnp.asarray(part, jnp.float32) for part in parts))
    return jnp.asarray(pose[:3, 3], jnp.float32), frame, jnp.asarray(directions, jnp.float32)


def _gradient(render: Any) -> Any:
    """Value and gradient of a loss on all colours."""
    import jax
    import jax.numpy as jnp

    def loss(logits, probs, lit, *rest):
        out = render(logits, probs, lit, *rest)
        return jnp.sum(jnp.square(out.features)) + jnp.sum(out.transmittance)

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))


def _least_in_turn(
    calls: dict[str, tuple[Any, tuple[Any, ...]]], rounds: int = 15
) -> dict[str, float]:
    """Least time of each call in milliseconds, all calls in turn, so that a machine that is slow
    for a second is slow for all."""
    import jax

    for function, arguments in calls.values():
        jax.block_until_ready(function(*arguments))
    least = dict.fromkeys(calls, math.inf)
    for _ in range(rounds):
        for name, (function, arguments) in calls.items():
            begun = time.perf_counter()
            jax.block_until_ready(function(*arguments))
            least[name] = min(least[name], 1000 * (time.perf_counter() - begun))
    return least


def _least(function: Any, *arguments: Any, repeats: int = 5) -> float:
    """Least time of a call in milliseconds, after one that compiles."""
    import jax

    jax.block_until_ready(function(*arguments))
    least = math.inf
    for _ in range(repeats):
        begun = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        least = min(least, time.perf_counter() - begun)
    return 1000 * least


if __name__ == "__main__":
    main(tyro.cli(Parts))
