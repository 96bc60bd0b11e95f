"""`hardlight export`: writes what a run learned in a form other programs read."""

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import tyro

from . import runtime
from .flag_types import OptionalStr

if TYPE_CHECKING:
    from .run_folder import RunFolder


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportCommand:
    """Writes the geometry of a radiance field as PLY, the map of a block-world run in the format
    of --out, or the policy of a motion run as ONNX.

    A mesh is cut out of the scene's box where the field is half opaque (needs the extra mesh);
    points are what the training views see. Both are in the coordinates of the scene's own files.
    Schematics and meshes of block worlds need the extra formats. The policy has its observation's
    normalisation inside (needs the extra onnx); with onnxruntime installed the file is also run
    and compared.
    """

    examples: ClassVar[str] = """
  hardlight export runs/lego-error_map
  hardlight export runs/fox-uniform --what points --out fox.ply
  hardlight export runs/motion-humanoid-failure_bins
  hardlight export runs/motion-g1-failure_bins --out policy.onnx
  hardlight export runs/voxels-target --out world.schem"""

    run_folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    what: Literal["mesh", "points", "policy", "clips"] | None = None
    """Of a radiance field a mesh by marching cubes (default), or a cloud of points; of a motion run
    the policy (default), or its clips as npz files with names, velocities and bodies; where actions
    are added to feedforward targets, at the control rate and with these (joint_target)."""
    resolution: int = 256
    """Cells along the longest side of the mesh's box, or pixels along that of the views."""
    out: OptionalStr = None
    """File to write; of a block world .json, .vox, .schem, .schematic, .glb, .gltf, .ply
    or .obj. Default: mesh.ply, points.ply, world.glb, policy.onnx or a folder clips in the
    folder of the run."""

    def run(self) -> int:
        """Exports the newest whole checkpoint."""
        if self.resolution < 8:
            raise ValueError(f"--resolution must be at least 8, got {self.resolution}")
        runtime.prepare(is_guest=True)
        from . import run_folder

        folder = run_folder.existing(self.run_folder)
        kind = run_folder.job_of(run_folder.read_json(folder.config))
        if kind == "nerf":
            from . import nerf_export

            what = self.what or "mesh"
            if what not in ("mesh", "points"):
                raise ValueError(f"a radiance field has no {what}; --what mesh or points")
            out = None if self.out is None else Path(self.out)
            path = nerf_export.export(self.run_folder, what, resolution=self.resolution, out=out)
            print(f"written: {path}")
            return 0
        if kind == "voxels" and self.what is None:
            return self._export_map(folder)
        if kind == "motion" and self.what == "clips":
            return self._export_clips(folder)
        if kind != "motion" or self.what not in (None, "policy"):
            raise ValueError(f"{folder.path}: a run of kind {kind} has no {self.what} to export")
        return self._export_policy(folder)

    def _export_map(self, folder: "RunFolder") -> int:
        from voxels.formats.any_map import check_writable, save_any_map

        from . import voxels_setup

        path = Path(self.out) if self.out else folder.path / "world.glb"
        check_writable(path)
        block_map, palette = voxels_setup.exported_map(folder)
        save_any_map(path, block_map, palette)
        print(f"written: {path} ({block_map.num_blocks:,} blocks)")
        return 0

    def _export_clips(self, folder: "RunFolder") -> int:
        from motion import inverse_dynamics
        from motion.clips import at_rate
        from motion.formats.npz_clip import save_npz

        from . import motion_setup, run_folder
        from .motion_config import MotionJob

        job = run_folder.read_job(folder, MotionJob)
        loaded = motion_setup.load(job.source)
        robot, targets = loaded.robot, None
        target = Path(self.out) if self.out else folder.path / "clips"
        held_out = () if loaded.held_out is None else loaded.held_out.clips
        taken: set[str] = set()
        for clip in (*loaded.clips, *held_out):
            path = target / f"{file_name(clip.name, taken)}.npz"
            if job.env.action_centre == "feedforward":  # actions are added to these
                targets = inverse_dynamics.joint_targets(robot, clip)
                clip = at_rate(clip, robot.control_rate)
            save_npz(path, robot, clip, joint_target=targets)
            print(f"written: {path} ({clip.seconds:.2f} s)")
        return 0

    def _export_policy(self, folder: "RunFolder") -> int:
        from . import checkpoints, motion_onnx, motion_setup, run_folder
        from .motion_config import MotionJob

        job = run_folder.read_job(folder, MotionJob)
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


def file_name(clip: str, taken: set[str]) -> str:
    """A name any file system takes, and no other clip's; adds it to those taken."""
    plain = re.sub(r"[^-.+=@ a-zA-Z0-9_]+", "-", clip)
    name, number = plain, 1
    while name.lower() in taken:
        number += 1
        name = f"{plain}-{number}"
    taken.add(name.lower())
    return name
