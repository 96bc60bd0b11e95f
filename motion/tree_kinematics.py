"""Where the tracked bodies of many robots are and how they move, inside a compiled program.

One step per hinge from the root outwards, all branches of the tree and all robots at once. That is
a loop of a few hundred operations, where MJX's own kinematics unroll to thousands. Formulas as in
MuJoCo's `mj_kinematics`; velocities are those of the bodies' frames' origins, in the world's axes.
"""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled names have no stubs)

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from . import quaternions
from .robots import Robot
from .tracking import Bodies


class Tree(NamedTuple):
    """Frames by their distance from the root, a level per row.

    Rows are as wide as the widest level. What fills them up are frames that do not move against
    the first one above; nobody looks at them.

    Attributes:
      parent: place of the frame it hangs on, in the level above; the root is place 0 of its own.
      offset, turn: from the parent to here at angle zero; metres, w x y z.
      anchor, axis: a point on the hinge and its direction, in the frame.
      joint: number of the hinge; the number of joints where there is none.
      zero: angle of the hinge at which `offset` and `turn` hold.
      level, place: of each tracked body; level 0 is the root.
    """

    parent: Int[np.ndarray, "levels width"]
    offset: Float[np.ndarray, "levels width 3"]
    turn: Float[np.ndarray, "levels width 4"]
    anchor: Float[np.ndarray, "levels width 3"]
    axis: Float[np.ndarray, "levels width 3"]
    joint: Int[np.ndarray, "levels width"]
    zero: Float[np.ndarray, "levels width"]
    level: Int[np.ndarray, " bodies"]
    place: Int[np.ndarray, " bodies"]


class _Frame(NamedTuple):
    parent: int
    offset: np.ndarray
    turn: np.ndarray
    anchor: np.ndarray
    axis: np.ndarray
    joint: int
    zero: float


def tree_of(robot: Robot) -> Tree:
    """Sorts a robot's frames into levels; a body with several hinges is one frame for each."""
    model = robot.model
    still, identity = np.zeros(3), np.array([1.0, 0, 0, 0])
    root = int(model.jnt_bodyid[0])
    levels: list[list[_Frame]] = []
    where = {root: (0, 0)}
    for body in range(root + 1, model.nbody):
        if int(model.body_parentid[body]) not in where:
            continue
        level, place = where[int(model.body_parentid[body])]
        first = int(model.body_jntadr[body])
        joints = range(first, first + int(model.body_jntnum[body])) if first >= 0 else ()
        offset, turn = model.body_pos[body], model.body_quat[body]
        for joint in joints or (None,):
            if level == len(levels):
                levels.append([])
            hinge = (still, still, robot.num_joints, 0.0)
            if joint is not None:
                address = int(model.jnt_qposadr[joint])
                hinge = (
                    model.jnt_pos[joint],
                    model.jnt_axis[joint],
                    address - 7,
                    model.qpos0[address],
                )
            levels[level].append(_Frame(place, offset, turn, *hinge))
            level, place = level + 1, len(levels[level]) - 1
            offset, turn = still, identity
        where[body] = level, place
    width = max((len(row) for row in levels), default=1)
    spare = _Frame(0, still, identity, still, still, robot.num_joints, 0.0)
    filled = [row + [spare] * (width - len(row)) for row in levels]
    columns = [
        np.array([[frame[field] for frame in row] for row in filled])
        for field in range(len(_Frame._fields))
    ]
    tracked = np.array([where[body] for body in robot.tracked_ids])
    return Tree(*columns, level=tracked[:, 0], place=tracked[:, 1])


def bodies_at(tree: Tree, qpos: Float[Array, "envs nq"], qvel: Float[Array, "envs nv"]) -> Bodies:
    """Computes poses and velocities of the tracked bodies.

    Args:
      qpos: root position, root quaternion (of any length), joints.
      qvel: root linear velocity (world), root angular velocity (body), joint velocities.
    """
    num_envs, width = len(qpos), tree.parent.shape[1]
    root = qpos[:, 3:7] / jnp.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
    start = Bodies(qpos[:, :3], root, qvel[:, :3], quaternions.rotate(root, qvel[:, 3:6]))
    first = jax.tree.map(lambda x: jnp.repeat(x[:, None], width, axis=1), start)

    def per_level(joints: Array) -> Array:
        """Values of joints by level; zero where a frame has none."""
        padded = jnp.pad(joints, ((0, 0), (0, 1)))
        return jnp.moveaxis(padded[:, tree.joint], 1, 0)

    def constant(values: np.ndarray) -> Array:
        return jnp.asarray(values, qpos.dtype)

    def one_level(above: Bodies, row: tuple) -> tuple[Bodies, Bodies]:
        parent, offset, turn, anchor, axis, angle, speed = row
        offset, turn, anchor, axis = (
            jnp.broadcast_to(x[None], (num_envs, *x.shape)) for x in (offset, turn, anchor, axis)
        )
        above = jax.tree.map(lambda x: x[:, parent], above)
        arm = quaternions.rotate(above.quaternion, offset)
        straight = quaternions.multiply(above.quaternion, turn)
        to_anchor = quaternions.rotate(straight, anchor)
        half = 0.5 * angle[..., None]
        bend = jnp.concatenate([jnp.cos(half), axis * jnp.sin(half)], axis=-1)
        quaternion = quaternions.multiply(straight, bend)
        from_anchor = -quaternions.rotate(quaternion, anchor)
        angular = above.angular_velocity + quaternions.rotate(straight, axis) * speed[..., None]
        here = Bodies(
            position=above.position + arm + to_anchor + from_anchor,
            quaternion=quaternion,
            linear_velocity=above.linear_velocity
            + jnp.cross(above.angular_velocity, arm + to_anchor)
            + jnp.cross(angular, from_anchor),
            angular_velocity=angular,
        )
        return here, here

    rows = (
        jnp.asarray(tree.parent, jnp.int32),
        *(constant(x) for x in (tree.offset, tree.turn, tree.anchor, tree.axis)),
        per_level(qpos[:, 7:]) - constant(tree.zero)[:, None],
        per_level(qvel[:, 6:]),
    )
    _, levels = jax.lax.scan(one_level, first, rows)
    return jax.tree.map(
        lambda root, below: jnp.moveaxis(
            jnp.concatenate([root[None], below])[tree.level, :, tree.place], 0, 1
        ),
        first,
        levels,
    )
