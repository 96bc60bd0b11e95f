"""Forms of the hash grid's gradient, and what each costs on this machine.

    python -m benchmarks.hash_encoding                      the sizes of the CPU preset
    python -m benchmarks.hash_encoding --points 262144 --repeats 5

Forms, all with the same value and, up to rounding, the same gradient (checked):

    natural              corners stacked and summed, differentiated by JAX
    scatter per level    ours: custom rule, the 8 n updates of a level in one scatter
    scatter per corner   custom rule, 8 scatters of n updates into the same table
    sorted               custom rule, updates sorted by entry and added by segment_sum
    torch embedding, torch index_select
                         the peer's two ways (the extra `bench`; left out without PyTorch)

Points lie along rays, as in training. Writes benchmarks/results/hash_encoding_BACKEND.json, each
form with the allocator's setting of `hardlight` and without.
"""

import dataclasses
import functools
import os
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks import measuring
from nerf import hash_encoding
from nerf.hash_encoding import HashEncodingConfig

_SAMPLES_PER_RAY = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """Measures the forms of the hash grid's gradient."""

    encoding: HashEncodingConfig = HashEncodingConfig()
    points: int = 32768
    repeats: int = 15
    threads: int = os.cpu_count() or 1
    """Threads of PyTorch."""


def natural(config, tables, points):
    """Stacks the corners of a level and sums them."""
    encoded = []
    for level, table in zip(hash_encoding.levels(config), tables, strict=True):
        index, weight = _corners(level, points)
        read = table.at[index].get(mode="promise_in_bounds")
        encoded.append(jnp.sum(weight[..., None] * read, axis=0))
    return jnp.concatenate(encoded, axis=-1)


def scatter_per_corner(table, index, updates):
    """Adds corner after corner."""
    for corner in range(8):
        table = table.at[index[corner]].add(updates[corner], mode="promise_in_bounds")
    return table


def sort_and_sum(table, index, updates):
    """Brings equal entries together before adding."""
    order = jnp.argsort(index.reshape(-1))
    return jax.ops.segment_sum(
        updates.reshape(-1, table.shape[1])[order],
        index.reshape(-1)[order],
        num_segments=table.shape[0],
        indices_are_sorted=True,
    )


def with_rule(add: Callable[..., Any]) -> Callable[..., Any]:
    """Our forward with another way of adding the updates of a level to a table of zeros."""

    @functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
    def encode(config, tables, points):
        return hash_encoding.hash_encode(config, tables, points)

    def forward(config, tables, points):
        return encode(config, tables, points), (tables, points)

    def backward(config, residuals, cotangent):
        tables, points = residuals
        width, gradients = config.num_features, []
        for place, (level, table) in enumerate(
            zip(hash_encoding.levels(config), tables, strict=True)
        ):
            index, weight = _corners(level, points)
            updates = weight[..., None] * cotangent[:, place * width : (place + 1) * width]
            gradients.append(add(jnp.zeros_like(table), index, updates))
        return tuple(gradients), jnp.zeros_like(points)

    encode.defvjp(forward, backward)
    return encode


FORMS = {
    "natural": natural,
    "scatter per level": hash_encoding.hash_encode,
    "scatter per corner": with_rule(scatter_per_corner),
    "sorted": with_rule(sort_and_sum),
}


