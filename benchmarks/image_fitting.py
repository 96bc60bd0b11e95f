"""Ways to choose pixels when one picture is fitted: PSNR at equal steps and at equal seconds.

    python -m benchmarks.image_fitting [--seeds 3] [--pictures made,astronaut]

Runs the step of examples/image_fitting.py for 5000 steps with every sampler in its default settings
and paired seeds (the same first weights). `made` is drawn by the example; `astronaut` is the
photograph that comes with scikit-image. The learning rate was chosen with `uniform` alone, on other
seeds; it halves every thousand steps, because with a constant one all samplers scatter by several
dB.

A value at a step is the mean over the last three evaluations, which are 100 steps apart. Seconds
are those of the processor, summed over cores, so that a shared machine can be used; evaluations do
not count. Equal seconds are the mean seconds of `uniform` at the same step. Runs and their pictures
are kept in --out, so that an interrupted benchmark goes on where it stopped; --skip leaves samplers
of a picture out.
"""

import argparse
import functools
import json
import time
from pathlib import Path
from typing import Any

from benchmarks import measuring

MARKS = (1000, 2000, 5000)
EVERY = 100
"""Steps between evaluations."""
LAST = 3
"""Evaluations a value is the mean of."""
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "uniform": ("uniform", {}),
    "error_weighted": ("error_weighted", {}),
    "error_weighted without weights": ("error_weighted", {"correction": 0.0}),
    "spatial": ("spatial", {}),
    "top_k": ("top_k", {}),
    "edges": ("edges", {}),
    "soft_mining": ("soft_mining", {}),
    "soft_mining_released": ("soft_mining_released", {}),
}
"""What is compared: a label, the sampler's name and its options."""


def main() -> None:
    """Measures, judges and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=MARKS[-1])
    parser.add_argument("--pictures", default="made,astronaut")
    parser.add_argument("--skip", nargs="*", default=[], metavar="PICTURE:SAMPLER")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-image-fitting"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    pictures = {}
    for picture in asked.pictures.split(","):
        runs = {}
        for label in VARIANTS:
            if f"{picture}:{label}" in asked.skip:
                continue
            kept = asked.out / f"{picture}-{label}-{asked.seeds}-{asked.steps}.json"
            if not kept.exists():
                call = functools.partial(fit, picture, label, asked.seeds, asked.steps, asked.out)
                kept.write_text(json.dumps(measuring.in_fresh_process(call)))
            runs[label] = json.loads(kept.read_text())
            print(picture, label, [f"{run['curve'][-1][2]:.2f}" for run in runs[label]], flush=True)
        pictures[picture] = judge(runs, [mark for mark in MARKS if mark <= asked.steps])
    settings = {"seeds": asked.seeds, "steps": asked.steps, **describe()}
    measuring.write("image_fitting", {"settings": settings, "pictures": pictures})


def describe() -> dict[str, Any]:
    """What the example fits, and with what."""
    from examples import image_fitting as example

    return {
        "pixels": example.SIZE**2,
        "batch": example.BATCH,
        "learning_rate": float(example.LEARNING_RATE(0)),
    }


def load(name: str):
    """Gives a picture with values in [0, 1]."""
    import jax.numpy as jnp
    from PIL import Image

    from examples import image_fitting as example

    if name == "made":
        return example.make_picture()
    import skimage.data

    whole = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
    return jnp.asarray(whole.resize((example.SIZE, example.SIZE)), jnp.float32) / 255.0


def fit(
    picture_name: str, label: str, num_seeds: int, num_steps: int, out: Path
) -> list[dict[str, Any]]:
    """Fits a picture once per seed; returns each run's curve and where its errors are."""
    import jax
    import numpy as np
    from PIL import Image

    from examples import image_fitting as example
    from scenes.metrics import psnr

    name, options = VARIANTS[label]
    picture = load(picture_name)
    start, step = example.make_fit(picture, name, **options)

    def advance(state, picture, key):
        def body(state, _):
            return step(state, picture, key), None

        return jax.lax.scan(body, state, length=EVERY)[0]

    advance = jax.jit(advance, donate_argnums=0)
    reconstruct = jax.jit(example.reconstruct)
    jax.block_until_ready(advance(start(jax.random.key(0)), picture, jax.random.key(0)))
    runs = []
    for seed in range(num_seeds):
        state = start(jax.random.fold_in(jax.random.key(1), seed))
        key = jax.random.fold_in(jax.random.key(2), seed)
        curve, seconds = [], 0.0
        for done in range(EVERY, num_steps + 1, EVERY):
            began = time.process_time()
            state = jax.block_until_ready(advance(state, picture, key))
            seconds += time.process_time() - began
            fitted = reconstruct(state.params)
            curve.append([done, seconds, float(psnr(fitted, picture))])
        runs.append({"curve": curve, "errors": errors(np.asarray(fitted), np.asarray(picture))})
        if seed == 0:
            error = np.clip(8.0 * np.abs(fitted - picture), 0.0, 1.0)
            both = example.to_bytes(np.concatenate([fitted, error], axis=1))
            Image.fromarray(both).save(out / f"{picture_name}-{label}.png")
    return runs


