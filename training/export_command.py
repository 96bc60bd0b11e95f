"""`hardlight export`: writes what a run learned in a form other programs read."""

import dataclasses
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from . import runtime
from .nerf_command import OptionalStr


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportCommand:
    """Writes the policy of a motion run as ONNX, with its observation's normalisation inside.

    Needs the extra onnx; with onnxruntime installed the file is also run and compared.
    """

    examples: ClassVar[str] = """
  hardlight export runs/motion-humanoid-failure_bins
  hardlight export runs/motion-g1-failure_bins --out policy.onnx"""

    run_folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    out: OptionalStr = None
    """File to write. Default: policy.onnx in the run's folder."""

    def run(self) -> int:
        """Exports the newest whole checkpoint."""
        runtime.prepare()
        from . import checkpoints, motion_job, motion_onnx, motion_setup, run_folder

        folder = run_folder.existing(self.run_folder)
        kind = run_folder.read_json(folder.config).get("config", {}).get("job")
        if kind != "motion":
            raise ValueError(f"{folder.path}: only motion runs have a policy to export, got {kind}")
        job = motion_job.read_job(folder)
        setup = motion_setup.prepare(job)
        restored = checkpoints.restore(folder.checkpoints, motion_setup.first_state(setup))
        for warning in restored.warnings:
            print(f"warning: {warning}; exporting iteration {restored.step}")
        path = Path(self.out) if self.out else folder.path / "policy.onnx"
        found = motion_onnx.export(
            path, restored.state.learner, job.train.ppo, job.env, setup.loaded.robot
        )
        gap = found["largest_difference"]
        checked = "not run, for want of onnxruntime" if gap is None else f"within {gap:.1e} of ours"
        print(f"written: {path} (iteration {restored.step}; {checked})")
        return 0