def measure_jax(sizes: Sizes) -> dict[str, dict[str, float]]:
    """Times every form, and checks its gradient against ours."""
    points = jnp.asarray(points_on_rays(sizes.points))
    tables = hash_encoding.init_tables(sizes.encoding, jax.random.key(0))
    cotangent = jax.random.normal(jax.random.key(1), (sizes.points, sizes.encoding.num_outputs))
    results, expected = {}, None
    for name in ("scatter per level", *(form for form in FORMS if form != "scatter per level")):
        encode = functools.partial(FORMS[name], sizes.encoding)
        forward = jax.jit(encode)

        @jax.jit
        def both(tables, points, cotangent, encode=encode):
            value, pull = jax.vjp(lambda tables: encode(tables, points), tables)
            return value, pull(cotangent)[0]

        began = time.perf_counter()
        _, gradient = jax.block_until_ready(both(tables, points, cotangent))
        compile_seconds = time.perf_counter() - began
        expected = gradient if expected is None else expected
        repeats = {"repeats": sizes.repeats}
        results[name] = {
            "forward": 1e3
            * measuring.median_seconds(lambda run=forward: run(tables, points), **repeats),
            "forward_and_backward": 1e3
            * measuring.median_seconds(lambda run=both: run(tables, points, cotangent), **repeats),
            "compile_seconds": compile_seconds,
            "largest_difference": max(
                float(jnp.max(jnp.abs(a - b))) for a, b in zip(gradient, expected, strict=True)
            ),
        }
    return results


def measure_torch(sizes: Sizes) -> dict[str, dict[str, float]]:
    """Times the peer's two ways to read tables."""
    import torch

    from benchmarks.peers.torch_ngp import Encoding

    torch.set_num_threads(sizes.threads)
    points, results = torch.from_numpy(points_on_rays(sizes.points)), {}
    for lookup in ("embedding", "index_select"):
        encode = Encoding(sizes.encoding, lookup)
        forward, both = [], []
        for _ in range(sizes.repeats + 2):
            encode.table.grad = None
            start = time.perf_counter()
            value = encode(points)
            forward.append(time.perf_counter() - start)
            value.backward(torch.ones_like(value))
            both.append(time.perf_counter() - start)
        results[f"torch {lookup}"] = {
            "forward": 1e3 * statistics.median(forward[2:]),
            "forward_and_backward": 1e3 * statistics.median(both[2:]),
        }
    return results


def points_on_rays(count: int) -> np.ndarray:
    """Points of the unit cube in runs along rays."""
    rng = np.random.default_rng(0)
    rays = -(-count // _SAMPLES_PER_RAY)
    direction = rng.normal(size=(rays, 1, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    along = 0.01 * np.arange(_SAMPLES_PER_RAY)[None, :, None]
    points = np.clip(rng.uniform(size=(rays, 1, 3)) + along * direction, 0.0, 1.0)
    return points.reshape(-1, 3)[:count].astype(np.float32)


def _corners(level, points):
    """Entries and trilinear weights of the 8 corners, [8, n]."""
    scaled = points * level.resolution
    cell = jnp.minimum(jnp.floor(scaled), level.resolution - 1)
    upper = scaled - cell
    index = jnp.stack(
        [hash_encoding.corner_index(level, cell.astype(jnp.int32), c) for c in range(8)]
    )
    bits = (np.arange(8)[:, None] >> np.arange(3)) & 1
    weight = jnp.prod(jnp.where(bits[:, None, :] == 1, upper, 1.0 - upper), axis=-1)
    return index, weight


def main() -> None:
    sizes = tyro.cli(Sizes, description=__doc__)
    milliseconds = {}
    for allocator in ("kept", "default"):
        keep = allocator == "kept"
        found = measuring.in_fresh_process(
            functools.partial(measure_jax, sizes), keep_memory=keep, is_cold=True
        )
        if find_spec("torch") is not None:
            found |= measuring.in_fresh_process(
                functools.partial(measure_torch, sizes), keep_memory=keep
            )
        milliseconds[allocator] = found
        for name, row in found.items():
            print(
                f"  allocator {allocator:8s} {name:20s} forward {row['forward']:8.1f} ms, "
                f"with backward {row['forward_and_backward']:8.1f} ms",
                flush=True,
            )
    kept = milliseconds["kept"]
    ours = kept["scatter per level"]["forward_and_backward"]
    ratios = {name: row["forward_and_backward"] / ours for name, row in kept.items()}
    measuring.write(
        "hash_encoding",
        {
            "sizes": dataclasses.asdict(sizes),
            "ratios_to_ours_forward_and_backward": ratios,
            "milliseconds_by_allocator": milliseconds,
        },
    )


if __name__ == "__main__":
    main()
