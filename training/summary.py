"""summary.json: what a run was, what it cost and what came out."""

from typing import Any

from . import nerf_config, processes, runtime
from .nerf_evaluation import Evaluator
from .nerf_loop import WORST_HOLD, Loop


def of_nerf_run(
    loop: Loop,
    evaluator: Evaluator,
    *,
    ended_by: str,
    first_look: dict[str, Any],
    final: dict[str, Any],
    draws: dict[str, float],
) -> dict[str, Any]:
    """Collects the numbers of a finished radiance-field run.

    Args:
      first_look: the log's first row of held-out values; empty where there is none.
    """
    import jax

    job, progress = loop.setup.job, loop.progress
    seconds = max(progress.train_seconds, 1e-9)
    return {
        "job": job.job,
        **nerf_config.describe(job),
        "steps": progress.step,
        "planned_steps": loop.progress.num_steps,
        "ended_by": ended_by,
        "train_seconds": round(progress.train_seconds, 3),
        "compile_seconds": round(progress.compile_seconds, 3),
        "eval_seconds": round(progress.eval_seconds, 3),
        "rays_per_second": round(progress.rays / seconds, 1),
        "samples_per_second": round(progress.samples / seconds, 1),
        "num_parameters": sum(leaf.size for leaf in jax.tree.leaves(loop.state.params)),
        "peak_memory_bytes": runtime.peak_memory(),
        "device": runtime.device_name(),
        "num_devices": 1 if loop.setup.mesh is None else loop.setup.mesh.size,
        "num_processes": processes.count(),
        "versions": runtime.versions(),
        "first_look": {
            name: first_look[name] for name in ("step", "psnr", WORST_HOLD) if name in first_look
        },
        "final": final,
        "draws": draws,
        "curve": progress.curve,
        "curve_metric": f"held-out PSNR in dB on every {evaluator.stride}-th row and column",
    }
