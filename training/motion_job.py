"""One motion run from start, or from its last checkpoint, to its report."""

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from motion.train_step import TrainState

from . import (
    config_json,
    devices,
    fault,
    file_lock,
    motion_history,
    motion_onnx,
    motion_pictures,
    motion_report,
    motion_setup,
    motion_tracks,
    pictures,
    processes,
    resuming,
    run_folder,
    runtime,
    video,
)
from .checkpoints import Saver
from .interrupts import StopRequest
from .motion_config import MotionJob
from .motion_evaluation import Evaluator, Verdict
from .motion_setup import Setup
from .motion_tracks import Tracks
from .progress import ProgressView, duration
from .run_folder import RunFolder
from .run_log import RunLog


@dataclasses.dataclass
class Progress:
    """How far a run is; saved with every checkpoint."""

    step: int = 0
    """Iterations."""
    train_seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of this process, while training."""
    compile_seconds: float = 0.0
    eval_seconds: float = 0.0
    curve: list[list[float]] = dataclasses.field(default_factory=list)
    """[control steps, train seconds, share of starts that survive]."""
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """What the sampler knew at evaluations, spread over the run."""


def start(job: MotionJob, *, out: str | None = None, mesh: Mesh | None = None) -> dict[str, Any]:
    """Begins a run in a new folder; returns its summary.

    Args:
      mesh: devices that share the environments; None: one.
    Raises:
      ValueError, OSError: for bad clips, settings or folders, before anything is trained.
    """
    with processes.together():
        setup = motion_setup.prepare(job, mesh=mesh)
        found = motion_setup.fingerprint(setup.loaded)
    name = f"motion-{job.source.robot if '/' not in job.source.robot else 'robot'}"
    path = processes.told_by_first(
        lambda: str(
            run_folder.create(out or run_folder.unused("runs", f"{name}-{job.sampler.name}")).path
        )
    )
    folder = RunFolder(Path(path))
    _check_clips(path, processes.told_by_first(lambda: found), found)
    stored = {"config": config_json.to_json(job), "data": found}
    with file_lock.training(folder):
        if processes.is_first():
            run_folder.write_json(folder.config, stored)
        for note in setup.loaded.notes:
            print(f"note: {note}")
        return _train(setup, folder, motion_setup.first_state(setup), Progress(), resumed_at=None)


def _check_clips(path: str, wanted: Any, found: dict[str, Any]) -> None:
    """Refuses another robot or other clips than the run's, in any process."""
    with processes.together():
        if wanted != found:
            raise ValueError(f"{path}: the robot or its clips are not those the run started with")


def resume(path: str, *, mesh: Mesh | None = None) -> dict[str, Any]:
    """Goes on with a run from its last whole checkpoint; returns its summary.

    Raises:
      FileNotFoundError, ValueError: when the folder holds no run, another process trains it, its
        clips have changed, or its checkpoints are damaged.
    """
    folder = RunFolder(Path(path))
    stored = processes.told_by_first(
        lambda: run_folder.read_config(run_folder.existing(path), MotionJob)
    )
    job = config_json.from_json(MotionJob, stored["config"], str(folder.config))
    processes.told_by_first(lambda: run_folder.check_writable(folder.path))
    with file_lock.training(folder):
        return _go_on(folder, job, stored["data"], mesh)


def _go_on(
    folder: RunFolder, job: MotionJob, wanted: dict[str, Any], mesh: Mesh | None
) -> dict[str, Any]:
    """Prepares a run again and trains it from its last checkpoint.

    Args:
      wanted: fingerprint of its robot and clips.
    """
    with processes.together():
        setup = motion_setup.prepare(job, mesh=mesh)
        found = motion_setup.fingerprint(setup.loaded)
    _check_clips(str(folder.path), wanted, found)
    first = devices.whole(motion_setup.first_state(setup))
    restored: Any = None
    with processes.together():
        if processes.is_first():
            restored = resuming.last_state(folder, first, unit="iteration")
    place = processes.told_by_first(
        lambda: restored and {"step": restored.step, "extra": restored.extra}
    )
    state = motion_setup.place_state(setup, first if restored is None else restored.state)
    if place is None:
        return _train(setup, folder, state, Progress(), resumed_at=-1)
    progress = resuming.progress(Progress, folder, **place)
    return _train(setup, folder, state, progress, resumed_at=place["step"])


