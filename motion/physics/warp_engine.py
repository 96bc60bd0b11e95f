"""MuJoCo Warp inside MJX: the same simulation by kernels for NVIDIA GPUs, still one program.

Only the simulation steps are Warp's; all else is as with "mjx". Warp allots contacts and
constraints ahead and drops what does not fit, so here both are the most the model can have, and
models for which that is not known are refused.
"""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled names have no stubs)

import copy
import importlib.util

import mujoco
from mujoco import mjx

from motion.robots import Robot

from .mjx_engine import MjxEngine

_MOST_CONTACTS = {
    mujoco.mjtGeom.mjGEOM_SPHERE: 1,
    mujoco.mjtGeom.mjGEOM_ELLIPSOID: 1,
    mujoco.mjtGeom.mjGEOM_CAPSULE: 2,
    mujoco.mjtGeom.mjGEOM_BOX: 4,
    mujoco.mjtGeom.mjGEOM_CYLINDER: 4,
}
"""Contacts of each shape with a plane."""


class WarpEngine(MjxEngine):
    """The back-end "warp"; see `Physics`."""

    name = "warp"

    def __init__(self, robot: Robot, num_envs: int):
        """Makes the model and room for the contacts of all environments.

        Raises:
          ValueError: without the package warp-lang, or for a robot whose shapes touch more than
            the floor.
        """
        if importlib.util.find_spec("warp") is None:
            raise ValueError(
                'physics warp needs the package warp-lang: pip install "hardlight[warp]"'
            )
        super().__init__(robot)
        contacts = most_contacts(robot)
        model = copy.copy(robot.model)
        # Warp never resets a simulation by itself and refuses to be told not to
        model.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
        self._model = mjx.put_model(model, impl="warp")
        self._data = mjx.make_data(
            model,
            impl="warp",
            naconmax=num_envs * contacts,
            njmax=_most_constraints(model, contacts),
        )


def most_contacts(robot: Robot) -> int:
    """Counts the contacts one robot can have at most.

    Raises:
      ValueError: where shapes may touch each other, or the floor with a shape of unknown contacts.
    """
    model = robot.model
    is_free = bool((model.geom_contype != 0).any() and (model.geom_conaffinity != 0).any())
    shapes = [
        {int(model.geom_type[g]) for g in pair}
        for pair in zip(model.pair_geom1, model.pair_geom2, strict=True)
    ]
    plane = int(mujoco.mjtGeom.mjGEOM_PLANE)
    most = {int(kind): count for kind, count in _MOST_CONTACTS.items()}
    if is_free or any(plane not in shape or not (shape - {plane}) <= set(most) for shape in shapes):
        raise ValueError(
            f"{robot.name}: physics warp needs contacts with the floor only, of spheres, capsules, "
            "boxes, cylinders or ellipsoids; take physics mjx or c"
        )
    return max(sum(most[kind] for shape in shapes for kind in shape - {plane}), 1)


def _most_constraints(model: mujoco.MjModel, contacts: int) -> int:
    """Counts the rows of all constraints that can be active together."""
    per_contact = 2 * max((int(dim) - 1 for dim in model.pair_dim), default=0)
    limits = 2 * int(model.jnt_limited.sum()) + 2 * int(model.tendon_limited.sum())
    friction = int((model.dof_frictionloss > 0).sum()) + int((model.tendon_frictionloss > 0).sum())
    return max(per_contact, 1) * contacts + limits + friction + 6 * int(model.neq)
