"""`hardlight render`: pictures and videos from a run's newest checkpoint."""

import dataclasses
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from . import runtime
from .flag_types import OptionalFloat

FRAME_RATES = (0.01, 1000.0)
"""Frames per second of a video, the fewest and the most."""

OptionalNumber = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
OptionalText = Annotated[str | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RenderCommand:
    """Renders a run's held-out views, an orbit around its scene, or a camera path."""

    examples: ClassVar[str] = """
  hardlight render runs/blocks-uniform
  hardlight render runs/blocks-uniform --what orbit --size 400 --frames 120
  hardlight render runs/blocks-uniform --what orbit --shows depth
  hardlight render runs/blocks-uniform --what path --path cameras.json"""

    run_folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    what: Literal["views", "orbit", "path"] = "orbit"
    """views: every held-out view; orbit: a video around the scene; path: cameras from --path."""
    shows: Literal["color", "depth"] = "color"
    """What the pictures show; depth has one scale for all of them."""
    path: OptionalText = None
    """JSON file with {"frames": [{"transform_matrix": 4x4 camera to world, OpenGL axes}, ...]}, or
    a camera path of nerfstudio's ({"camera_path": [...], ...}), in the coordinates of the scene's
    own files, as those of exports are."""
    size: OptionalNumber = None
    """Longer side of the pictures in pixels. Default: that of the training images, or what
    nerfstudio's path asks for."""
    frames: int = 60
    """Frames of the orbit."""
    fps: OptionalFloat = None
    """Frames per second of a video. Default: what the camera path asks for, else 24."""
    out: OptionalText = None
    """Folder for the results. Default: RUN/images."""

    def run(self) -> int:
        """Renders and says where the results are."""
        if (self.what == "path") != (self.path is not None):
            raise ValueError("--what path and --path FILE belong together")
        if self.frames < 1 or (self.size is not None and self.size < 1):
            raise ValueError(
                f"--frames and --size must be at least 1, got {self.frames}, {self.size}"
            )
        if self.fps is not None and self.what == "views":
            raise ValueError("--fps is of videos, and --what views writes pictures")
        slowest, fastest = FRAME_RATES
        if self.fps is not None and not slowest <= self.fps <= fastest:
            raise ValueError(f"--fps must be in [{slowest:g}, {fastest:g}], got {self.fps:g}")
        runtime.prepare(is_guest=True)
        from . import run_rendering

        for path in run_rendering.render(
            self.run_folder,
            self.what,
            shows=self.shows,
            path=None if self.path is None else Path(self.path),
            size=self.size,
            num_frames=self.frames,
            fps=self.fps,
            out=None if self.out is None else Path(self.out),
        ):
            print(path)
        return 0
