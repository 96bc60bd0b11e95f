"""Videos: MP4 through the ffmpeg that comes with imageio-ffmpeg, GIF where there is none."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from .run_folder import write_file


def has_ffmpeg() -> bool:
    """Says whether an ffmpeg can be run."""
    try:
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        return False
    return True


def write_video(
    path: Path, frames: Sequence[UInt8[np.ndarray, "rows cols 3"]], *, fps: float = 24.0
) -> Path:
    """Writes frames of equal size; returns the file, whose name ends in .mp4 or .gif.

    Args:
      path: where to, without regard to its suffix.
    """
    if not frames:
        raise ValueError("a video needs at least one frame")
    if has_ffmpeg():
        path = path.with_suffix(".mp4")
        write_file(path, lambda partial: _write_mp4(partial, frames, fps))
    else:
        path = path.with_suffix(".gif")
        write_file(path, lambda partial: _write_gif(partial, frames, fps))
    return path


def _write_mp4(path: Path, frames: Sequence[np.ndarray], fps: float) -> None:
    import imageio_ffmpeg

    # the usual players need even sides
    rows, cols = (side - side % 2 for side in frames[0].shape[:2])
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{cols}x{rows}", "-r", f"{fps:g}"]
    command += ["-i", "-", "-an", "-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p", str(path)]
    raw = b"".join(np.ascontiguousarray(frame[:rows, :cols]).tobytes() for frame in frames)
    # imageio-ffmpeg's own writer forks with a hook, which a process with XLA's threads must not do
    done = subprocess.run(command, input=raw, capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        raise OSError(f"{path}: ffmpeg could not write the video: {reason[-1] if reason else '?'}")


def _write_gif(path: Path, frames: Sequence[np.ndarray], fps: float) -> None:
    pictures = [Image.fromarray(frame).quantize(128) for frame in frames]
    pictures[0].save(
        path,
        format="GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 / fps),
        loop=0,
    )
