"""The training loop: keeps the device busy, and looks at the results one group of steps late.

Steps are dispatched in groups; a group's metrics are fetched only after the next group is on its
way, so the host never makes the device wait. Evaluation, checkpoints and the end stop the clock:
`train_seconds` counts training alone.

Where several processes train together, all run this loop and have to make the same decisions: they
share a clock and a stop request, and only the first one looks, logs and saves.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from nerf import images
from nerf.train_step import StepMetrics, TrainState

from . import devices, fault, pictures, processes
from .checkpoints import Saver
from .nerf_config import evaluation_steps
from .nerf_evaluation import Evaluator
from .nerf_setup import CompiledStep, Setup
from .progress import LateRate, ProgressView
from .run_folder import RunFolder
from .run_log import RunLog

_WARM_UP_CALLS = 3
WORST_HOLD = "error_held_by_worst_percent"
"""Of held-out rows: the share of the squared error that the worst hundredth of the pixels holds."""

Clock = Callable[[], float]


class Stop(Protocol):
    """Says whether the run was asked to stop."""

    @property
    def is_set(self) -> bool:
        """Whether it was."""
        ...


@dataclasses.dataclass
class Progress:
    """How far a run is; saved with every checkpoint."""

    step: int = 0
    num_steps: int = 0
    """Planned length of the run."""
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    compile_seconds: float = 0.0
    rays: int = 0
    samples: int = 0
    curve: list[list[float]] = dataclasses.field(default_factory=list)
    """[step, train seconds, held-out PSNR on the lattice]."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


