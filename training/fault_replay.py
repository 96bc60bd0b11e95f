"""Repeats a faulty step from its saved state and looks for the first bad numbers."""

from typing import Any, NamedTuple

import jax
import numpy as np

from . import checkpoints, fault, nerf_setup, run_folder
from .nerf_config import NerfJob
from .nerf_setup import CompiledStep


class Replay(NamedTuple):
    """What the repeated step told."""

    is_finite: bool
    lines: tuple[str, ...]


def replay(path: str, *, known: dict[Any, CompiledStep] | None = None) -> Replay:
    """Repeats the step that stopped the run in folder `path`.

    Args:
      known: compiled steps of runs on the same images, to use and to add to.
    Raises:
      FileNotFoundError: when the folder holds no run, or the run met no fault.
    """
    folder = run_folder.existing(path)
    if not checkpoints.steps(folder.fault):
        raise FileNotFoundError(f"{path}: this run met no fault; there is no {folder.fault}")
    setup = nerf_setup.prepare(run_folder.read_job(folder, NerfJob))
    restored = checkpoints.restore(folder.fault, nerf_setup.state_shapes(setup))
    lines = [f"step {restored.step}, saved with {restored.extra}"]
    lines += [
        f"before the step: {name} has {bad} of {size} values that are not finite"
        for name, bad, size in fault.not_finite(restored.state)
    ]
    step = nerf_setup.compiled_step(setup, known)
    _, every = step(restored.state, setup.data, setup.run_key)
    # with several steps per call all repeat the first, which changed nothing
    metrics = jax.tree.map(lambda values: np.asarray(values).reshape(-1)[0], every)
    is_finite = bool(metrics.is_finite)
    shown = ("loss", "mse", "gradient_norm", "step_scale", "fill", "kept_rays")
    lines += [f"the step again: {name} = {float(getattr(metrics, name)):.6g}" for name in shown]
    if is_finite:
        lines.append(
            "the step is finite now: the fault came from outside (another device, version)"
        )
    else:
        lines.append("the step is not finite again; its cause is in the state above or in its rays")
    return Replay(is_finite=is_finite, lines=tuple(lines))
