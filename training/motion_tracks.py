"""tracks.npz: where a policy went beside its reference, for players that need no training."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from .run_folder import RunFolder, write_file

NAME = "tracks.npz"


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

    def fill(path) -> None:
        with path.open("wb") as file:
            np.savez_compressed(file, **tracks._asdict())

    write_file(folder.path / NAME, fill)


def load(folder: RunFolder) -> Tracks:
    """Reads the file.

    Raises:
      FileNotFoundError: when the run has not been finished.
    """
    path = folder.path / NAME
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; only a finished motion run can be played")
    with np.load(path, allow_pickle=False) as file:
        return Tracks(
            file["policy"].astype(float),
            file["reference"].astype(float),
            file["is_alive"].astype(bool),
            float(file["fps"]),
        )
