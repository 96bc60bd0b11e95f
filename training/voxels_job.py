"""One block-world run from start, or from its last checkpoint, to its report."""

import dataclasses
import functools
import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from samplers import diagnostics
from voxels.formats.map_json import save_map
from voxels.rendering.planning import march_backend
from voxels.train_step import TrainState, learn, look, train_step

from . import (
    config_json,
    fault,
    file_lock,
    pictures,
    resuming,
    run_folder,
    runtime,
    tiny_guide,
    voxels_evaluation,
    voxels_report,
    voxels_setup,
)
from .checkpoints import Saver
from .interrupts import StopRequest
from .progress import ProgressView, duration
from .run_folder import RunFolder
from .run_log import RunLog
from .voxels_config import VoxelsJob
from .voxels_evaluation import Evaluator
from .voxels_setup import Setup


@dataclasses.dataclass
class Progress:
    """How far a run is; saved with every checkpoint."""

    step: int = 0
    train_seconds: float = 0.0
    compile_seconds: float = 0.0
    curve: list[list[float]] = dataclasses.field(default_factory=list)
    """[step, train seconds, PSNR of the fixed views]."""


def start(job: VoxelsJob, *, out: str | None = None) -> dict[str, Any]:
    """Begins a run in a new folder; returns its summary.

    Raises:
      ValueError, OSError: for bad data, settings or folders, before anything is trained.
    """
    setup = voxels_setup.prepare(job)
    folder = run_folder.create(out or run_folder.unused("runs", f"voxels-{job.guidance.name}"))
    stored = {"config": config_json.to_json(job), "data": voxels_setup.fingerprint(setup.loaded)}
    with file_lock.training(folder):
        run_folder.write_json(folder.config, stored)
        for note in setup.loaded.notes:
            print(f"note: {note}")
        return _train(setup, folder, voxels_setup.first_state(setup), Progress(), resumed_at=None)


def resume(path: str) -> dict[str, Any]:
    """Goes on with a run from its last whole checkpoint; returns its summary.

    Raises:
      FileNotFoundError, ValueError: when the folder holds no run, another process trains it, its
        world has changed, or its checkpoints are damaged.
    """
    folder = run_folder.existing(path)
    stored = run_folder.read_config(folder, VoxelsJob)
    job = config_json.from_json(VoxelsJob, stored["config"], str(folder.config))
    run_folder.check_writable(folder.path)
    with file_lock.training(folder):
        return _go_on(folder, _on_this_machine(job), stored["data"])


def _go_on(folder: RunFolder, job: VoxelsJob, wanted: dict[str, Any]) -> dict[str, Any]:
    """Prepares a run again and trains it from its last checkpoint.

    Args:
      wanted: fingerprint of its world.
    """
    setup = voxels_setup.prepare(job)
    if voxels_setup.fingerprint(setup.loaded) != wanted:
        raise ValueError(
            f"{folder.path}: the world or its pictures are not those the run started with"
        )
    restored = resuming.last_state(folder, voxels_setup.state_shapes(setup))
    if restored is None:
        return _train(setup, folder, voxels_setup.first_state(setup), Progress(), resumed_at=-1)
    step = restored.step
    progress = resuming.progress(Progress, folder, step=step, extra=restored.extra)
    return _train(setup, folder, restored.state, progress, resumed_at=step)


def _on_this_machine(job: VoxelsJob) -> VoxelsJob:
    """The job without numba where there is none, or an accelerator: last bits may differ then."""
    if job.train.render.backend != "numba" or march_backend() == "numba":
        return job
    print("note: the run was begun with numba on a CPU; it goes on without, and may differ in bits")
    render = dataclasses.replace(job.train.render, backend="march")
    return dataclasses.replace(job, train=dataclasses.replace(job.train, render=render))


def check_gradients(job: VoxelsJob, *, out: str | None = None) -> dict[str, Any]:
    """Writes and prints a gradient report of the first view of the start; trains nothing."""
    setup = voxels_setup.prepare(job)
    folder = run_folder.create(out or run_folder.unused("runs", "voxels-gradients"))
    stored = {"config": config_json.to_json(job), "data": voxels_setup.fingerprint(setup.loaded)}
    run_folder.write_json(folder.config, stored)
    values = Evaluator(setup).gradients(setup.start, 0)
    run_folder.write_json(folder.path / "gradient_report.json", values)
    print(json.dumps(values, indent=2))
    return values


