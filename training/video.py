"""Videos: MP4 through the ffmpeg that comes with imageio-ffmpeg, GIF where there is none."""

import contextlib
import itertools
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from scenes.formats.atomic import write_file


def has_ffmpeg() -> bool:
    """Says whether an ffmpeg can be run."""
    try:
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        return False
    return True


def write_video(
    path: Path, frames: Iterable[UInt8[np.ndarray, "rows cols 3"]], *, fps: float = 24.0
) -> Path:
    """Writes frames of equal size; returns the file, whose name ends in .mp4 or .gif.

    Args:
      path: where to, without regard to its suffix.
      frames: encoded as they come; MP4 keeps none of them, GIF all, with 128 colours each.
    Raises:
      ValueError: without frames.
      OSError: when the file cannot be written.
    """
    left = iter(frames)
    first = next(left, None)
    if first is None:
        raise ValueError("a video needs at least one frame")
    frames = itertools.chain([first], left)
    if has_ffmpeg():
        path = path.with_suffix(".mp4")
        write_file(path, lambda partial: _write_mp4(partial, frames, fps))
    else:
        path = path.with_suffix(".gif")
        write_file(path, lambda partial: _write_gif(partial, frames, fps))
    return path


def _write_mp4(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    import imageio_ffmpeg

    left = iter(frames)
    first = next(left)
    # the usual players need even sides
    rows, cols = (side - side % 2 for side in first.shape[:2])
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{cols}x{rows}", "-r", f"{fps:g}"]
    command += ["-i", "-", "-an", "-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p", str(path)]
    # imageio-ffmpeg's own writer forks with a hook, which a process with XLA's threads must not do
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=said) as encoder,
    ):
        assert encoder.stdin is not None
        try:
            for frame in itertools.chain([first], left):
                encoder.stdin.write(np.ascontiguousarray(frame[:rows, :cols]).data)
            encoder.stdin.close()
        except BrokenPipeError:  # it has ended, and says why
            with contextlib.suppress(BrokenPipeError):
                encoder.stdin.close()
        except BaseException:
            encoder.kill()
            raise
        if encoder.wait():
            said.seek(0)
            reason = said.read().decode(errors="replace").strip().splitlines() or ["?"]
            raise OSError(f"{path}: ffmpeg could not write the video: {reason[-1]}")


def _write_gif(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    pictures = [Image.fromarray(frame).quantize(128) for frame in frames]
    pictures[0].save(
        path,
        format="GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 / fps),
        loop=0,
    )
