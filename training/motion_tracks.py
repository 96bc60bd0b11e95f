"""tracks.npz: where a policy went beside its reference, for players that need no training."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from scenes.formats.array_files import read_npz, write_npz

from .run_folder import RunFolder

NAME = "tracks.npz"
_AXES = {"policy": 2, "reference": 2, "is_alive": 1, "fps": 0}


class Tracks(NamedTuple):
    """The clips of a run in a row, each played once from its first frame.

    Attributes:
      policy: positions of the robot; after a failure the last ones stay.
      reference: positions it should have.
      is_alive: it has not failed yet.
      fps: frames per second.
    """

    policy: Float[np.ndarray, "frames nq"]
    reference: Float[np.ndarray, "frames nq"]
    is_alive: Bool[np.ndarray, " frames"]
    fps: float


def save(folder: RunFolder, tracks: Tracks) -> None:
    """Writes the file in one step."""
    arrays = {name: np.asarray(value) for name, value in tracks._asdict().items()}
    write_npz(folder.path / NAME, arrays)


def load(folder: RunFolder) -> Tracks:
    """Reads the file.

    Raises:
      FileNotFoundError: when the run has not been finished.
      ValueError: naming the file and the array, when it is damaged.
    """
    path = folder.path / NAME
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; only a finished motion run can be played")
    arrays = read_npz(path)
    for name in Tracks._fields:
        _check(path, arrays, name)
    tracks = Tracks(
        arrays["policy"].astype(float),
        arrays["reference"].astype(float),
        arrays["is_alive"],
        float(arrays["fps"]),
    )
    if not len(tracks.policy) == len(tracks.reference) == len(tracks.is_alive) > 0:
        raise ValueError(f"{path}: policy, reference and is_alive must have equally many frames")
    if tracks.policy.shape != tracks.reference.shape:
        raise ValueError(f"{path}: policy and reference must be of one robot")
    if not 0 < tracks.fps < np.inf:
        raise ValueError(f"{path}: fps must be positive, got {tracks.fps}")
    return tracks


def _check(path: Path, arrays: dict[str, np.ndarray], name: str) -> None:
    """Refuses an array that is missing, or of another type or number of axes."""
    if name not in arrays:
        raise ValueError(f"{path}: array {name} is missing")
    array, wanted = arrays[name], "truth values" if name == "is_alive" else "numbers"
    if array.dtype.kind not in ("b" if name == "is_alive" else "fi") or array.ndim != _AXES[name]:
        raise ValueError(
            f"{path}: array {name} must be {wanted} with {_AXES[name]} axes, "
            f"got {array.dtype}{list(array.shape)}"
        )
