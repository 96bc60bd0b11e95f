"""What the radiance-field job costs and how far it gets: the claims of its documentation.

    python -m benchmarks.nerf --part start                  seconds to the first step, cold and warm
    python -m benchmarks.nerf --part throughput             rates, parts of a step, memory
    python -m benchmarks.nerf --part peer --seconds 180     against PyTorch, equal rays
    python -m benchmarks.nerf --part small                  dB after 30 and 60 CPU-seconds
    python -m benchmarks.nerf --part all

All but `small` read `nerf/blender_lego_400` under --data (default: the environment variable
HARDLIGHT_DATA). `peer` needs PyTorch (the extra `bench`). Each part writes
benchmarks/results/nerf_PART_BACKEND.json.

    --seconds   length of training. peer: ours, in seconds; the peer then gets as many rays.
                small: the CPU-seconds, one run for each.
    --steps     instead of --seconds: fixes the number of steps of each run.
    --warmups   steps before anything is timed in `throughput`.
    --starts    how many pairs of starts in `start`.

A run's learning rate falls to the end of the run, so a run is planned to take the time it is
given: a short run on the same machine measures the cost of a step first.
"""

import dataclasses
import functools
import os
import tempfile
from pathlib import Path
from typing import Any, Literal

import tyro

from benchmarks import measuring, nerf_throughput, nerf_training
from training import nerf_presets
from training.nerf_config import NerfJob, SceneConfig
from training.nerf_options import DEFAULT_SAMPLER, choose_preset, in_whole_calls
from training.sampler_config import SamplerConfig

Part = Literal["start", "throughput", "peer", "small", "all"]
_SCENES = ("synthetic:spheres", "synthetic:blocks")
_PEER_SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmarks:
    """Measures the radiance-field job."""

    part: Part = "all"
    data: str | None = None
    """Folder of the test data. Default: the environment variable HARDLIGHT_DATA."""
    seconds: tuple[float, ...] = ()
    """Lengths of training; default 180 for peer, 30 60 for small."""
    steps: int | None = None
    """Steps of each run, instead of as many as fit."""
    warmups: int = 500
    """Steps before the throughput is measured."""
    starts: int = 5
    """Pairs of a first start, nothing compiled yet, and a second."""
    views: int = 4
    """Validation views on which ours and the peer are compared."""
    threads: int = os.cpu_count() or 1
    """Threads of the PyTorch peer."""
    seed: int = 0
    sampler: str = DEFAULT_SAMPLER
    """How `start` and `small` choose rays; the others draw uniformly, as the peer does."""


def start(flags: Benchmarks) -> None:
    job = _job(flags, _lego(flags), flags.sampler)
    begin = functools.partial(nerf_throughput.first_step, job)
    found: dict[str, list[Any]] = {"first_starts": [], "second_starts": []}
    for _ in range(flags.starts):
        with tempfile.TemporaryDirectory() as cache:
            for starts in found.values():
                starts.append(measuring.in_fresh_process(begin, cache_folder=cache))
        cold, warm = (starts[-1]["first_step_seconds"] for starts in found.values())
        print(f"  {cold:6.1f} s, {warm:.1f} s the second time", flush=True)
    measuring.write("nerf_start", {"settings": _settings(job), **found})


def throughput(flags: Benchmarks) -> None:
    job = _job(flags, _lego(flags), "uniform")
    # steps are timed one by one
    job = dataclasses.replace(job, train=dataclasses.replace(job.train, steps_per_call=1))
    counts = {"warmups": flags.warmups, "steps": 64}
    rates = measuring.in_fresh_process(
        functools.partial(nerf_throughput.step_and_image, job, **counts)
    )
    step = functools.partial(nerf_throughput.step_seconds, job, **counts)
    allocator = {
        name: 1e3 * measuring.in_fresh_process(step, keep_memory=name == "kept")
        for name in ("kept", "default")
    }
    allocator["speedup"] = allocator["default"] / allocator["kept"]
    for name, share in rates["parts_share"].items():
        print(f"  {rates['parts_milliseconds'][name]:8.2f} ms {100 * share:6.1f} %  {name}")
    values = {
        "settings": _settings(job),
        **rates,
        "allocator_milliseconds_per_step": allocator,
    }
    for name in ("train", "image", "sampler_share", "allocator_milliseconds_per_step"):
        print(f"  {name}: {values[name]}")
    measuring.write("nerf_throughput", values)


