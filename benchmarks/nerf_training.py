"""Training runs for `nerf.py`: ours and the PyTorch peer's, with the same curve from both.

A curve is a list of points {steps, rays, seconds, cpu_seconds, psnr}; both clocks run during
training only, not while compiling, loading or evaluating.
"""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import jax
import numpy as np

from benchmarks import measuring
from nerf import images
from scenes.cameras import Cameras
from scenes.posed_images import PosedImages, SplitImages
from scenes.rays import view_rays
from training import nerf_setup, runtime
from training.nerf_config import NerfJob
from training.nerf_evaluation import Evaluator, lattice_cameras, over
from training.nerf_setup import Setup

Unit = Literal["steps", "seconds", "cpu_seconds"]
_GROUP = 16


def train_seeds(
    job: NerfJob, scene: SplitImages, seeds: Sequence[int]
) -> Iterator[tuple[Setup, Any, Any]]:
    """Trains a job with several seeds for its number of steps, compiling once.

    Returns:
      Per seed the set-up, the last state and the metrics of the last step.
    Raises:
      ValueError: when a step was not finite, from which on nothing is learned.
    """
    known: dict[Any, Any] = {}
    for seed in seeds:
        setup = nerf_setup.prepare(dataclasses.replace(job, seed=seed), scene)
        state, step = nerf_setup.begin(setup, known)
        metrics = None
        for _ in range(0, job.train.num_steps, job.train.steps_per_call):
            state, metrics = step(state, setup.data, setup.run_key)
        # a call of several steps gives one row for each
        last = jax.tree.map(lambda rows: np.ravel(rows)[-1], metrics)
        if metrics is None or not last.is_finite:
            raise ValueError(f"seed {seed}: step {int(np.ravel(state.step)[0])} was not finite")
        yield setup, state, last


