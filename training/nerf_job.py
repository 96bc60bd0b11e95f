"""One radiance-field run from start, or from its last checkpoint, to its report."""

import contextlib
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from nerf import images
from scenes.posed_images import SplitImages

from . import (
    config_json,
    devices,
    file_lock,
    nerf_options,
    nerf_outputs,
    nerf_report,
    nerf_setup,
    processes,
    resuming,
    run_folder,
    sampler_pictures,
    summary,
)
from .checkpoints import Saver
from .interrupts import StopRequest
from .nerf_command import NerfCommand
from .nerf_config import NerfJob
from .nerf_evaluation import Evaluator
from .nerf_loop import Loop, Progress
from .nerf_setup import Setup
from .perceptual import Lpips
from .progress import ProgressView, duration
from .run_folder import RunFolder
from .run_log import RunLog, read_rows


@dataclasses.dataclass(frozen=True)
class Shared:
    """What several runs on one scene have in common, so that it is made once.

    Attributes:
      scene: the images.
      evaluator: renders the held-out views; its program is compiled once.
      steps: compiled train steps by what they were compiled for; filled by the runs.
    """

    scene: SplitImages
    evaluator: Evaluator
    steps: dict[Any, Any]


def start(
    job: NerfJob,
    *,
    out: str | None = None,
    scene: SplitImages | None = None,
    shared: Shared | None = None,
    mesh: Mesh | None = None,
) -> dict[str, Any]:
    """Begins a run in a new folder; returns its summary.

    Args:
      scene: the job's images, if they are already loaded.
      shared: what earlier runs on the same images have made.
      mesh: devices that share the steps; None: one.
    Raises:
      ValueError, OSError: for bad data, settings or folders, before anything is trained.
    """
    name = f"{run_folder.name_of(job.scene.data)}-{job.sampler.name}"
    path = processes.told_by_first(
        lambda: str(run_folder.create(out or run_folder.unused("runs", name)).path)
    )
    folder = RunFolder(Path(path))
    try:
        with processes.together():
            perceptual, setup, found = _prepared(
                job, scene if shared is None else shared.scene, mesh
            )
        _check_images(setup, processes.told_by_first(lambda: found), found)
    except BaseException:
        with contextlib.suppress(OSError):  # only an empty folder goes
            folder.path.rmdir()
        raise
    with file_lock.training(folder):
        if processes.is_first():
            run_folder.write_json(
                folder.config, {"config": config_json.to_json(setup.job), "data": found}
            )
        for note in setup.scene.notes:
            print(f"note: {note}")
        return _train(
            setup, folder, None, Progress(), resumed_at=None, shared=shared, perceptual=perceptual
        )


def resume(
    path: str,
    *,
    asked: NerfCommand | None = None,
    shared: Shared | None = None,
    mesh: Mesh | None = None,
) -> dict[str, Any]:
    """Goes on with a run from its last whole checkpoint; returns its summary.

    Raises:
      FileNotFoundError, ValueError: when the folder holds no run, another process trains it, its
        images have changed, its checkpoints are damaged or hold another state, or `asked` wants
        other settings.
    """
    folder = RunFolder(Path(path))
    stored = processes.told_by_first(
        lambda: run_folder.read_config(run_folder.existing(path), NerfJob)
    )
    job = config_json.from_json(NerfJob, stored["config"], str(folder.config))
    if asked is not None:
        nerf_options.refuse_changes(asked, job, path)
    processes.told_by_first(lambda: run_folder.check_writable(folder.path))
    with file_lock.training(folder):
        return _go_on(folder, job, stored["data"], shared, mesh)


def _go_on(
    folder: RunFolder,
    job: NerfJob,
    wanted: dict[str, Any],
    shared: Shared | None,
    mesh: Mesh | None,
) -> dict[str, Any]:
    """Prepares a run again and trains it from its last checkpoint.

    Args:
      wanted: what its images are known by.
    """
    with processes.together():
        perceptual, setup, found = _prepared(job, None if shared is None else shared.scene, mesh)
    _check_images(setup, wanted, found)
    restored: Any = None
    with processes.together():
        if processes.is_first():
            restored = resuming.last_state(folder, nerf_setup.state_shapes(setup))
    place = processes.told_by_first(
        lambda: restored and {"step": restored.step, "extra": restored.extra}
    )
    if place is None:
        return _train(
            setup, folder, None, Progress(), resumed_at=-1, shared=shared, perceptual=perceptual
        )
    state = _zeros(setup) if restored is None else restored.state
    state = devices.spread_from_first(state, mesh)
    progress = resuming.progress(Progress, folder, **place)
    return _train(
        setup,
        folder,
        state,
        progress,
        resumed_at=place["step"],
        shared=shared,
        perceptual=perceptual,
    )


def _prepared(
    job: NerfJob, scene: SplitImages | None, mesh: Mesh | None
) -> tuple[Lpips | None, Setup, dict[str, Any]]:
    """All that is read before training, and what the images are known by."""
    perceptual = nerf_outputs.perceptual_metric(job)
    setup = nerf_setup.prepare(job, scene, mesh)
    if perceptual is not None:
        perceptual.check_size(setup.scene.test.rows, setup.scene.test.cols)
    return perceptual, setup, nerf_setup.fingerprint(setup.scene)