class Loop:
    """One run's loop: its state, where it is, and whom it tells."""

    def __init__(
        self,
        setup: Setup,
        state: TrainState,
        step: CompiledStep,
        progress: Progress,
        *,
        evaluator: Evaluator | None,
        folder: RunFolder,
        log: RunLog,
        saver: Saver,
        view: ProgressView,
        stop: Stop,
        clock: Clock = time.perf_counter,
    ):
        self.setup, self.state, self.progress, self._step = setup, state, progress, step
        self.evaluator, self._folder, self._log = evaluator, folder, log
        self._saver, self._view, self._stop, self._clock = saver, view, stop, clock
        self._first_step, self._first_second = progress.step, progress.train_seconds
        view.start_at(progress.step, progress.train_seconds)
        self._last_save = clock()
        self._rate = LateRate(progress.train_seconds, progress.rays)

    def run(self) -> str:
        """Trains to the end; returns why it ended: "steps", "seconds" or "interrupt".

        Raises:
          fault.FaultError: when a step was not finite; the state before it is saved.
        """
        pace = self._warm_up()
        if not self.progress.num_steps:
            self.progress.num_steps = self.setup.job.train.num_steps
            self._plan(pace)
        while self.progress.step < self.progress.num_steps:
            steps = evaluation_steps(self.setup.job.loop, self.progress.num_steps)
            point = next(step for step in steps if step > self.progress.step)
            while self.progress.step < point and not self._is_out_of_time():
                self._train_until(point)
                if self._stop.is_set:
                    if self.progress.step == point:
                        self.evaluate()  # going on begins after this point
                    self.save()
                    return "interrupt"
                if self._is_save_due() and self.progress.step < point:
                    self.save()
            # a checkpoint made here knows the new point of the curve
            self.evaluate()
            done = self.progress.step - self._first_step
            self._plan((self.progress.train_seconds - self._first_second) / max(done, 1))
            if self._is_save_due() or self._is_out_of_time():
                self.save()
            if self._is_out_of_time():
                break
        self.save()
        is_open = self.setup.job.loop.fill_seconds or self._is_out_of_time()
        return "seconds" if is_open else "steps"

    def evaluate(self) -> None:
        """Adds a point to the held-out curve and renews the preview picture, once for each step."""
        start, curve = self._clock(), self.progress.curve
        is_known = bool(curve) and curve[-1][0] == self.progress.step
        if self.evaluator is not None and not is_known:
            self._look(self.evaluator)
        self.progress.eval_seconds += self._clock() - start

    def save(self) -> None:
        """Starts writing a checkpoint."""
        self._saver.save(self.progress.step, devices.local(self.state), self.progress.as_json())
        self._last_save = self._clock()

    def _warm_up(self) -> float:
        """Does throw-away steps on a copy of the state; returns the seconds of one.

        A process's first steps also pay for its first touch of memory, which would be charged to
        whichever sampler is compared first.
        """
        start = self._clock()
        copy = jax.tree.map(jnp.copy, self.state)
        times = []
        for _ in range(_WARM_UP_CALLS):
            begun = self._clock()
            copy, _ = self._step(copy, self.setup.data, self.setup.run_key)
            jax.block_until_ready(copy)
            times.append(self._clock() - begun)
        self.progress.compile_seconds += self._clock() - start
        return min(times) / self.setup.job.train.steps_per_call

    def _plan(self, pace: float) -> None:
        """Chooses how many steps fit into the seconds left, where the job leaves it open.

        Args:
          pace: seconds per step so far.
        """
        loop, progress = self.setup.job.loop, self.progress
        if not loop.fill_seconds or loop.seconds is None:
            return
        if progress.step and progress.step >= progress.num_steps:
            return  # a run that was planned to end here ends
        left = max(loop.seconds - progress.train_seconds, 0.0) / max(pace, 1e-9)
        groups = round(left / loop.log_every)
        progress.num_steps = progress.step + max(groups, int(progress.step == 0)) * loop.log_every
        length = float(max(progress.num_steps, 1))
        self.state = self.state._replace(
            run_length=jnp.full_like(self.state.run_length, length),
            sampler=self.setup.sampler.plan(self.state.sampler, length),
        )

    def _train_until(self, stop: int) -> None:
        """Trains to `stop`, or until a checkpoint is due or the time is over."""
        loop, per_call = self.setup.job.loop, self.setup.job.train.steps_per_call
        start, seconds = self._clock(), self.progress.train_seconds
        due = self._last_save + loop.checkpoint_seconds
        limit = float("inf") if loop.seconds is None else loop.seconds - seconds
        sent, waiting = self.progress.step, None
        while sent < stop and not self._stop.is_set:
            now = self._clock()
            if sent > self.progress.step and (now >= due or now - start >= limit):
                break
            # groups end at multiples of log_every, whatever step the run was resumed at
            group_end = min(stop, (sent // loop.log_every + 1) * loop.log_every)
            group = []
            while sent < group_end:
                self.state, step_metrics = self._step(
                    self.state, self.setup.data, self.setup.run_key
                )
                group.append(step_metrics)
                sent += per_call
            if waiting is not None:
                self._receive(*waiting, start=start, seconds=seconds)
            waiting = (sent, group)
        if waiting is not None:
            self._receive(*waiting, start=start, seconds=seconds)

    def _receive(self, step: int, group: list, *, start: float, seconds: float) -> None:
        """Waits for a group's metrics, checks them and logs their means."""
        fetched = jax.device_get(group)
        # one row of numbers per field, whether a call made one step or several
        rows: Any = StepMetrics._make(
            np.concatenate([np.atleast_1d(values) for values in field])
            for field in zip(*fetched, strict=True)
        )
        if not rows.is_finite.all():
            bad = self.progress.step + int(np.argmin(rows.is_finite))
            jax.block_until_ready(self.state)
            if not processes.is_first():
                raise SystemExit(2)
            raise fault.save_fault(
                self._folder,
                devices.local(self.state),
                step=bad,
                values={
                    name: float(getattr(rows, name)[np.argmin(rows.is_finite)])
                    for name in ("loss", "gradient_norm")
                },
                advice=(
                    f"`hardlight replay {self._folder.path}` repeats the step and says where it "
                    "came from. The usual cause is too high a learning rate: try "
                    "--set optimizer.learning_rate=0.003"
                ),
            )
        progress = self.progress
        progress.step = step
        progress.rays += int(rows.kept_rays.sum())
        progress.samples += round(float(rows.fill.sum()) * self.setup.job.train.marching.budget)
        progress.train_seconds = seconds + self._clock() - start
        mse = float(np.mean(rows.mse, dtype=np.float64))
        values = {
            "seconds": progress.train_seconds,
            "rays_per_second": self._rate.add(progress.train_seconds, progress.rays),
            "psnr": -10.0 * np.log10(max(mse, 1e-10)),
            **{
                name: float(np.mean(getattr(rows, name), dtype=np.float64))
                for name in StepMetrics._fields
                if name != "is_finite"
            },
        }
        self._log.write(step, values)
        words = [f"{values['rays_per_second']:,.0f} rays/s", f"train {values['psnr']:.2f} dB"]
        if progress.curve:
            words.append(f"held-out {progress.curve[-1][2]:.2f} dB")
        self._view.update(step, train_seconds=progress.train_seconds, status="  ".join(words))

    def _look(self, evaluator: Evaluator) -> None:
        snapshot = images.snapshot(devices.local(self.state))
        psnr, held_by_worst = evaluator.quick(snapshot)
        progress = self.progress
        progress.curve.append([progress.step, round(progress.train_seconds, 3), round(psnr, 4)])
        values = {
            "psnr": psnr,
            "seconds": progress.train_seconds,
            WORST_HOLD: held_by_worst["0.01"],
        }
        self._log.write(progress.step, values, group="held_out")
        pictures.write_png(self._folder.images / "preview.png", evaluator.preview(snapshot))
        if len(progress.curve) == 1:
            self._view.say(f"first picture: {self._folder.images / 'preview.png'}")

    def _is_save_due(self) -> bool:
        return self._clock() - self._last_save >= self.setup.job.loop.checkpoint_seconds

    def _is_out_of_time(self) -> bool:
        limit = self.setup.job.loop.seconds
        return limit is not None and self.progress.train_seconds >= limit
