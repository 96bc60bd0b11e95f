"""Pictures of a robot: stick figures of any body tree, drawn without a graphics driver."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled names have no stubs)

from collections.abc import Sequence

import mujoco
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from motion.robots import Robot

BLUE, GREY, RED = (11, 104, 203), (150, 154, 162), (229, 72, 77)
_PAPER, _FLOOR = (252, 252, 253), (224, 225, 230)
_OVERSAMPLING = 2
_VIEW = np.deg2rad(35.0)
"""The camera looks from this far to the robot's left front, level with the floor."""
_MARGIN = 1.25
"""Side of a picture over the height it is made for."""
_GROUND, _RIM = 0.92, 0.02
"""Where the floor under the robot is, and what stays free above, as shares from the top."""
_TILT = 0.18
"""A metre further back is drawn so many metres higher."""
_HEAVY = 0.05
"""Share of the robot's mass above which a body without shapes is drawn."""


class Figure:
    """Draws a robot from its positions."""

    def __init__(self, robot: Robot, size: int = 320):
        self._model, self._data = robot.model, mujoco.MjData(robot.model)
        self._size = size
        self._height = 1.45 * robot.default_root_height + 0.45
        self._lines = _lines(robot.model)

    def segments(
        self, qpos: Float[np.ndarray, " nq"]
    ) -> tuple[Float[np.ndarray, "lines 2 3"], Float[np.ndarray, " lines"]]:
        """Ends of the thick lines that stand for the robot in a pose, and their radii, metres."""
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, self._data)
        ends = [self._ends(line) for line in self._lines]
        return np.array([(a, b) for a, b, _ in ends]), np.array([width for *_, width in ends])

    def fit(self, poses: Float[np.ndarray, "frames nq"]) -> None:
        """Draws everything smaller where one of the poses would not fit into the picture."""
        for qpos in poses:
            segments, radii = self.segments(qpos)
            highest = float(np.max(_drawn_height(segments, qpos[:2]) + radii[:, None]))
            self._height = max(self._height, highest / ((_GROUND - _RIM) * _MARGIN))

    def draw(
        self,
        qpos: Float[np.ndarray, " nq"],
        *,
        colour: tuple[int, int, int] = BLUE,
        centre: Float[np.ndarray, " 2"] | None = None,
        onto: Image.Image | None = None,
    ) -> Image.Image:
        """Draws one pose; returns a picture of twice the size, see `finish`.

        Args:
          centre: place over the floor that the camera follows; None: the root.
          onto: a picture to draw over.
        """
        segments, radii = self.segments(qpos)
        middle = np.asarray(qpos[:2] if centre is None else centre, float)
        side = self._size * _OVERSAMPLING
        scale = side / (_MARGIN * self._height)
        if onto is None:
            onto = Image.new("RGB", (side, side), _PAPER)
            floor = self._pixel(np.array([middle[0], middle[1], 0.0]), middle, scale)[1]
            pen = ImageDraw.Draw(onto)
            pen.rectangle((0, floor, side, side), fill=_FLOOR)
            # marks on the floor show that the camera moves along
            for step in range(-12, 13):
                along = np.round(middle @ _right()) + 0.5 * step
                x = side / 2 + (along - middle @ _right()) * scale
                pen.line((x, floor, x, floor + 0.02 * side), fill=GREY, width=2)  # pyright: ignore[reportArgumentType]
        pen = ImageDraw.Draw(onto)
        depth = segments.sum(axis=1)[:, :2] @ _towards()
        near = max(float(np.ptp(depth)), 1e-6)
        for place in np.argsort(depth):
            a, b = segments[place]
            first, second = (self._pixel(point, middle, scale) for point in (a, b))
            dim = 0.65 + 0.35 * float(depth[place] - depth.min()) / near
            ink = tuple(int(dim * part + (1 - dim) * 255) for part in colour)
            radius = max(1.5 * _OVERSAMPLING, float(radii[place]) * scale)
            pen.line((*first, *second), fill=ink, width=round(2 * radius))
            for x, y in (first, second):
                pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
        return onto

    def finish(self, image: Image.Image) -> UInt8[np.ndarray, "rows cols 3"]:
        """Brings a picture to its size."""
        small = image.resize((self._size, self._size), Image.Resampling.LANCZOS)
        return np.asarray(small)

    def _ends(self, line: tuple[int, np.ndarray, int, np.ndarray, float]):
        body, offset, other, other_offset, width = line
        data = self._data
        first = data.xpos[body] + data.xmat[body].reshape(3, 3) @ offset
        second = data.xpos[other] + data.xmat[other].reshape(3, 3) @ other_offset
        return first, second, width

    def _pixel(self, point: np.ndarray, middle: np.ndarray, scale: float) -> tuple[float, float]:
        side = self._size * _OVERSAMPLING
        across = (point[:2] - middle) @ _right()
        up = _drawn_height(point, middle)
        return float(side / 2 + across * scale), float(_GROUND * side - up * scale)


