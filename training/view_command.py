"""`hardlight view`: look around in a run from a web browser."""

import dataclasses
from typing import Annotated, ClassVar, Literal

import tyro

from . import runtime


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewCommand:
    """Opens a run, or a block map, in the browser: drag to look around.

    Radiance fields are rendered as you move; block worlds are shown as they are exported;
    a motion run is played beside its reference.

    Needs the viewer extra: pip install "hardlight[viewer]".
    """

    examples: ClassVar[str] = """
  hardlight view runs/blocks-uniform
  hardlight view map.json
  hardlight view runs/blocks-uniform --picture depth --cameras errors
  hardlight view runs/blocks-uniform --port 9000 --size 320"""

    run_folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run, or a map: map.json, .vox, .schem or .schematic."""
    port: int = 8080
    """Port of the local web server."""
    host: str = "127.0.0.1"
    """Address to serve on; 0.0.0.0 lets other machines in."""
    size: int = 256
    """Longer side of the pictures in pixels; while you move it is a quarter of this."""
    picture: Literal["color", "depth", "opacity"] = "color"
    """What of a radiance field is shown first; the page can change it."""
    cameras: Literal["none", "photographs", "errors", "draws"] = "none"
    """Training cameras of a radiance field, with what they saw, where it is wrong, or where the
    sampler looks; the page can change it."""

    def run(self) -> int:
        """Serves until interrupted."""
        if self.size < 16:
            raise ValueError(f"--size must be at least 16, got {self.size}")
        try:
            import viser
        except ImportError as error:
            raise ValueError(
                'the viewer needs the package viser: pip install "hardlight[viewer]"'
            ) from error
        del viser
        runtime.prepare()
        from . import motion_viewer, viewer, voxels_viewer

        if motion_viewer.is_motion(self.run_folder):
            motion_viewer.serve(self.run_folder, host=self.host, port=self.port)
            return 0
        if voxels_viewer.is_voxels(self.run_folder):
            voxels_viewer.serve(self.run_folder, host=self.host, port=self.port)
            return 0
        viewer.serve(
            self.run_folder,
            host=self.host,
            port=self.port,
            size=self.size,
            picture=self.picture,
            cameras=self.cameras,
        )
        return 0
