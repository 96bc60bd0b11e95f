"""A finished or stopped run, loaded for looking: its scene, its field, its renderer."""

from typing import Any, NamedTuple

from nerf import images
from nerf.images import FieldSnapshot

from . import checkpoints, nerf_setup, run_folder
from .nerf_config import NerfJob
from .nerf_evaluation import Evaluator
from .nerf_setup import Setup
from .run_folder import RunFolder


class LoadedRun(NamedTuple):
    """What `render` and `view` need."""

    folder: RunFolder
    setup: Setup
    evaluator: Evaluator
    snapshot: FieldSnapshot
    step: int
    sampler_state: Any


def load(path: str) -> LoadedRun:
    """Loads a run's newest whole checkpoint.

    Raises:
      FileNotFoundError, ValueError: when there is no run, no checkpoint, or the data is gone.
    """
    folder = run_folder.existing(path)
    job = run_folder.read_job(folder, NerfJob)
    setup = nerf_setup.prepare(job)
    restored = checkpoints.restore(folder.checkpoints, nerf_setup.state_shapes(setup))
    for warning in restored.warnings:
        print(f"warning: {warning}; showing step {restored.step}")
    return LoadedRun(
        folder,
        setup,
        Evaluator(setup),
        images.snapshot(restored.state),
        restored.step,
        restored.state.sampler,
    )


def newer(run: LoadedRun) -> LoadedRun | None:
    """Loads the checkpoint a run that is still training has written since; None if there is none.

    A checkpoint that is being written or removed at this moment counts as none.
    """
    found = checkpoints.steps(run.folder.checkpoints)
    if not found or found[0] <= run.step:
        return None
    try:
        template = nerf_setup.state_shapes(run.setup)
        restored = checkpoints.restore(run.folder.checkpoints, template)
    except (OSError, ValueError):
        return None
    return run._replace(
        snapshot=images.snapshot(restored.state),
        step=restored.step,
        sampler_state=restored.state.sampler,
    )
