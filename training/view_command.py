"""`hardlight view`: look around in a run from a web browser."""

import contextlib
import dataclasses
from typing import Annotated, ClassVar, Literal

import tyro

from . import runtime
from .flag_types import OptionalInt

PictureName = Literal["color", "depth", "opacity"]
"""What of a radiance field a visitor may see."""
CameraMode = Literal["none", "photographs", "errors", "draws"]
"""What a radiance field's training cameras may show."""


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
    size: OptionalInt = None
    """Longer side of a radiance field's pictures in pixels; while you move it is a quarter of this.
    Default 256."""
    picture: Annotated[
        PictureName | None,
        tyro.conf.arg(metavar="{color,depth,opacity}", help_behavior_hint=""),
    ] = None
    """What of a radiance field is shown first; the page can change it. Default color."""
    cameras: Annotated[
        CameraMode | None,
        tyro.conf.arg(metavar="{none,photographs,errors,draws}", help_behavior_hint=""),
    ] = None
    """Training cameras of a radiance field, with what they saw, where it is wrong, or where the
    sampler looks; the page can change it. Default none."""

    def run(self) -> int:
        """Serves until interrupted, which is how a visit ends."""
        if self.size is not None and self.size < 16:
            raise ValueError(f"--size must be at least 16, got {self.size}")
        try:
            import viser
        except ImportError as error:
            raise ValueError(
                'the viewer needs the package viser: pip install "hardlight[viewer]"'
            ) from error
        del viser
        runtime.prepare(is_guest=True)
        with contextlib.suppress(KeyboardInterrupt):
            self._serve()
        return 0

    def _serve(self) -> None:
        from . import motion_viewer, viewer, voxels_viewer

        if motion_viewer.is_motion(self.run_folder):
            self._refuse_flags_of_fields("a motion run")
            motion_viewer.serve(self.run_folder, host=self.host, port=self.port)
        elif voxels_viewer.is_voxels(self.run_folder):
            self._refuse_flags_of_fields("a block world")
            voxels_viewer.serve(self.run_folder, host=self.host, port=self.port)
        else:
            viewer.serve(
                self.run_folder,
                host=self.host,
                port=self.port,
                size=256 if self.size is None else self.size,
                picture=self.picture or "color",
                cameras=self.cameras or "none",
            )

    def _refuse_flags_of_fields(self, shown: str) -> None:
        flags = {"--size": self.size, "--picture": self.picture, "--cameras": self.cameras}
        asked = ", ".join(flag for flag, value in flags.items() if value is not None)
        if asked:
            raise ValueError(f"{self.run_folder} is {shown}; only radiance fields have {asked}")