def beside(
    figure: Figure,
    policy: Float[np.ndarray, "frames nq"],
    reference: Float[np.ndarray, "frames nq"],
    is_alive: Sequence[bool] | np.ndarray,
) -> list[UInt8[np.ndarray, "rows cols 3"]]:
    """Frames with the reference in grey on the left, the policy over its shadow on the right.

    The policy turns red once it has failed.
    """
    figure.fit(reference)
    frames = []
    for place in range(len(policy)):
        centre = reference[place, :2]
        left = figure.draw(reference[place], colour=GREY, centre=centre)
        shadow = figure.draw(reference[place], colour=(214, 216, 221), centre=centre)
        ink = BLUE if is_alive[place] else RED
        right = figure.draw(policy[place], colour=ink, centre=centre, onto=shadow)
        frames.append(np.concatenate((figure.finish(left), figure.finish(right)), axis=1))
    return frames


def strip(
    frames: Sequence[UInt8[np.ndarray, "rows cols 3"]], count: int = 6
) -> UInt8[np.ndarray, "rows cols 3"]:
    """Some frames, evenly spread, side by side; reference above, policy below."""
    chosen = [frames[round(place)] for place in np.linspace(0, len(frames) - 1, count)]
    half = chosen[0].shape[1] // 2
    columns = [np.concatenate((frame[:, :half], frame[:, half:]), axis=0) for frame in chosen]
    return np.concatenate(columns, axis=1)


def _drawn_height(
    points: Float[np.ndarray, "*n 3"], middle: Float[np.ndarray, " 2"]
) -> Float[np.ndarray, "*n"]:
    """How far above the floor at the middle points are drawn, metres."""
    return points[..., 2] - _TILT * ((points[..., :2] - middle) @ _towards())


def _right() -> Float[np.ndarray, " 2"]:
    return np.array([np.sin(_VIEW), np.cos(_VIEW)])


def _towards() -> Float[np.ndarray, " 2"]:
    return np.array([np.cos(_VIEW), -np.sin(_VIEW)])


def _lines(
    model: mujoco.MjModel,
) -> list[tuple[int, np.ndarray, int, np.ndarray, float]]:
    """Thick lines that stand for the robot: its shapes, and a bone from joint to joint.

    A heavy body without shapes, as in models without meshes, is drawn as its inertia says.
    """
    kinds, found = mujoco.mjtGeom, []
    zero = np.zeros(3)
    for body in range(1, model.nbody):
        shapes = [g for g in range(model.ngeom) if model.geom_bodyid[g] == body]
        for geom in shapes:
            kind, size = kinds(int(model.geom_type[geom])), model.geom_size[geom]
            if kind in (kinds.mjGEOM_CAPSULE, kinds.mjGEOM_CYLINDER):
                axis, width = np.array([0, 0, size[1]]), size[0]
            elif kind == kinds.mjGEOM_BOX:
                longest = int(np.argmax(size))
                axis, width = np.eye(3)[longest] * size[longest], float(np.median(size)) * 0.6
            elif kind == kinds.mjGEOM_SPHERE:
                axis, width = zero, size[0]
            else:
                continue
            matrix = np.zeros(9)
            mujoco.mju_quat2Mat(matrix, model.geom_quat[geom])
            axis = matrix.reshape(3, 3) @ axis
            middle = model.geom_pos[geom]
            found.append((body, middle - axis, body, middle + axis, float(width)))
        if not shapes and model.body_mass[body] > _HEAVY * model.body_mass.sum():
            found.append(_like_its_inertia(model, body))
        parent = int(model.body_parentid[body])
        if parent:
            found.append((parent, zero, body, zero, 0.022))
    return found


def _like_its_inertia(
    model: mujoco.MjModel, body: int
) -> tuple[int, np.ndarray, int, np.ndarray, float]:
    """A capsule in place of the box that has a body's mass and inertia."""
    inertia = model.body_inertia[body]
    half = np.sqrt(np.maximum(1.5 * (inertia.sum() - 2 * inertia) / model.body_mass[body], 0.0))
    longest = int(np.argmax(half))
    width = float(np.mean(np.delete(half, longest)))
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, model.body_iquat[body])
    axis = matrix.reshape(3, 3)[:, longest] * max(half[longest] - width, 0.0)
    middle = model.body_ipos[body]
    return body, middle - axis, body, middle + axis, width