def errors(fitted, picture) -> dict[str, float]:
    """Where the errors are: root of the squared error per pixel, in steps of 8 bits."""
    import numpy as np

    from samplers.priors import edge_strength

    squared = np.mean((fitted - picture) ** 2, axis=-1)
    rows = np.asarray(edge_strength((255 * picture).round().astype(np.uint8)[None]))[0]
    is_fine = rows > np.median(rows)
    order = np.sort(squared.reshape(-1))[::-1]
    return {
        "median": float(255 * np.sqrt(np.median(squared))),
        "percentile_99": float(255 * np.sqrt(np.quantile(squared, 0.99))),
        "worst": float(255 * np.sqrt(order[0])),
        "share_of_worst_percent": float(order[: order.size // 100].sum() / order.sum()),
        "psnr_fine": float(-10 * np.log10(squared[is_fine].mean())),
        "psnr_flat": float(-10 * np.log10(squared[~is_fine].mean())),
    }


def judge(runs: dict[str, list[dict[str, Any]]], marks: list[int]) -> dict[str, Any]:
    """Collects each sampler's values at the marks and compares them with `uniform`, by seed."""
    from training import compare_statistics as statistics

    smooth = {label: [_smoothed(run["curve"]) for run in found] for label, found in runs.items()}
    seconds = {
        mark: statistics.spread(
            [statistics.value_at(_seconds(run["curve"]), mark, axis=0) for run in runs["uniform"]]
        ).mean
        for mark in marks
    }
    table = {}
    for label, found in runs.items():
        entry: dict[str, Any] = {"at_steps": {}, "at_seconds": {}}
        for kind, axis, places in (
            ("at_steps", 0, {mark: mark for mark in marks}),
            ("at_seconds", 1, seconds),
        ):
            for mark, place in places.items():
                values, baseline = (
                    [statistics.value_at(curve, place, axis=axis) for curve in smooth[name]]
                    for name in (label, "uniform")
                )
                verdict = statistics.judge(values, baseline)
                entry[kind][str(mark)] = {
                    **statistics.spread(values)._asdict(),
                    "gain": verdict.difference.mean,
                    "interval": verdict.interval,
                    "outcome": verdict.outcome,
                }
        totals = [run["curve"][-1][1] for run in found]
        entry["cpu_seconds"] = statistics.spread(totals)._asdict()
        entry["errors"] = {
            name: statistics.spread([run["errors"][name] for run in found]).mean
            for name in found[0]["errors"]
        }
        table[label] = entry
    named = {str(mark): value for mark, value in seconds.items()}
    return {"seconds_of_uniform": named, "samplers": table}


def _smoothed(curve: list[list[float]]) -> list[list[float]]:
    """Replaces each value by the mean of the last few."""
    return [
        [*point[:2], sum(p[2] for p in curve[max(0, i + 1 - LAST) : i + 1]) / min(LAST, i + 1)]
        for i, point in enumerate(curve)
    ]


def _seconds(curve: list[list[float]]) -> list[list[float]]:
    """The seconds of a curve as its values."""
    return [[point[0], point[1], point[1]] for point in curve]


if __name__ == "__main__":
    main()