def _train(
    setup: Setup,
    folder: RunFolder,
    state: TrainState,
    progress: Progress,
    *,
    resumed_at: int | None,
) -> dict[str, Any]:
    job, log = setup.job, RunLog(folder, resumed_at=resumed_at)
    saver = Saver(folder.checkpoints, last=resumed_at)
    evaluator = Evaluator(setup)
    try:
        title = f"voxels / {job.guidance.name}"
        with ProgressView(job.train.num_steps, title=title) as view, StopRequest() as stop:
            view.start_at(progress.step, progress.train_seconds)
            view.say(
                f"{setup.loaded.num_views} views of {setup.loaded.cols} x {setup.loaded.rows}, "
                f"{' x '.join(map(str, setup.loaded.shape))} cells; results in {folder.path}"
            )
            view.say("compiling the train step ...")
            begun = time.perf_counter()
            step = _make_step(setup)
            step(jax.tree.map(jnp.copy, state))  # compiles; the copy is thrown away
            progress.compile_seconds += time.perf_counter() - begun
            if not progress.curve:
                _look(setup, evaluator, folder, state, progress, log)
            state = _loop(setup, evaluator, folder, step, state, progress, log, saver, view, stop)
            saver.close()  # nothing says that the run is done before its last checkpoint is on disk
            if progress.step < job.train.num_steps:
                view.say(f"stopped; go on with: hardlight voxels --resume {folder.path}")
                sys.exit(130)
            return _finish(setup, evaluator, folder, state, progress)
    finally:
        log.close()


def _make_step(setup: Setup) -> Any:
    """A function from a state, which it uses up, to the next and its metrics."""
    job, guide, run_key = setup.job, setup.guide, setup.run_key
    if guide.is_traceable:
        whole = jax.jit(
            functools.partial(train_step, job.train, setup.sampler, guide), donate_argnums=1
        )
        return lambda state: whole(run_key, state, setup.world)
    first = jax.jit(functools.partial(look, job.train, setup.sampler))
    second = jax.jit(functools.partial(learn, job.train, setup.sampler), donate_argnums=0)

    def in_two_halves(state: TrainState) -> tuple[TrainState, dict[str, Any]]:
        seen = first(run_key, state, setup.world)
        pull = guide.pull(guide.data, seen.key, seen.query)
        return second(state, setup.world, seen, pull)

    return in_two_halves


def _loop(
    setup: Setup,
    evaluator: Evaluator,
    folder: RunFolder,
    step: Any,
    state: TrainState,
    progress: Progress,
    log: RunLog,
    saver: Saver,
    view: ProgressView,
    stop: StopRequest,
) -> TrainState:
    loop, total = setup.job.loop, setup.job.train.num_steps
    clock = last_save = time.perf_counter()
    metrics: dict[str, Any] = {}
    while progress.step < total and not stop.is_set:
        state, metrics = step(state)
        progress.step += 1
        is_last = progress.step == total
        is_look = is_last or progress.step % loop.image_every == 0
        if is_look or progress.step % loop.log_every == 0:
            values = _numbers(metrics)
            progress.train_seconds += time.perf_counter() - clock
            fault.check_finite(folder, state, step=progress.step, values=values, learned=state.grid)
            log.write(
                progress.step,
                {"seconds": progress.train_seconds, **values, **evaluator.statistics(state.grid)},
            )
            if is_look:
                _look(setup, evaluator, folder, state, progress, log)
            view.update(
                progress.step, train_seconds=progress.train_seconds, status=_words(progress, values)
            )
            now = time.perf_counter()
            if now - last_save > loop.checkpoint_seconds:
                saver.save(progress.step, state, dataclasses.asdict(progress))
                last_save = now
            clock = time.perf_counter()
    jax.block_until_ready(state)
    # a run may be stopped between two looks at its metrics
    fault.check_finite(
        folder, state, step=progress.step, values=_numbers(metrics), learned=state.grid
    )
    progress.train_seconds += time.perf_counter() - clock
    saver.save(progress.step, state, dataclasses.asdict(progress))
    return state


