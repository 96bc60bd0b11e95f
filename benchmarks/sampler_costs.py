"""What every registered sampler adds to a training step, and what it keeps.

    python -m benchmarks.sampler_costs [--samplers spatial soft_mining]

One draw and one update in one compiled program with the state donated, default settings: 4,096 rays
of 100 images of 400 x 400, 4,096 environments on 100 clips of 600 frames, 16 of 1,000 cameras, 32
points on each of 4,096 rays. Milliseconds are those of the processor, summed over cores, so that a
shared machine can be used, the mean over `--steps` steps after the sampler has warmed up (its pool
ranked, where it has one). Megabytes are those of the state. Writes
benchmarks/results/sampler_costs_BACKEND.json; samplers that were left out keep their rows.
"""

import argparse
import functools
import time
from typing import Any

from benchmarks import measuring

_VIEWS, _ROWS, _COLS, _BATCH = 100, 400, 400, 4096
_WARM_UP = 120


def main() -> None:
    """Measures one sampler after another and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samplers", nargs="*", help="all by default")
    parser.add_argument("--steps", type=int, default=200)
    asked = parser.parse_args()
    from samplers.registry import ENTRIES

    rows = measuring.stored("sampler_costs").get("samplers", {})
    for name in asked.samplers or ENTRIES:
        rows[name] = measuring.in_fresh_process(functools.partial(measure, name, asked.steps))
        print(name, rows[name], flush=True)
        ordered = {known: rows[known] for known in ENTRIES if known in rows}
        measuring.write("sampler_costs", {"samplers": ordered})


def measure(name: str, steps: int) -> dict[str, float]:
    """Processor milliseconds of a step, and megabytes of the state."""
    import jax
    import jax.numpy as jnp

    from samplers.base import Feedback
    from samplers.pixels import PixelCoord
    from samplers.registry import ENTRIES

    sampler, data, query = _prepared(name)

    @functools.partial(jax.jit, donate_argnums=1)
    def step(key: Any, state: Any, value: Any) -> Any:
        draw = sampler.sample(key, state, *query)
        grad = None
        if isinstance(draw.items, PixelCoord):
            grad = jnp.stack([value, -value], axis=-1)
        return sampler.update(state, draw, Feedback(value=value, grad=grad)), draw

    state = jax.jit(sampler.init)(jax.random.key(0), *data)
    kept = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    shape = jax.eval_shape(sampler.sample, jax.random.key(0), state, *query).probs.shape[:1]
    value = jax.random.uniform(jax.random.key(1), shape)
    if ENTRIES[name].kind == "motion":
        value = jnp.floor(value + 0.05)  # who failed
    keys = list(jax.random.split(jax.random.key(2), _WARM_UP + steps))
    for key in keys[:_WARM_UP]:
        state, draw = step(key, state, value)
    jax.block_until_ready((state, draw))
    begun = time.process_time()
    for key in keys[_WARM_UP:]:
        state, draw = step(key, state, value)
    jax.block_until_ready((state, draw))
    seconds = time.process_time() - begun
    return {"milliseconds": 1e3 * seconds / steps, "megabytes": kept / 1e6}


def _prepared(name: str) -> tuple[Any, list[Any], tuple[Any, ...]]:
    """The sampler, what its init takes, and what a draw is asked for."""
    import jax.numpy as jnp
    import numpy as np

    from samplers.depth_guided import RayQuery
    from samplers.registry import ENTRIES, make_ray_sampler, make_sampler

    rng = np.random.default_rng(0)
    pixels = _VIEWS * _ROWS * _COLS
    makers = {
        "images": lambda: rng.integers(0, 256, (_VIEWS, _ROWS, _COLS, 3)).astype(np.uint8),
        "labels": lambda: rng.integers(0, 4, (_VIEWS, _ROWS, _COLS)).astype(np.int32),
        "centres": lambda: rng.normal(size=(1000, 3)).astype(np.float32),
        "depth": lambda: rng.uniform(1.5, 5.5, pixels).astype(np.float32),
        "sigma": lambda: rng.uniform(0.05, 1.0, pixels).astype(np.float32),
    }
    entry = ENTRIES[name]
    data = [jnp.asarray(makers[need]()) for need in entry.needs]
    settings: dict[str, dict[str, Any]] = {
        "motion": {"clip_frames": (600,) * 100, "batch_size": _BATCH},
        "views": {"num_views": 1000, "batch_size": 16},
        "points": {"num_samples": 32},
    }
    if entry.kind == "rays":
        sizes = {"num_views": _VIEWS, "rows": _ROWS, "cols": _COLS, "batch_size": _BATCH}
        return make_ray_sampler(name, **sizes), data, ()
    query = ()
    if entry.kind == "points":
        ends = jnp.full(_BATCH, 1.0), jnp.full(_BATCH, 6.0)
        query = (RayQuery(jnp.arange(_BATCH, dtype=jnp.int32), *ends),)
    return make_sampler(name, settings[entry.kind]), data, query


if __name__ == "__main__":
    main()
