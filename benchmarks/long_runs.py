"""What long runs do to memory, compiled programs, sums and logs.

    python -m benchmarks.long_runs [--updates 50000] [--minutes 5]

Three runs, each in a process of its own:

* `error_weighted` draws and updates its pyramid, with losses that fall by a factor of 1000;
* `failure_bins` counts failures, beside the same counts in float64;
* a radiance field on a tiny synthetic scene, through the program of `hardlight nerf`.

The claims: after the first call nothing is compiled, resident memory has no trend, the pyramid's
root stays the float64 sum of its leaves to 1e-5, and logs grow with the steps and nothing else.
"""

import argparse
import dataclasses
import functools
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import measuring, watching

POINTS = 200
"""Readings of the memory per run of a sampler."""
CHECKS = 20
"""Comparisons of the root with its leaves."""


def main() -> None:
    """Runs all three and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=50_000)
    parser.add_argument("--minutes", type=float, default=5.0)
    asked = parser.parse_args()
    results = {}
    for name, call in {
        "error_weighted": functools.partial(watch_pyramid, asked.updates),
        "failure_bins": functools.partial(watch_bins, asked.updates),
        "nerf": functools.partial(watch_nerf, asked.minutes),
    }.items():
        results[name] = measuring.in_fresh_process(call)
        print(name, results[name], flush=True)
    measuring.write("long_runs", results)


def watch_pyramid(
    num_updates: int, *, num_items: int = 2**18, batch_size: int = 1024
) -> dict[str, Any]:
    """Draws and updates `error_weighted`, and compares the root with its leaves.

    Losses are a fixed hardness per item, from 1 to 32, times a factor that falls from 0.1 to 1e-4
    over the run.
    """
    import jax
    import numpy as np

    from samplers import Feedback
    from samplers.pyramid import total
    from samplers.registry import make_sampler

    sampler = make_sampler("error_weighted", {"num_items": num_items, "batch_size": batch_size})
    hardness = 2.0 ** jax.random.randint(jax.random.key(1), (num_items,), 0, 6)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, hardness, key, place):
        draw = sampler.sample(jax.random.fold_in(key, state.step), state)
        loss = 0.1 * 1e-3**place * hardness[draw.items]
        return sampler.update(state, draw, Feedback(value=loss))

    root = jax.jit(lambda state: total(state.weights))

    def drift(state) -> float:
        leaves = float(np.asarray(state.weights.leaves).astype(np.float64).sum())
        return abs(float(root(state)) - leaves) / leaves

    key, state = jax.random.key(0), sampler.init(jax.random.key(0))
    drifts = [drift(state)]
    state = step(state, hardness, key, np.float32(0))
    watch, began = watching.Watch(), time.perf_counter()
    for update in range(1, num_updates):
        state = step(state, hardness, key, np.float32(update / num_updates))
        if update % max(num_updates // POINTS, 1) == 0:
            jax.block_until_ready(state)
            watch.note(update)
        if update % max(num_updates // CHECKS, 1) == 0:
            drifts.append(drift(state))
    drifts.append(drift(state))
    seconds = time.perf_counter() - began
    watch.close()
    probs = np.asarray(sampler.probabilities(state), np.float64)
    return {
        "updates": num_updates,
        "items": num_items,
        "batch": batch_size,
        "seconds": seconds,
        "programs": step._cache_size(),
        "compiled_after_first_call": len(watch.compilations),
        "largest_error_of_root": max(drifts),
        "last_error_of_root": drifts[-1],
        "error_of_sum_of_probabilities": abs(float(probs.sum()) - 1.0),
        "bytes_of_a_draw": 3 * 4 * batch_size,
        "memory": watching.memory_trend(watch.points),
    }


def watch_bins(num_updates: int, *, num_envs: int = 256) -> dict[str, Any]:
    """Updates `failure_bins` and counts the same in float64 beside it.

    Environments walk through three clips; each bin has its own chance to fail per frame, from 1e-4
    to 0.05, and a failed environment starts again where the sampler says.
    """
    import jax
    import numpy as np

    from samplers import Draw, Feedback
    from samplers.motion_bins import MotionTime
    from samplers.registry import make_sampler

    frames = np.array([500, 3000, 1000])
    sampler = make_sampler(
        "failure_bins", {"clip_frames": tuple(map(int, frames)), "batch_size": num_envs}
    )
    config = sampler.config
    decay = float(np.float32(config.decay))  # as the sampler knows it
    state = sampler.init(jax.random.key(0))
    layout = jax.device_get(state.layout)
    num_bins = len(layout.clip)
    starts = np.append(0, np.cumsum(frames))
    bin_of_frame = np.repeat(np.arange(num_bins), layout.num_frames)
    random = np.random.default_rng(0)
    chance = np.exp(random.uniform(np.log(1e-4), np.log(0.05), num_bins))

    @functools.partial(jax.jit, donate_argnums=1)
    def step(key, state, moments, failed):
        ones = failed * 0 + 1
        state = sampler.update(state, Draw(moments, ones, ones), Feedback(value=failed))
        return sampler.sample(jax.random.fold_in(key, state.step), state).items, state

    key = jax.random.key(1)
    moments = jax.device_get(sampler.sample(key, state).items)
    failures, exposure, watch = np.zeros(num_bins), np.zeros(num_bins), None
    largest, began = 0.0, time.perf_counter()
    for update in range(num_updates):
        bins = bin_of_frame[starts[moments.clip] + moments.frame]
        has_failed = random.uniform(size=num_envs) < chance[bins]
        counts = np.bincount(bins, minlength=num_bins) / layout.num_frames / num_envs
        fails = np.bincount(bins, has_failed, minlength=num_bins) / num_envs
        failures = decay * failures + config.gain * fails
        exposure = decay * exposure + config.gain * counts
        drawn, state = step(key, state, moments, has_failed.astype(np.float32))
        drawn = jax.device_get(drawn)
        ends = has_failed | (moments.frame + 1 >= frames[moments.clip])
        moments = MotionTime(
            clip=np.where(ends, drawn.clip, moments.clip),
            frame=np.where(ends, drawn.frame, moments.frame + 1),
        )
        if watch is None:
            watch, began = watching.Watch(), time.perf_counter()
        if update and update % max(num_updates // POINTS, 1) == 0:
            watch.note(update)
            now = jax.device_get((state.failures, state.exposure))
            for ours, exact in zip(now, (failures, exposure), strict=True):
                largest = max(largest, float(np.abs(ours - exact).max() / exact.max()))
    seconds = time.perf_counter() - began
    watch.close()
    probs = np.asarray(sampler.probabilities(state), np.float64)
    return {
        "updates": num_updates,
        "bins": num_bins,
        "environments": num_envs,
        "seconds": seconds,
        "programs": step._cache_size(),
        "compiled_after_first_call": len(watch.compilations),
        "largest_error_of_counts": largest,
        "least_probability_over_floor": float(probs.min() * num_bins / config.uniform_fraction),
        "bytes_of_a_draw": 4 * 4 * num_envs,
        "memory": watching.memory_trend(watch.points),
    }


def watch_nerf(minutes: float, *, every: float = 0.5) -> dict[str, Any]:
    """Trains a radiance field through the whole program: loop, evaluations, checkpoints, logs.

    What counts as training ends with the last row of metrics.jsonl; a fifth of it is warm-up, and
    holds the first evaluations and checkpoints.
    """
    from training import nerf_job, nerf_options, run_folder
    from training.nerf_command import NerfCommand
    from training.run_log import read_rows

    command = NerfCommand(
        data="synthetic:spheres",
        size=32,
        views=8,
        sampler="error_weighted",
        seconds=60.0 * minutes,
        rays=256,
        set_=(
            "field.encoding.log2_table_size=12",
            "field.hidden_width=16",
            "occupancy.resolution=32",
            "occupancy.cells_per_update=1024",
            "marching.budget=4096",
            "loop.checkpoint_seconds=10",
            "loop.num_evaluations=30",
        ),
    )
    job = nerf_options.build(command)
    job = dataclasses.replace(
        job, outputs=dataclasses.replace(job.outputs, num_pictures=0, video_frames=0)
    )
    watch = watching.Watch()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        with watching.Metronome(watch, every=every):
            summary = nerf_job.start(job, out=str(out))
        run = run_folder.RunFolder(out)
        age = time.time() - run.metrics.stat().st_mtime
        rows = list(read_rows(run.metrics))
        sizes = {
            "metrics_jsonl": run.metrics.stat().st_size,
            "events": sum(path.stat().st_size for path in out.glob("events*")),
            "checkpoints": sum(p.stat().st_size for p in run.checkpoints.rglob("*") if p.is_file()),
            "num_checkpoints": len([path for path in run.checkpoints.iterdir() if path.is_dir()]),
        }
    end = watch.seconds() - age
    watch.close()
    began = end - summary["train_seconds"]
    points = [point for point in watch.points if began <= point[0] <= end]
    memory = watching.memory_trend(points)
    later = [when for when in watch.compilations if memory["skipped"] <= when <= end]
    return {
        "minutes": minutes,
        "steps": summary["steps"],
        "rows": len(rows),
        "psnr": summary["final"]["psnr"],
        "compiled": len(watch.compilations),
        "compiled_after_warm_up": len(later),
        "bytes": sizes,
        "bytes_of_metrics_per_row": sizes["metrics_jsonl"] / len(rows),
        "bytes_of_events_per_row": sizes["events"] / len(rows),
        "memory": memory,
    }


if __name__ == "__main__":
    main()
