"""Clips from files of any known format, fitted to a robot and put onto the floor."""

import dataclasses
import os
from pathlib import Path
from typing import NamedTuple

from motion.clips import Clip, fit_to_robot
from motion.foot_height import STAIRS, level_floor, put_on_floor
from motion.quaternion_order import Order
from motion.robots import Robot

from .csv_clip import load_csv
from .deepmimic import load_deepmimic
from .npz_clip import JointOrder, load_npz

SUFFIXES = (".csv", ".npz", ".txt")
_OF_DEEPMIMIC = "humanoid"
_WORTH_SAYING = 0.02
"""Metres of foot below the floor."""
_PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What a file may not say about itself.

    Attributes:
      quaternion_order: of a CSV; None detects it.
      joint_order: of a BeyondMimic npz without names.
      fps: overrules the file.
      is_put_on_floor: correct the height of the feet, by one number.
      is_levelled: before that, take out a floor that rises and sinks by 4 to 15 cm.
    """

    quaternion_order: Order | None = None
    joint_order: JointOrder | None = None
    fps: float | None = None
    is_put_on_floor: bool = True
    is_levelled: bool = dataclasses.field(default=True, metadata={"before": False})

    def __post_init__(self) -> None:
        if self.fps is not None and not 1 <= self.fps <= 1000:
            raise ValueError(f"fps must be in [1, 1000], got {self.fps}")


class Loaded(NamedTuple):
    """A clip fitted to a robot, and sentences about what was changed on the way."""

    clip: Clip
    notes: tuple[str, ...]


def load_clip(
    path: str | os.PathLike[str], robot: Robot, options: ReadOptions | None = None
) -> Loaded:
    """Reads a clip of any known format for a robot.

    Raises:
      FileNotFoundError: when there is no such file.
      ValueError: naming the file and what is wrong with it: an unknown format, another robot's
        joints, a wrong quaternion order, NaN, joint limits, a pickle.
    """
    options = options or ReadOptions()
    path = Path(path)
    clip = read_clip(path, robot, options)
    try:
        fitted, notes = fit_to_robot(robot, clip, may_fill=True)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if options.is_levelled:
        fitted, drift, is_level = level_floor(robot, fitted)
        if is_level or drift > STAIRS:
            done = "made level" if is_level else "left as it is"
            notes += (f"{fitted.name}: its floor rises and sinks by {1000 * drift:.0f} mm, {done}",)
    if options.is_put_on_floor:
        fitted, raised, below = put_on_floor(robot, fitted)
        if raised:
            moved = f"{'raised' if raised > 0 else 'lowered'} by {1000 * abs(raised):.0f} mm"
            notes += (f"{fitted.name}: {moved} to stand on the floor",)
        if below > _WORTH_SAYING:
            notes += (
                f"{fitted.name}: feet are up to {1000 * below:.0f} mm below the floor in some "
                "frames, which no one height mends",
            )
    return Loaded(fitted, notes)


def read_clip(path: Path, robot: Robot, options: ReadOptions) -> Clip:
    """Reads a clip as the file has it.

    Raises:
      FileNotFoundError, ValueError: see `load_clip`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such clip")
    if path.suffix.lower() in _PICKLES:
        raise ValueError(
            f"{path}: a pickle, which can run code when read; refused. Save its arrays with "
            "numpy.savez as fps, root_pos, root_rot_xyzw and dof"
        )
    kind = path.suffix.lower()
    if kind == ".csv":
        return load_csv(path, robot.joint_names, order=options.quaternion_order, fps=options.fps)
    if kind == ".npz":
        return load_npz(
            path,
            robot.joint_names,
            joint_order=options.joint_order,
            fps=options.fps,
            root=robot.tracked_bodies[0],
        )
    if kind == ".txt":
        if robot.name != _OF_DEEPMIMIC:
            raise ValueError(
                f"{path}: DeepMimic motions are brought onto the built-in humanoid; joints of "
                f"{robot.name} have other zeros"
            )
        clip = load_deepmimic(path)
        return clip if options.fps is None else clip._replace(fps=options.fps)
    raise ValueError(f"{path}: unknown kind of clip; known endings: {', '.join(SUFFIXES)}")