@dataclasses.dataclass
class Clocks:
    """Wall time and CPU time, summed over the stretches between `start` and `stop`."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def start(self) -> None:
        """Begins a stretch."""
        self._began = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """Ends it."""
        self.seconds += time.perf_counter() - self._began[0]
        self.cpu_seconds += time.process_time() - self._began[1]


def train_ours(
    job: NerfJob, *, points: tuple[float, ...], unit: Unit = "steps", views: int | None = None
) -> dict[str, Any]:
    """Trains a job and evaluates it at `points`, in `unit`s of training.

    Args:
      views: learn nothing from the test split: evaluate on a lattice of so many of the
        validation views; None evaluates every pixel of the test views.
    """
    setup = _with_held_out(nerf_setup.prepare(job), views)
    began = time.perf_counter()
    state, step = nerf_setup.begin(setup)
    compile_seconds = time.perf_counter() - began
    clocks, group, curve, rays, samples = Clocks(), [], [], 0, 0.0
    first_step_seconds = None
    evaluator = Evaluator(setup)
    num_steps, steps = job.train.num_steps, 0
    for point in points:
        while steps < num_steps:
            done = steps if unit == "steps" else getattr(clocks, unit)
            if done >= point:
                break
            size = 1 if steps == 0 else min(_GROUP, num_steps - steps)
            if unit == "steps":
                size = min(size, max(1, round(point) - steps))
            clocks.start()
            group = []
            for _ in range(0, size, job.train.steps_per_call):
                state, metrics = step(state, setup.data, setup.run_key)
                group.append(metrics)
                steps += job.train.steps_per_call
            group = jax.device_get(group)
            clocks.stop()
            if first_step_seconds is None:
                first_step_seconds = measuring.seconds_since_start()
            if not all(np.all(row.is_finite) for row in group):
                raise FloatingPointError(f"a step before {steps} was not finite")
            rays += int(sum(np.sum(row.kept_rays) for row in group))
            fill = float(sum(np.sum(row.fill) for row in group))
            samples += fill * job.train.marching.budget
        results = _evaluate(evaluator, images.snapshot(state), is_quick=views is not None)
        curve.append({**_point(steps, rays, clocks), **results})
        print(f"  ours  {_line(curve[-1])}", flush=True)
    return {
        "steps": steps,
        "planned_steps": num_steps,
        "rays": rays,
        "samples": samples,
        "seconds": clocks.seconds,
        "cpu_seconds": clocks.cpu_seconds,
        "compile_seconds": compile_seconds,
        "first_step_seconds": first_step_seconds,
        "peak_memory_mb": (runtime.peak_memory() or 0) / 2**20,
        "curve": curve,
    }


def train_peer(
    job: NerfJob, *, points: tuple[int, ...], views: int, threads: int
) -> dict[str, Any]:
    """Trains the PyTorch peer with the same settings and evaluates it on the same pixels."""
    import torch

    from benchmarks.peers.torch_ngp import Rays, Trainer

    torch.set_num_threads(threads)
    setup = _with_held_out(nerf_setup.prepare(job), views)
    test, stride = setup.scene.test, Evaluator(setup).stride
    lattice = slice(stride // 2, None, stride)
    cameras = lattice_cameras(test.cameras, stride)
    truth = [over(image[lattice, lattice], setup.background) for image in test.images]
    background = torch.from_numpy(setup.background)

    def psnr(trainer: Trainer) -> float:
        values = []
        for view, target in enumerate(truth):
            found = view_rays(Cameras(*cameras), view, *target.shape[:2])
            rays = Rays(*(torch.from_numpy(np.array(part)).reshape(-1, 3) for part in found))
            color = trainer.render(rays, background).numpy().reshape(target.shape)
            values.append(-10.0 * np.log10(np.mean(np.square(color - target))))
        return float(np.mean(values))

    trainer = Trainer(job.train, setup.scene.train, seed=job.seed)
    clocks, curve, rays = Clocks(), [], 0
    for point in points:
        clocks.start()
        while trainer.count < point:
            trainer.step()
        clocks.stop()
        rays = trainer.count * job.train.rays_per_step
        curve.append({**_point(trainer.count, rays, clocks), "psnr": psnr(trainer)})
        print(f"  torch {_line(curve[-1])}", flush=True)
    return {
        "steps": trainer.count,
        "rays": rays,
        "samples": trainer.samples,
        "seconds": clocks.seconds,
        "cpu_seconds": clocks.cpu_seconds,
        "first_step_seconds": None,
        "peak_memory_mb": (runtime.peak_memory() or 0) / 2**20,
        "curve": curve,
    }


def step_cost(job: NerfJob, *, unit: Unit = "seconds", steps: int = 160) -> float:
    """Cost of a step in seconds of `unit`, over the second half of a short run."""
    result = train_ours(job, points=(steps / 2, steps), unit="steps", views=1)
    half, whole = result["curve"]
    return (whole[unit] - half[unit]) / (whole["steps"] - half["steps"])


def _with_held_out(setup: Setup, views: int | None) -> Setup:
    """Puts evenly spaced validation views in place of the test split."""
    if views is None:
        return setup
    source = setup.scene.test if setup.scene.val is None else setup.scene.val
    chosen = np.linspace(0, source.num_views - 1, views).round().astype(int)
    held_out: PosedImages = source._replace(
        images=source.images[chosen],
        cameras=Cameras(*(np.asarray(field)[chosen] for field in source.cameras)),
        names=tuple(source.names[index] for index in chosen),
        depth=None,
        masks=None,
    )
    return setup._replace(scene=setup.scene._replace(test=held_out))


def _evaluate(evaluator: Evaluator, snapshot: Any, *, is_quick: bool) -> dict[str, float]:
    if is_quick:
        return {"psnr": evaluator.quick_psnr(snapshot)}
    psnr, ssim = [], []
    for result in evaluator.every_view(snapshot):
        psnr.append(result.psnr)
        ssim.append(np.nan if result.ssim is None else result.ssim)
    return {"psnr": float(np.mean(psnr)), "ssim": float(np.mean(ssim))}


def _point(steps: int, rays: int, clocks: Clocks) -> dict[str, float]:
    return {
        "steps": steps,
        "rays": rays,
        "seconds": clocks.seconds,
        "cpu_seconds": clocks.cpu_seconds,
    }


def _line(point: dict[str, float]) -> str:
    return (
        f"{point['steps']:6.0f} steps {point['seconds']:7.1f} s {point['cpu_seconds']:7.1f} cpu-s "
        f"{point['psnr']:6.2f} dB"
    )
