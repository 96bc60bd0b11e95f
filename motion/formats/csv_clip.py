"""Motions as bare CSV: per row a root position, a root quaternion and the joints.

Two dialects look alike: Unitree's LAFAN1 files write quaternions x y z w, files made for MuJoCo w x
y z. The order is declared or detected, and a declared order that cannot be right is refused. The
frame rate is not in the file; both dialects use 30.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from motion import quaternion_order
from motion.clips import LARGEST, Clip, check_clip
from motion.quaternion_order import Order

FPS = 30.0
_ROOT = 7


def load_csv(
    path: Path,
    joint_names: Sequence[str],
    *,
    order: Order | None = None,
    fps: float | None = None,
) -> Clip:
    """Reads a CSV of root and joints.

    Args:
      joint_names: what the columns after the seventh are.
      order: of the quaternion; None detects it.
      fps: frames per second; None: 30.
    Raises:
      ValueError: naming file and row, for another number of columns, words, NaN, quaternions that
        are not unit, or an order that cannot be right or told.
    """
    table = _read(path, _ROOT + len(joint_names))
    columns = table[:, 3:7]
    length = np.linalg.norm(columns, axis=1)
    worst = int(np.argmax(np.abs(length - 1)))
    if abs(length[worst] - 1) > 0.01:
        raise ValueError(
            f"{path}: row {worst + 1}: columns 4 to 7 are no unit quaternion, "
            f"their length is {length[worst]:.4f}"
        )
    if order is None:
        order = quaternion_order.detect(columns)
        if order is None:
            raise ValueError(f"{path}: cannot tell the order of the quaternion; say wxyz or xyzw")
    quaternion_order.check(columns, order, str(path))
    clip = Clip(
        name=path.stem,
        fps=FPS if fps is None else fps,
        joint_names=tuple(joint_names),
        root_position=table[:, :3],
        root_quaternion=quaternion_order.reorder(columns, order),
        joint_position=table[:, 7:],
    )
    check_clip(clip, str(path))
    return clip


def _read(path: Path, width: int) -> np.ndarray:
    rows: list[list[float]] = []
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            words = [word for word in line.replace(",", " ").split() if word]
            if not words:
                continue
            try:
                values = [float(word) for word in words]
            except ValueError:
                if number == 1 and not any(_is_number(word) for word in words):
                    continue  # a header
                raise ValueError(
                    f"{path}: row {number} holds something that is no number"
                ) from None
            if len(values) != width:
                raise ValueError(
                    f"{path}: row {number} has {len(values)} columns, needed {width}: seven of the "
                    f"root and {width - _ROOT} joints; is it a clip of another robot?"
                )
            if not all(math.isfinite(value) for value in values):
                raise ValueError(f"{path}: row {number} holds a number that is not finite")
            if max(map(abs, values)) > LARGEST:
                raise ValueError(f"{path}: row {number} holds a number above {LARGEST:g}")
            rows.append(values)
    if not rows:
        raise ValueError(f"{path}: holds no frames")
    return np.array(rows)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
