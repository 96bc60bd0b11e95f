"""The shapes of a robot: which touch the floor, and where their lowest points are.

A box that meets the floor becomes four spheres at the corners of its middle plane, as thick as the
box: flat on the floor it touches in the same four points. MJX's own contact of a box with a plane
keeps only the corners near the deepest one, and then differs from the C engine.
"""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled names have no stubs)

from collections.abc import Sequence

import mujoco
import numpy as np
from jaxtyping import Float, Int

FLOOR = "floor"
_COLLISION_GROUP = 3
_FRICTION = (1.0, 1.0, 0.005, 0.0001, 0.0001)


def set_floor_contacts(spec: mujoco.MjSpec, feet: Sequence[str], collision: str) -> None:
    """Adds a floor where there is none and the contacts of a collision set; `spec` is changed.

    Args:
      collision: "feet", "floor" or "file", see `build_robot`.
    Raises:
      ValueError: for another set, or a foot without a shape.
    """
    if collision not in ("feet", "floor", "file"):
        raise ValueError(f"collision must be feet, floor or file, got {collision!r}")
    floor = _floor(spec)
    if collision == "file":
        return
    paired = {name for pair in spec.pairs for name in (pair.geomname1, pair.geomname2)}
    for pair in list(spec.pairs):
        spec.delete(pair)
    touching = []
    for body in spec.bodies[1:]:
        shapes = _collision_shapes(body, paired)
        if body.name in feet and not shapes:
            raise ValueError(
                f"foot {body.name} has no shape to stand on; meshes do not count, "
                "give it a box, capsule or sphere"
            )
        if collision == "floor" or body.name in feet:
            for shape in shapes:
                is_box = shape.type == mujoco.mjtGeom.mjGEOM_BOX
                touching.extend(_corner_spheres(body, shape) if is_box else [shape])
    for number, geom in enumerate(touching):
        if not geom.name:
            geom.name = f"{geom.parent.name}_shape_{number}"
    for geom in spec.geoms:
        geom.contype = geom.conaffinity = 0
    for geom in touching:
        spec.add_pair(
            name=f"{geom.name}_{FLOOR}",
            geomname1=geom.name,
            geomname2=floor.name,
            condim=3,
            friction=list(_FRICTION),
        )


def standing_height(
    model: mujoco.MjModel, joints: Float[np.ndarray, " joints"], foot_ids: Sequence[int]
) -> float:
    """Gives the height of the root at which the feet's lowest point is on the floor."""
    data = mujoco.MjData(model)
    data.qpos[:] = np.concatenate([[0, 0, 0, 1, 0, 0, 0], joints])
    mujoco.mj_kinematics(model, data)
    body, offset, radius = spheres_of(model, list(enumerate(foot_ids)))
    heights = [
        (data.xpos[foot_ids[b]] + data.xmat[foot_ids[b]].reshape(3, 3) @ o)[2] - r
        for b, o, r in zip(body, offset, radius, strict=True)
    ]
    return -float(min(heights))


def spheres_of(
    model: mujoco.MjModel, bodies: Sequence[tuple[int, int]]
) -> tuple[
    Int[np.ndarray, " spheres"], Float[np.ndarray, "spheres 3"], Float[np.ndarray, " spheres"]
]:
    """Gives spheres with the same lowest point over a plane as the bodies' shapes.

    Spheres and capsules are exact, boxes are their corners, cylinders and ellipsoids are taken as
    the capsules and spheres around their middle.
    Args:
      bodies: (index to report, id in the model).
    Returns:
      index, centre in the body's frame, radius.
    """
    body, offset, radius = [], [], []
    kinds = mujoco.mjtGeom
    for index, body_id in bodies:
        first = model.body_geomadr[body_id]
        geoms = range(first, first + model.body_geomnum[body_id]) if first >= 0 else ()
        for geom in geoms:
            kind, size = kinds(int(model.geom_type[geom])), model.geom_size[geom]
            if kind in (kinds.mjGEOM_CAPSULE, kinds.mjGEOM_CYLINDER):
                points, around = [[0, 0, -size[1]], [0, 0, size[1]]], size[0]
            elif kind == kinds.mjGEOM_BOX:
                corners = np.stack(np.meshgrid(*[[-1, 1]] * 3), -1).reshape(-1, 3)
                points, around = corners * size, 0.0
            elif kind == kinds.mjGEOM_SPHERE:
                points, around = [[0, 0, 0]], size[0]
            elif kind == kinds.mjGEOM_ELLIPSOID:
                points, around = [[0, 0, 0]], size.min()
            else:
                continue
            rotation = np.zeros(9)
            mujoco.mju_quat2Mat(rotation, model.geom_quat[geom])
            for point in points:
                body.append(index)
                offset.append(model.geom_pos[geom] + rotation.reshape(3, 3) @ np.asarray(point))
                radius.append(around)
    return (
        np.asarray(body, np.int32),
        np.asarray(offset, float).reshape(-1, 3),
        np.asarray(radius, float),
    )


def _corner_spheres(body: mujoco.MjsBody, box: mujoco.MjsGeom) -> list[mujoco.MjsGeom]:
    thin = int(np.argmin(box.size))
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, np.asarray(box.quat))
    spheres = []
    for first in (-1.0, 1.0):
        for second in (-1.0, 1.0):
            corner = np.insert([first, second], thin, 0.0) * box.size
            place = np.asarray(box.pos) + rotation.reshape(3, 3) @ corner
            spheres.append(
                body.add_geom(
                    type=mujoco.mjtGeom.mjGEOM_SPHERE,
                    pos=place.tolist(),
                    size=[box.size[thin], 0.0, 0.0],
                    mass=0.0,
                    group=_COLLISION_GROUP,
                    rgba=box.rgba,
                )
            )
    return spheres


def _floor(spec: mujoco.MjSpec) -> mujoco.MjsGeom:
    planes = [g for g in spec.worldbody.geoms if g.type == mujoco.mjtGeom.mjGEOM_PLANE]
    if planes:
        floor = planes[0]
        floor.name = floor.name or FLOOR
        return floor
    return spec.worldbody.add_geom(
        name=FLOOR,
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[0, 0, 0.05],
        rgba=[0.6, 0.62, 0.65, 1.0],
    )


def _collision_shapes(body: mujoco.MjsBody, paired: set[str]) -> list[mujoco.MjsGeom]:
    return [
        geom
        for geom in body.geoms
        if geom.type != mujoco.mjtGeom.mjGEOM_MESH
        and (
            geom.contype
            or geom.conaffinity
            or geom.group == _COLLISION_GROUP
            or geom.name in paired
        )
    ]