def _train(
    setup: Setup,
    folder: RunFolder,
    state: TrainState,
    progress: Progress,
    *,
    resumed_at: int | None,
) -> dict[str, Any]:
    is_first = processes.is_first()
    log = RunLog(folder if is_first else None, resumed_at=resumed_at)
    saver = Saver(folder.checkpoints if is_first else None, last=resumed_at)
    evaluator = Evaluator(setup) if is_first else None
    try:
        job, loaded = setup.job, setup.loaded
        with (
            ProgressView(
                job.loop.num_iterations,
                title=f"{loaded.robot.name} / {job.sampler.name}",
                seconds=job.loop.seconds,
                unit="iteration",
            ) as view,
            StopRequest() as own_stop,
        ):
            stop = processes.AnyStop(own_stop)
            view.start_at(progress.step, progress.train_seconds)
            view.say(
                f"{loaded.robot.name}, {len(loaded.clips)} clip(s) of {loaded.seconds:.1f} s, "
                f"{job.num_envs} copies, physics {job.physics}; results in {folder.path}"
            )
            if setup.mesh is not None:
                view.say(devices.words(setup.mesh))
            view.say("compiling the train step ...")
            step = motion_setup.make_step(setup)
            begun = time.perf_counter()
            step(jax.tree.map(_copied, state))  # compiles; the result is thrown away
            progress.compile_seconds += time.perf_counter() - begun
            if not progress.curve:
                _look(setup, evaluator, state, progress, log)
            state = _loop(setup, evaluator, folder, step, state, progress, log, saver, view, stop)
            with processes.together():
                saver.close()  # before anything says that the run is done
            if not _is_done(setup, progress):
                view.say(f"stopped; go on with: hardlight motion --resume {folder.path}")
                sys.exit(130)
            values: dict[str, Any] = {}
            with processes.together():
                if evaluator is not None:
                    values = _finish(setup, evaluator, folder, _shown(state), progress)
            return values
    finally:
        log.close()


def _copied(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array) and not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.numpy.copy(leaf)
    return leaf


def _shown(state: TrainState) -> TrainState:
    """What pictures and numbers are made from, on one device; not the environments."""
    return devices.local(state._replace(env=None))  # pyright: ignore[reportArgumentType]


def _is_done(setup: Setup, progress: Progress) -> bool:
    loop = setup.job.loop
    is_last = loop.num_iterations is not None and progress.step >= loop.num_iterations
    return is_last or (loop.seconds is not None and progress.train_seconds >= loop.seconds)


def _loop(
    setup: Setup,
    evaluator: Evaluator | None,
    folder: RunFolder,
    step: Any,
    state: TrainState,
    progress: Progress,
    log: RunLog,
    saver: Saver,
    view: ProgressView,
    stop: processes.AnyStop,
) -> TrainState:
    job, loop, time_now = setup.job, setup.job.loop, processes.clock()
    per_iteration = job.num_envs * job.train.num_steps
    last_save = time_now()
    while not _is_done(setup, progress) and not stop.is_set:
        clock, cpu = time_now(), time.process_time()
        state, metrics = step(state)
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        progress.train_seconds += time_now() - clock
        progress.cpu_seconds += time.process_time() - cpu
        progress.step += 1
        learned = devices.local(state.learner)
        if fault.bad_values(values, learned):
            kept = devices.whole(state)
            if not processes.is_first():
                raise SystemExit(2)
            fault.check_finite(folder, kept, step=progress.step, values=values, learned=learned)
        is_last = _is_done(setup, progress)
        if is_last or progress.step % loop.log_every == 0:
            counts = {
                "env_steps": progress.step * per_iteration,
                "seconds": progress.train_seconds,
                "cpu_seconds": progress.cpu_seconds,
                "steps_per_second": progress.step * per_iteration / progress.train_seconds,
            }
            log.write(progress.step, {**counts, **values})
        if is_last or progress.step % loop.evaluate_every == 0:
            _look(setup, evaluator, state, progress, log)
        view.update(
            progress.step,
            train_seconds=progress.train_seconds,
            status=_words(setup, progress, values),
        )
        now = time_now()
        if now - last_save > loop.checkpoint_seconds:
            saver.save(progress.step, devices.whole(state), dataclasses.asdict(progress))
            last_save = now
    saver.save(progress.step, devices.whole(state), dataclasses.asdict(progress))
    return state


def _look(
    setup: Setup, evaluator: Evaluator | None, state: TrainState, progress: Progress, log: RunLog
) -> None:
    """Evaluates, and keeps a point of the curve and a column of the heat maps."""
    if evaluator is None:
        return
    state = _shown(state)
    begun = time.perf_counter()
    numbers, _ = evaluator.survival(state.learner)
    progress.eval_seconds += time.perf_counter() - begun
    env_steps = progress.step * setup.job.num_envs * setup.job.train.num_steps
    progress.curve.append([env_steps, round(progress.train_seconds, 3), numbers["success"]])
    motion_history.add(
        progress.history, motion_history.column(setup.sampler, state.sampler, env_steps)
    )
    counts = {"env_steps": env_steps, "cpu_seconds": progress.cpu_seconds}
    log.write(progress.step, {**counts, **numbers}, group="evaluation")