def _look(
    setup: Setup,
    evaluator: Evaluator,
    folder: RunFolder,
    state: TrainState,
    progress: Progress,
    log: RunLog,
) -> None:
    """Writes pictures of the fixed views, a point of the curve, and how the export would be."""
    views = list(range(min(setup.job.loop.num_fixed_views, setup.loaded.num_views)))
    images = evaluator.pictures(state, views)
    for view in views:
        name = f"step_{progress.step:04d}_view_{view}.png"
        pictures.write_png(folder.images / name, pictures.to_uint8(images[view]))
    truth = setup.loaded.pictures[views].astype(np.float32) / 255
    quality = voxels_evaluation.psnr(images, truth)
    exported = evaluator.export(state.grid)
    hard = evaluator.map_pictures(exported, views)
    gradients = evaluator.gradients(state.grid, state.step)
    progress.curve.append([progress.step, round(progress.train_seconds, 3), quality])
    values = {
        "psnr": quality,
        "psnr_exported": voxels_evaluation.psnr(hard, truth),
        "export_gap": voxels_evaluation.psnr(images, hard),
        "num_blocks": exported.num_blocks,
        "gradient_health_score": gradients["gradient_health_score"],
        "gradient_score": gradients["score"],
    }
    log.write(progress.step, values, group="fixed_views")


def _finish(
    setup: Setup, evaluator: Evaluator, folder: RunFolder, state: TrainState, progress: Progress
) -> dict[str, Any]:
    job, judged = setup.job, evaluator.judge(state)
    final = judged.numbers
    gradients = evaluator.gradients(state.grid, state.step)
    run_folder.write_json(folder.path / "gradient_report.json", gradients)
    final["gradient_health_score"] = gradients["gradient_health_score"]
    final["gradient_score"] = gradients["score"]
    if job.guidance.name == "tiny":
        before = setup.loaded.pictures.astype(np.float32) / 255
        final["critic"] = tiny_guide.judge(before, judged.hard)
    save_map(
        folder.path / voxels_setup.EXPORTED,
        judged.exported,
        metadata={
            "guidance": job.guidance.name,
            "prompt": job.guidance.prompt,
            "step": progress.step,
            "seed": job.seed,
        },
    )
    values = {
        "job": job.job,
        "data": job.world.map or job.world.cameras or "procedural",
        "guidance": job.guidance.name,
        "prompt": job.guidance.prompt,
        "sampler": job.sampler.name,
        "seed": job.seed,
        "steps": progress.step,
        "train_seconds": round(progress.train_seconds, 3),
        "compile_seconds": round(progress.compile_seconds, 3),
        "peak_memory_bytes": runtime.peak_memory(),
        "device": runtime.device_name(),
        "versions": runtime.versions(),
        "final": final,
        "draws": _draws(setup, state),
        "curve": progress.curve,
        "curve_metric": "PSNR in dB of the fixed views",
    }
    voxels_report.write(folder, setup, judged, values, config_json.to_json(job))
    run_folder.write_json(folder.summary, values)  # last: where there is one the run is done
    found = f"{final['num_blocks']:,} blocks"
    if "visible_right" in final:
        share, known = final["visible_right"], f"visible cells of the {final['known_map']} map"
        found = f"no {known}" if share is None else f"{100 * share:.1f} % of the {known}"
    print(
        f"{found}, PSNR {final['psnr']:.1f} dB, exported {final['psnr_exported']:.1f} dB, "
        f"export gap {final['export_gap']:.1f} dB, {duration(progress.train_seconds)} of training"
    )
    print(f"report: {Path(folder.report)}")
    return values


def _draws(setup: Setup, state: TrainState) -> dict[str, float]:
    """How even the cameras are drawn at the end: entropy, 1 is uniform."""
    assert setup.sampler.probabilities is not None
    probs = setup.sampler.probabilities(state.sampler)
    return {"entropy": round(float(diagnostics.concentration(probs).entropy), 5)}


def _numbers(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in jax.device_get(metrics).items()}


def _words(progress: Progress, values: dict[str, float]) -> str:
    shown = [f"{name} {values[name]:.4g}" for name in ("guide_psnr", "guide") if name in values]
    rate = progress.step / max(progress.train_seconds, 1e-9)
    return "  ".join([f"{rate:.1f} steps/s", *shown])
