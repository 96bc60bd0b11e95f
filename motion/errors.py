"""How far a robot is from its reference, in the units people report; of many environments."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from . import quaternions
from .robots import Robot
from .tracking import Tracking


class TrackingErrors(NamedTuple):
    """Errors of every environment at one moment.

    Attributes:
      body_world: mean distance of the bodies from the reference in the world, metres (MPKPE).
      body_anchored: mean distance from the re-anchored reference, metres (R-MPKPE).
      body_root: mean distance after both are moved to their roots, axes of the world, metres.
      joint: mean absolute difference of joint angles, radians.
      joint_velocity: root mean square difference of joint velocities, rad/s.
      anchor_angle: angle between the anchors, radians.
    """

    body_world: Float[Array, " envs"]
    body_anchored: Float[Array, " envs"]
    body_root: Float[Array, " envs"]
    joint: Float[Array, " envs"]
    joint_velocity: Float[Array, " envs"]
    anchor_angle: Float[Array, " envs"]


def tracking_errors(robot: Robot, tracking: Tracking) -> TrackingErrors:
    """Measures every environment of a batch.

    Args:
      tracking: with a leading axis of environments.
    """
    now, reference = tracking.now, tracking.reference
    place, target = now.bodies.position, reference.bodies.position
    anchor = robot.anchor
    return TrackingErrors(
        body_world=_mean_distance(place, target),
        body_anchored=_mean_distance(place, tracking.anchored_position),
        body_root=_mean_distance(place - place[:, :1], target - target[:, :1]),
        joint=jnp.mean(jnp.abs(now.qpos[:, 7:] - reference.qpos[:, 7:]), axis=1),
        joint_velocity=jnp.sqrt(jnp.mean((now.qvel[:, 6:] - reference.qvel[:, 6:]) ** 2, axis=1)),
        anchor_angle=quaternions.angle_between(
            now.bodies.quaternion[:, anchor], reference.bodies.quaternion[:, anchor]
        ),
    )


def _mean_distance(
    a: Float[Array, "envs bodies 3"], b: Float[Array, "envs bodies 3"]
) -> Float[Array, " envs"]:
    return jnp.mean(jnp.linalg.norm(a - b, axis=-1), axis=-1)
