"""What the terms of the task read: the robot, the reference, and the reference re-anchored.

Everything is of one environment; the environment maps the terms over its copies. Frames: `world`
is that of the clips. The reference is re-anchored by turning it by the difference in heading of the
two anchors, moving it to the robot's anchor in x and y, and keeping its own height.

Source: BeyondMimic (Liao et al. 2025).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from . import quaternions
from .clips import ClipBank
from .robots import Robot


class Bodies(NamedTuple):
    """Poses and velocities of the tracked bodies, in their order, in the world's axes."""

    position: Float[Array, "*envs bodies 3"]
    quaternion: Float[Array, "*envs bodies 4"]
    linear_velocity: Float[Array, "*envs bodies 3"]
    angular_velocity: Float[Array, "*envs bodies 3"]


class Physical(NamedTuple):
    """What a physics back-end tells of a state; all of it belongs to the same moment.

    Attributes:
      qpos: root position, root quaternion, joints.
      qvel: root linear velocity (world), root angular velocity (body), joint velocities.
    """

    qpos: Float[Array, "*envs nq"]
    qvel: Float[Array, "*envs nv"]
    bodies: Bodies


class Constants(NamedTuple):
    """The robot's numbers, as arrays."""

    default_joint_position: Float[Array, " joints"]
    soft_lower: Float[Array, " joints"]
    soft_upper: Float[Array, " joints"]
    action_scale: Float[Array, " joints"]
    sphere_body: Int[Array, " spheres"]
    sphere_offset: Float[Array, "spheres 3"]
    sphere_radius: Float[Array, " spheres"]


class Tracking(NamedTuple):
    """One environment at one moment, beside its reference.

    Attributes:
      now: the robot.
      reference: what it is compared with, in the world.
      anchored: the reference's bodies, re-anchored: position and quaternion.
      action: the one that led here; `last_action` the one before.
      joint_offset: error of the joints' zero, which actions and measurements share.
    """

    now: Physical
    reference: Physical
    anchored_position: Float[Array, "bodies 3"]
    anchored_quaternion: Float[Array, "bodies 4"]
    action: Float[Array, " joints"]
    last_action: Float[Array, " joints"]
    joint_offset: Float[Array, " joints"]
    constants: Constants


def constants_of(robot: Robot) -> Constants:
    """Turns the robot's numbers into arrays."""
    spheres = robot.contact_spheres
    return Constants(
        default_joint_position=jnp.asarray(robot.default_joint_position, jnp.float32),
        soft_lower=jnp.asarray(robot.soft_lower, jnp.float32),
        soft_upper=jnp.asarray(robot.soft_upper, jnp.float32),
        action_scale=jnp.asarray(robot.action_scale, jnp.float32),
        sphere_body=jnp.asarray(spheres.body, jnp.int32),
        sphere_offset=jnp.asarray(spheres.offset, jnp.float32),
        sphere_radius=jnp.asarray(spheres.radius, jnp.float32),
    )


def reference_at(bank: ClipBank, clip: Int[Array, "*envs"], frame: Int[Array, "*envs"]) -> Physical:
    """Looks up the reference; frames outside a clip count as its ends."""
    row = _row_of(bank, clip, frame)
    bodies = Bodies(
        bank.body_position[row],
        bank.body_quaternion[row],
        bank.body_linear_velocity[row],
        bank.body_angular_velocity[row],
    )
    return Physical(bank.qpos[row], bank.qvel[row], bodies)


def targets_at(
    bank: ClipBank, clip: Int[Array, "*envs"], frame: Int[Array, "*envs"]
) -> Float[Array, "*envs joints"]:
    """Looks up the angles that joints have to be asked for, see `inverse_dynamics.with_targets`.

    Raises:
      ValueError: for a bank without them.
    """
    if bank.target is None:
        raise ValueError("feedforward needs a bank with targets: inverse_dynamics.with_targets")
    return bank.target[_row_of(bank, clip, frame)]


def _row_of(
    bank: ClipBank, clip: Int[Array, "*envs"], frame: Int[Array, "*envs"]
) -> Int[Array, "*envs"]:
    return bank.clip_start[clip] + jnp.clip(frame, 0, bank.clip_length[clip] - 1)


def re_anchor(
    reference: Bodies, now: Bodies, anchor: int
) -> tuple[Float[Array, "bodies 3"], Float[Array, "bodies 4"]]:
    """Re-anchors a reference to the robot.

    Returns:
      Positions and quaternions of the bodies.
    """
    turn = quaternions.yaw(
        quaternions.multiply(
            now.quaternion[anchor], quaternions.conjugate(reference.quaternion[anchor])
        )
    )
    centre = reference.position[anchor]
    place = jnp.concatenate([now.position[anchor, :2], centre[2:]])
    turns = jnp.broadcast_to(turn, reference.quaternion.shape)
    arms = reference.position - centre[None]
    position = place[None] + quaternions.rotate(turns, arms)
    return position, quaternions.multiply(turns, reference.quaternion)


def compare(
    robot: Robot,
    constants: Constants,
    now: Physical,
    reference: Physical,
    *,
    action: Float[Array, " joints"],
    last_action: Float[Array, " joints"],
    joint_offset: Float[Array, " joints"],
) -> Tracking:
    """Puts together what the terms read, for one environment."""
    position, quaternion = re_anchor(reference.bodies, now.bodies, robot.anchor)
    return Tracking(
        now=now,
        reference=reference,
        anchored_position=position,
        anchored_quaternion=quaternion,
        action=action,
        last_action=last_action,
        joint_offset=joint_offset,
        constants=constants,
    )