def peer(flags: Benchmarks) -> None:
    job = _job(flags, _lego(flags), "uniform")
    (seconds,) = flags.seconds or (180.0,)
    job = _planned(flags, job, seconds, "seconds")
    total = job.train.num_steps
    options: dict[str, Any] = {
        "points": tuple(max(1, round(total * share)) for share in _PEER_SHARES),
        "views": flags.views,
    }
    train = functools.partial(nerf_training.train_ours, job, **options)
    ours = measuring.in_fresh_process(train, is_cold=True)
    theirs = measuring.in_fresh_process(
        functools.partial(nerf_training.train_peer, job, threads=flags.threads, **options)
    )
    runs = {"ours": ours, "peer": theirs}
    rate = {name: run["rays"] / run["seconds"] for name, run in runs.items()}
    ratios = {
        "rays_per_second": rate,
        "speedup_per_ray": rate["ours"] / rate["peer"],
        "samples_per_ray": {name: run["samples"] / run["rays"] for name, run in runs.items()},
        "time_to_psnr": _time_to_psnr(ours, theirs),
    }
    print(f"  {ratios}")
    values = {"settings": _settings(job), "peer_threads": flags.threads, "ratios": ratios}
    measuring.write("nerf_peer", {**values, **runs})


def small(flags: Benchmarks) -> None:
    runs = [
        {"scene": name, **_timed_run(flags, name, seconds, "cpu_seconds")}
        for name in _SCENES
        for seconds in flags.seconds or (30.0, 60.0)
    ]
    measuring.write(
        "nerf_small", {"settings": _settings(_job(flags, "synthetic", flags.sampler)), "runs": runs}
    )


def _timed_run(
    flags: Benchmarks, scene: str, seconds: float, unit: nerf_training.Unit
) -> dict[str, Any]:
    """One run planned for the time it is given, evaluated on every test pixel at its end."""
    job = _planned(flags, _job(flags, scene, flags.sampler), seconds, unit)
    print(f"  {Path(scene).name}: {seconds:g} {unit}, {job.train.num_steps} steps", flush=True)
    train = functools.partial(nerf_training.train_ours, job, points=(seconds,), unit=unit)
    return {f"asked_{unit}": seconds, **measuring.in_fresh_process(train, is_cold=True)}


def _lego(flags: Benchmarks) -> str:
    root = flags.data or os.environ.get("HARDLIGHT_DATA")
    if root is None:
        raise SystemExit("error: say where the test data is: --data or HARDLIGHT_DATA")
    folder = Path(root) / "nerf" / "blender_lego_400"
    if not folder.is_dir():
        raise SystemExit(f"error: no scene at {folder}")
    return str(folder)


def _job(flags: Benchmarks, data: str, sampler: str) -> NerfJob:
    train = nerf_presets.train_config(choose_preset("auto"))
    return NerfJob(
        seed=flags.seed,
        scene=SceneConfig(data=data),
        sampler=SamplerConfig(name=sampler),
        train=train,
        loop=nerf_presets.loop_config(choose_preset("auto")),
    )


def _planned(flags: Benchmarks, job: NerfJob, seconds: float, unit: nerf_training.Unit) -> NerfJob:
    """Sets the number of steps, and with it the learning rate, to fit the time."""
    steps = flags.steps
    if steps is None:
        cost = measuring.in_fresh_process(
            functools.partial(nerf_training.step_cost, job, unit=unit)
        )
        steps = max(1, round(seconds / cost))
    whole = in_whole_calls(steps, job.train.steps_per_call)
    return dataclasses.replace(job, train=dataclasses.replace(job.train, num_steps=whole))


def _settings(job: NerfJob) -> dict[str, Any]:
    named = {"data": Path(job.scene.data).name, "sampler": job.sampler.name}
    return {**dataclasses.asdict(job.train), **named}


def _time_to_psnr(ours: dict[str, Any], theirs: dict[str, Any]) -> list[dict[str, float]]:
    """For each point of the peer's curve: how long ours took to reach that PSNR at the latest."""
    rows = []
    for point in theirs["curve"]:
        reached = [mine["seconds"] for mine in ours["curve"] if mine["psnr"] >= point["psnr"]]
        row = {"psnr": point["psnr"], "peer_seconds": point["seconds"]}
        if reached:
            row |= {"our_seconds": reached[0], "ratio": point["seconds"] / reached[0]}
        rows.append(row)
    return rows


def main() -> None:
    flags = tyro.cli(Benchmarks, description=__doc__)
    parts = {"start": start, "throughput": throughput, "peer": peer, "small": small}
    for name, measure in parts.items():
        if flags.part in (name, "all"):
            print(f"{name}:", flush=True)
            measure(dataclasses.replace(flags, seconds=()) if flags.part == "all" else flags)


if __name__ == "__main__":
    main()
