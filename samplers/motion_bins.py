"""Motion clips cut into bins: which bin a frame lies in, and which frames lie in a bin.

Bins are numbered clip after clip. A clip of T frames with S bins puts frame t into bin
floor(t S / T), so bins differ by at most one frame in length.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

RULES = ("ceil", "floor_plus_one")


class MotionTime(NamedTuple):
    """A moment of a set of clips; frames count from 0 within the clip."""

    clip: Int[Array, " n"]
    frame: Int[Array, " n"]


class BinLayout(NamedTuple):
    """Where every bin lies.

    Attributes:
      clip: clip of each bin.
      first_frame: its first frame.
      num_frames: its length.
      last_bin: the last bin of its clip.
      first_bin_of: per clip its first bin.
      num_bins_of: per clip its number of bins.
      frames_of: per clip its length in frames.
    """

    clip: Int[Array, " bins"]
    first_frame: Int[Array, " bins"]
    num_frames: Int[Array, " bins"]
    last_bin: Int[Array, " bins"]
    first_bin_of: Int[Array, " clips"]
    num_bins_of: Int[Array, " clips"]
    frames_of: Int[Array, " clips"]


def count_bins(num_frames: int, frames_per_bin: float, rule: str = "ceil") -> int:
    """Counts the bins of a clip.

    Args:
      rule: "ceil" gives ceil(T / frames_per_bin); "floor_plus_one" floor(T / frames_per_bin) + 1,
        as the published BeyondMimic program does. Never more than T.
    Raises:
      ValueError: for another rule, or a clip without frames.

    Examples:
      >>> [count_bins(frames, 50.0, "floor_plus_one") for frames in (49, 50, 500)]
      [1, 2, 11]
    """
    if rule not in RULES:
        raise ValueError(f"bin rule must be one of {RULES}, got {rule!r}")
    if num_frames < 1 or not frames_per_bin > 0:
        raise ValueError(f"needs frames and a bin length, got {num_frames} and {frames_per_bin}")
    ratio = num_frames / frames_per_bin
    nearest = round(ratio)
    if abs(ratio - nearest) < 1e-9:
        ratio = nearest
    count = math.floor(ratio) + 1 if rule == "floor_plus_one" else math.ceil(ratio)
    return min(count, num_frames)


def cut_into_bins(
    clip_frames: Sequence[int], frames_per_bin: float, rule: str = "ceil"
) -> BinLayout:
    """Cuts clips of given lengths into bins.

    Raises:
      ValueError: without clips, see also `count_bins`.
    """
    if not clip_frames:
        raise ValueError("needs at least one clip, got none")
    counts = np.array([count_bins(t, frames_per_bin, rule) for t in clip_frames])
    frames = np.asarray(clip_frames)
    if np.max(frames.astype(np.float64) * counts) >= 2**31:
        raise ValueError(f"clip too long for 32-bit bin arithmetic: {int(frames.max())} frames")
    first_bin = np.concatenate([[0], np.cumsum(counts)[:-1]])
    clip = np.repeat(np.arange(counts.size), counts)
    place = np.arange(counts.sum()) - first_bin[clip]
    start = -(-place * frames[clip] // counts[clip])
    stop = -(-(place + 1) * frames[clip] // counts[clip])
    parts = (
        clip,
        start,
        stop - start,
        first_bin[clip] + counts[clip] - 1,
        first_bin,
        counts,
        frames,
    )
    return BinLayout(*(jnp.asarray(part, jnp.int32) for part in parts))


def bin_of(layout: BinLayout, time: MotionTime) -> Int[Array, " n"]:
    """Gives the bin each moment lies in; times outside their clip count as its ends."""
    clip = jnp.clip(time.clip, 0, layout.frames_of.shape[0] - 1)
    frames, count = layout.frames_of[clip], layout.num_bins_of[clip]
    frame = jnp.clip(time.frame, 0, frames - 1)
    return layout.first_bin_of[clip] + frame * count // frames
