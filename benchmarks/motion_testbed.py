"""Ranks the samplers of motion starts on a synthetic learner: no physics, about a minute.

    python -m benchmarks.motion_testbed [--envs 128] [--seeds 3]

The claim: the default is within 10 % of the best sampler in every scenario, keeps every bin above
its floor, and does not sink its environment steps into a bin that cannot be learned. The cost of a
scenario is the mean failure rate of the bins that can be learned, beyond what must remain, averaged
over training.
"""

import argparse
import functools
import time
from typing import Any

from benchmarks import measuring

WITHIN = 1.10
SUNK = 0.15
"""Share of environment steps in one impossible bin of 60 from which a sampler counts as sunk."""
MEAN_TARGET = 0.05


def measure(num_envs: int, num_seeds: int) -> dict[str, Any]:
    import jax
    import numpy as np

    from motion import starts, testbed

    config = testbed.TestbedConfig(num_envs=num_envs)
    named = testbed.scenarios()
    stacked = testbed.stack_scenarios(named)
    places = (np.arange(config.num_points) + 1) * (config.num_steps // config.num_points)
    table: dict[str, dict[str, Any]] = {name: {} for name in named}
    seconds = {}
    for name in starts.names():
        if name == starts.MANUAL:
            continue
        began = time.process_time()
        sampler = starts.make_start_sampler(
            name,
            clip_frames=config.clip_frames,
            batch_size=config.num_envs,
            frames_per_bin=config.frames_per_bin,
            horizon_frames=config.horizon,
        )
        one = functools.partial(testbed.run, config, sampler, starts.rows_of(name))
        program = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))
        keys = jax.random.split(jax.random.key(0), num_seeds)
        curves = jax.device_get(program(keys, stacked))
        seconds[name] = time.process_time() - began
        for place, scenario in enumerate(named):
            failure = curves.failure[:, place]
            costs = failure.mean(axis=1)
            is_below = failure < MEAN_TARGET
            reached = [float(places[row.argmax()]) if row.any() else None for row in is_below]
            known = [value for value in reached if value is not None]
            table[scenario][name] = {
                "cost": float(costs.mean()),
                "cost_deviation": float(costs.std(ddof=1)) if num_seeds > 1 else None,
                "steps_to_target": float(np.mean(known)) if len(known) == num_seeds else None,
                "worst_bin_at_end": float(curves.worst[:, place, -1].mean()),
                "least_share": float(curves.least_share[:, place].min()),
                "impossible_share": float(curves.impossible_share[:, place].mean()),
                "largest_impossible_share": float(curves.impossible_share[:, place].max()),
                "impossible_time": float(curves.impossible_time[:, place, -1].max()),
            }
    return {
        "config": {
            "num_envs": config.num_envs,
            "num_steps": config.num_steps,
            "num_bins": sum(testbed.CLIP_BINS),
            "frames_per_bin": config.frames_per_bin,
            "seeds": num_seeds,
            "steps_to_target_of_mean_failure": MEAN_TARGET,
        },
        "cpu_seconds": seconds,
        "scenarios": table,
    }


def judge(results: dict[str, Any], default: str) -> dict[str, Any]:
    """Compares the default with the best of each scenario."""
    ratios, floors, shares, times = {}, [], [], []
    for scenario, rows in results["scenarios"].items():
        best = min(row["cost"] for row in rows.values())
        ratios[scenario] = rows[default]["cost"] / best
        floors.append(rows[default]["least_share"])
        shares.append(rows[default]["largest_impossible_share"])
        times.append(rows[default]["impossible_time"])
    return {
        "default": default,
        "cost_over_best": ratios,
        "is_within_10_percent": max(ratios.values()) <= WITHIN,
        "least_share": min(floors),
        "starves_no_bin": min(floors) >= 0.0999,
        "largest_impossible_share": max(shares),
        "impossible_time": max(times),
        "does_not_sink": max(times) <= SUNK,
    }


def show(results: dict[str, Any]) -> None:
    """Prints one table: cost relative to the best of each scenario."""
    names = list(next(iter(results["scenarios"].values())))
    print(f"{'cost / best':30s}" + "".join(f"{name[:20]:>22s}" for name in names))
    for scenario, rows in results["scenarios"].items():
        best = min(row["cost"] for row in rows.values())
        print(f"{scenario:30s}" + "".join(f"{rows[name]['cost'] / best:22.3f}" for name in names))


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--envs", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    results = measuring.in_fresh_process(functools.partial(measure, given.envs, given.seeds))
    results["verdict"] = judge(results, "failure_bins")
    show(results)
    print(results["verdict"])
    measuring.write("motion_testbed", results)


if __name__ == "__main__":
    main()
