"""Renders cameras of any kind from a loaded run and writes pictures or a video."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from rich.progress import track

from nerf import images
from scenes.cameras import scale_pixels
from scenes.posed_images import PosedImages

from . import camera_paths, loaded_run, pictures, run_folder, video
from .camera_paths import CameraPath
from .loaded_run import LoadedRun
from .nerf_setup import bounds


def render(
    run: str,
    what: Literal["views", "orbit", "path"],
    *,
    shows: Literal["color", "depth"] = "color",
    path: Path | None = None,
    size: int | None = None,
    num_frames: int = 60,
    fps: float | None = None,
    out: Path | None = None,
) -> Iterator[Path]:
    """Renders and writes; yields each file written.

    Args:
      size: longer side of the pictures; None takes that of the images, or of the camera path.
      fps: of a video; None takes the camera path's, else 24.
    Raises:
      FileNotFoundError, ValueError, OSError: when the run, the camera path or the output folder
        is not usable; before anything is rendered.
    """
    folder = run_folder.existing(run)
    out = folder.images if out is None else out
    run_folder.check_writable(out)
    loaded = loaded_run.load(run)
    scene = loaded.setup.scene
    posed = scene.test if what == "views" else scene.train
    if what == "path":
        assert path is not None
        taken = camera_paths.read_path(path, posed, np.asarray(scene.world_from_scene))
    else:
        is_orbit = what == "orbit"
        cameras = camera_paths.orbit(posed, num_frames=num_frames) if is_orbit else posed.cameras
        taken = CameraPath(cameras, posed.rows, posed.cols)
    if taken.is_nerfstudio:
        print(
            f"note: {path} is taken in the coordinates of the scene's own files; nerfstudio's "
            "viewer writes its own, see docs/nerf.md"
        )
    frames = _frames(loaded, taken, posed, size, shows)
    total = len(np.asarray(taken.cameras.focal))
    frames = track(frames, total=total, description=f"rendering {total} pictures", transient=True)
    suffix = "" if shows == "color" else f"-{shows}"
    if what == "views":
        for name, frame in zip(posed.names, frames, strict=True):
            file = out / f"view-{name.replace('/', '-')}{suffix}.png"
            pictures.write_png(file, frame)
            yield file
    else:
        yield video.write_video(out / f"{what}{suffix}", frames, fps=fps or taken.fps or 24.0)


def _frames(
    loaded: LoadedRun,
    taken: CameraPath,
    posed: PosedImages,
    size: int | None,
    shows: Literal["color", "depth"],
) -> Iterator[UInt8[np.ndarray, "rows cols 3"]]:
    rows, cols = fitted_size(taken.rows, taken.cols, size)
    cameras = scale_pixels(taken.cameras, np.array([cols / taken.cols, rows / taken.rows]))
    views = images.render_views(
        loaded.evaluator.render,
        loaded.snapshot,
        bounds(posed),
        cameras,
        rows,
        cols,
        loaded.setup.background,
    )
    if shows == "depth":
        yield from _depth_frames([(view.depth, view.opacity) for view in views])
        return
    for view in views:
        yield pictures.to_uint8(view.color)


def _depth_frames(
    views: list[tuple[Float[np.ndarray, "rows cols"], Float[np.ndarray, "rows cols"]]],
) -> Iterator[UInt8[np.ndarray, "rows cols 3"]]:
    """Pictures of depth with one scale for all, so that a video does not flicker."""
    seen = np.concatenate([depth[opacity > 0.5] for depth, opacity in views])
    low, high = np.percentile(seen, (1.0, 99.0)) if seen.size else (0.0, 1.0)
    for depth, opacity in views:
        yield pictures.depth_picture(depth, opacity, low=float(low), high=float(high))


def fitted_size(rows: int, cols: int, longest: int | None) -> tuple[int, int]:
    """Scales a picture's sides so that the longer one is `longest`."""
    if longest is None:
        return rows, cols
    scale = longest / max(rows, cols)
    return max(1, round(rows * scale)), max(1, round(cols * scale))