def _check_images(setup: Setup, wanted: dict[str, Any], found: dict[str, Any]) -> None:
    """Refuses other images than the run's, in any process."""
    with processes.together():
        for split, facts in found.items():
            asked = wanted.get(split, {})
            if any(asked.get(name) != facts[name] for name in ("shape", "crc32")):
                raise ValueError(
                    f"{setup.job.scene.data}: the {split} images are not those the run was "
                    "started with"
                )
            if asked.get("crc32_of_the_rest") != facts["crc32_of_the_rest"]:
                raise ValueError(
                    f"{setup.job.scene.data}: the lenses, bounds, masks or depth of the {split} "
                    "images are not those the run was started with"
                )


def _zeros(setup: Setup) -> Any:
    """A state of the right shapes, for a process that is told its values."""
    return jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype), nerf_setup.state_shapes(setup)
    )


def _train(
    setup: Setup,
    folder: RunFolder,
    state: Any,
    progress: Progress,
    *,
    resumed_at: int | None,
    shared: Shared | None,
    perceptual: Lpips | None,
) -> dict[str, Any]:
    job = setup.job
    is_first = processes.is_first()
    log = RunLog(folder if is_first else None, resumed_at=resumed_at)
    saver = Saver(folder.checkpoints if is_first else None, last=resumed_at)
    evaluator = None
    if is_first:
        evaluator = Evaluator(setup) if shared is None else shared.evaluator
    title = f"{setup.scene.name} / {job.sampler.name}"
    try:
        with (
            ProgressView(
                None if job.loop.fill_seconds else job.train.num_steps,
                title=title,
                seconds=job.loop.seconds,
            ) as view,
            StopRequest() as stop,
        ):
            train = setup.scene.train
            view.say(
                f"{setup.scene.name}: {train.num_views} views of {train.cols} x {train.rows} to "
                f"learn from, {setup.scene.test.num_views} held out; results in {folder.path}"
            )
            if setup.mesh is not None:
                view.say(devices.words(setup.mesh))
            view.say("compiling the train step ...")
            began = time.perf_counter()
            known = {} if shared is None else shared.steps
            if state is None:
                state, step = nerf_setup.begin(setup, known)
            else:
                step = nerf_setup.compiled_step(setup, known)
            progress.compile_seconds += time.perf_counter() - began
            loop = Loop(
                setup,
                state,
                step,
                progress,
                evaluator=evaluator,
                folder=folder,
                log=log,
                saver=saver,
                view=view,
                stop=processes.AnyStop(stop),
                clock=processes.clock(),
            )
            del state
            ended_by = loop.run()
            with processes.together():
                saver.close()  # before anything says that the run is done
            if ended_by == "interrupt":
                view.say(
                    f"stopped after step {loop.progress.step}; go on with: "
                    f"hardlight {job.job} --resume {folder.path}"
                )
                sys.exit(130)
            result: dict[str, Any] = {}
            with processes.together():
                if evaluator is not None:
                    result = _finish(loop, evaluator, perceptual, folder, ended_by, view)
            return result
    finally:
        log.close()


def _finish(
    loop: Loop,
    evaluator: Evaluator,
    perceptual: Lpips | None,
    folder: RunFolder,
    ended_by: str,
    view: ProgressView,
) -> dict[str, Any]:
    setup, state = loop.setup, devices.local(loop.state)
    snapshot = images.snapshot(state)
    view.say(f"rendering {setup.scene.test.num_views} held-out views ...")
    final, shown = nerf_outputs.evaluate_and_draw(setup, evaluator, snapshot, folder, perceptual)
    train = setup.scene.train
    sampled = sampler_pictures.density(
        setup.sampler,
        state.sampler,
        num_views=train.num_views,
        rows=train.rows,
        cols=train.cols,
    )
    seen = np.asarray(state.seen) if setup.job.train.track_seen else None
    sampler = nerf_outputs.draw_sampler(
        setup,
        evaluator,
        snapshot,
        sampled,
        folder,
        remembered=sampler_pictures.remembered(
            setup.sampler,
            state.sampler,
            num_views=train.num_views,
            rows=train.rows,
            cols=train.cols,
        ),
        seen=seen,
    )
    orbit = nerf_outputs.write_orbit(setup, evaluator, snapshot, folder)
    rows = list(read_rows(folder.metrics))
    draws = sampler_pictures.draw_facts(
        sampled,
        [row["effective_rays"] for row in rows if row["kind"] == "train"],
        setup.job.train.rays_per_step,
        seen,
    )
    first = next((row for row in rows if row["kind"] == "held_out"), {})
    values = summary.of_nerf_run(
        loop, evaluator, ended_by=ended_by, first_look=first, final=final, draws=draws
    )
    nerf_report.write(
        folder,
        values,
        config_json.to_json(setup.job),
        views=shown,
        sampler=sampler,
        orbit=orbit,
    )
    run_folder.write_json(folder.summary, values)  # last: where there is one the run is done
    ssim = f", SSIM {final['ssim']:.4f}" if "ssim" in final else ""
    view.say(
        f"held-out PSNR {final['psnr']:.2f} dB{ssim} after {loop.progress.step} steps, "
        f"{duration(loop.progress.train_seconds)} of training"
    )
    view.say(f"report: {folder.report}")
    return values