def _finish(
    setup: Setup, evaluator: Evaluator, folder: RunFolder, state: TrainState, progress: Progress
) -> dict[str, Any]:
    job, verdict = setup.job, evaluator.judge(state.learner)
    movie = _film(setup, folder, verdict)
    exported = _export(setup, folder, state)
    seconds = max(progress.train_seconds, 1e-9)
    env_steps = progress.step * job.num_envs * job.train.num_steps
    values = {
        "job": job.job,
        "data": ", ".join(job.source.clips),
        "robot": setup.loaded.robot.name,
        "physics": job.physics,
        "sampler": job.sampler.name,
        "seed": job.seed,
        "steps": progress.step,
        "env_steps": env_steps,
        "train_seconds": round(progress.train_seconds, 3),
        "cpu_seconds": round(progress.cpu_seconds, 3),
        "compile_seconds": round(progress.compile_seconds, 3),
        "eval_seconds": round(progress.eval_seconds, 3),
        "env_steps_per_second": round(env_steps / seconds, 1),
        "peak_memory_bytes": runtime.peak_memory(),
        "device": runtime.device_name(),
        "num_devices": 1 if setup.mesh is None else setup.mesh.size,
        "num_processes": processes.count(),
        "versions": runtime.versions(),
        "onnx": exported,
        "final": verdict.final,
        "draws": motion_history.draws(progress.history),
        "curve": progress.curve,
        "curve_metric": f"share of starts that track for {job.loop.survival_seconds:g} s",
    }
    last = progress.history[-1]
    for place, entry in enumerate(verdict.final["bins"]):
        entry["start_probability"] = last["probabilities"][place]
        entry["failure_score"] = last["failures"][place]
    motion_report.write(
        folder, setup, values, progress.history, config_json.to_json(job), movie=movie
    )
    run_folder.write_json(folder.summary, values)  # last: where there is one the run is done
    final = verdict.final
    print(
        f"{100 * final['starts_survived']:.0f} % of {final['num_starts']} starts track for "
        f"{job.loop.survival_seconds:g} s, {100 * final['clips_completed']:.0f} % of the clips are "
        f"played to their end, body error {1000 * final['mpjpe_global']:.0f} mm global and "
        f"{1000 * final['mpjpe_root_relative']:.0f} mm root-relative, "
        f"{duration(progress.train_seconds)} of training"
    )
    if "held_out" in final:
        print(
            f"of clips held out {100 * final['held_out']['starts_survived']:.0f} % of the starts "
            f"track, {100 * final['held_out']['clips_completed']:.0f} % are played to their end"
        )
    print(f"report: {Path(folder.report)}")
    return values


def _film(setup: Setup, folder: RunFolder, verdict: Verdict) -> Path | None:
    """Writes tracks.npz, policy.mp4, policy.png: the clips from their first frames, in a row."""
    loaded, count = setup.loaded, setup.job.loop.video_frames
    reference = np.asarray(loaded.bank.qpos)
    policy, target, alive = [], [], []
    for place, length in enumerate(loaded.lengths):
        first = int(loaded.bank.clip_start[place])
        policy.append(verdict.tracks.qpos[:length, place])
        alive.append(verdict.tracks.is_alive[:length, place])
        target.append(reference[first : first + length])
    tracks = Tracks(
        policy=np.concatenate(policy),
        reference=np.concatenate(target),
        is_alive=np.concatenate(alive),
        fps=loaded.robot.control_rate,
    )
    motion_tracks.save(folder, tracks)
    if count == 0:
        return None
    figure = motion_pictures.Figure(loaded.robot)
    every = max(1, -(-len(tracks.policy) // count))
    frames = motion_pictures.beside(
        figure, tracks.policy[::every], tracks.reference[::every], tracks.is_alive[::every]
    )
    pictures.write_png(folder.images / "policy.png", motion_pictures.strip(frames))
    fps = loaded.robot.control_rate / every
    return video.write_video(folder.images / "policy", frames, fps=fps)


def _export(setup: Setup, folder: RunFolder, state: TrainState) -> dict[str, Any] | None:
    try:
        import onnx
    except ImportError:
        print('note: no policy.onnx, for want of the package: pip install "hardlight[onnx]"')
        return None
    del onnx
    found = motion_onnx.export(
        folder.path / "policy.onnx",
        state.learner,
        setup.job.train.ppo,
        setup.job.env,
        setup.loaded.robot,
    )
    return {**found, "path": "policy.onnx"}


def _words(setup: Setup, progress: Progress, values: dict[str, float]) -> str:
    per_iteration = setup.job.num_envs * setup.job.train.num_steps
    speed = progress.step * per_iteration / max(progress.train_seconds, 1e-9)
    return (
        f"{speed:,.0f} steps/s  episodes of {values['episode_steps']:.0f} steps, "
        f"{100 * values['failed_share']:.0f} % failed  "
        + (f"surviving starts {100 * progress.curve[-1][2]:.0f} %" if progress.curve else "")
    )
