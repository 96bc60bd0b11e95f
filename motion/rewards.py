"""What the tracking task pays for: one table, one function per term, of one environment.

Tracking terms are exp(-mean squared error / std^2); penalties are plain values. The sum is
multiplied by the control step, so that a perfect second pays the sum of the tracking weights.

Source: BeyondMimic (Liao et al. 2025). Contacts differ: a body counts as touching when its shape
reaches the floor, not by its contact force, so that every physics gives the same answer.
"""

import dataclasses
import math
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from . import quaternions
from .robots import Robot
from .tracking import Tracking


@dataclasses.dataclass(frozen=True, kw_only=True)
class RewardTerm:
    """One line of the table.

    Attributes:
      std: error at which a tracking term has fallen to 1/e; None for penalties.
    """

    name: str
    weight: float
    std: float | None = None

    def __post_init__(self) -> None:
        if self.name not in (*ERRORS, *PENALTIES):
            raise ValueError(f"no reward term {self.name!r}: {', '.join((*ERRORS, *PENALTIES))}")
        if (self.name in ERRORS) != (self.std is not None and self.std > 0):
            raise ValueError(f"{self.name}: tracking terms need a std > 0, penalties none")
        if not math.isfinite(self.weight):
            raise ValueError(f"{self.name}: weight must be finite, got {self.weight}")


def anchor_position(robot: Robot, tracking: Tracking) -> Float[Array, ""]:
    """Squared distance of the anchor from the reference, in the world."""
    now, reference = tracking.now.bodies, tracking.reference.bodies
    return jnp.sum((now.position[robot.anchor] - reference.position[robot.anchor]) ** 2)


def anchor_orientation(robot: Robot, tracking: Tracking) -> Float[Array, ""]:
    """Squared angle between the anchor and its reference."""
    now, reference = tracking.now.bodies, tracking.reference.bodies
    angle = quaternions.angle_between(
        now.quaternion[robot.anchor], reference.quaternion[robot.anchor]
    )
    return angle**2


def body_position(robot: Robot, tracking: Tracking) -> Float[Array, ""]:
    """Mean squared distance of the bodies from the re-anchored reference."""
    del robot
    gap = tracking.now.bodies.position - tracking.anchored_position
    return jnp.mean(jnp.sum(gap**2, axis=-1))


def body_orientation(robot: Robot, tracking: Tracking) -> Float[Array, ""]:
    """Mean squared angle between the bodies and the re-anchored reference."""
    del robot
    angle = quaternions.angle_between(tracking.now.bodies.quaternion, tracking.anchored_quaternion)
    return jnp.mean(angle**2)


def body_linear_velocity(robot: Robot, tracking: Tracking) -> Float[Array, ""]:
    """Mean squared difference of the bodies' velocities, in the world."""
    del robot
    gap = tracking.now.bodies.linear_velocity - tracking.reference.bodies.linear_velocity
    return jnp.mean(jnp.sum(gap**2, axis=-1))


def body_angular_velocity(robot: Robot, tracking: Tracking) -> Float[Array, ""]:
    """Mean squared difference of the bodies' angular velocities, in the world."""
    del robot
    gap = tracking.now.bodies.angular_velocity - tracking.reference.bodies.angular_velocity
    return jnp.mean(jnp.sum(gap**2, axis=-1))


def action_rate(robot: Robot, tracking: Tracking) -> Float[Array, ""]:
    """Squared change of the action since the step before."""
    del robot
    return jnp.sum((tracking.action - tracking.last_action) ** 2)


def joint_limits(robot: Robot, tracking: Tracking) -> Float[Array, ""]:
    """Radians by which joints are beyond their soft limits, summed."""
    del robot
    joints = tracking.now.qpos[7:]
    below = jnp.maximum(tracking.constants.soft_lower - joints, 0.0)
    above = jnp.maximum(joints - tracking.constants.soft_upper, 0.0)
    return jnp.sum(below + above)


def undesired_contacts(robot: Robot, tracking: Tracking) -> Float[Array, ""]:
    """Number of bodies, end effectors apart, whose shape reaches the floor."""
    constants, bodies = tracking.constants, tracking.now.bodies
    if constants.sphere_body.shape[0] == 0:
        return jnp.zeros(())
    quaternion = bodies.quaternion[constants.sphere_body]
    height = (
        bodies.position[constants.sphere_body, 2]
        + quaternions.rotate(quaternion, constants.sphere_offset)[:, 2]
        - constants.sphere_radius
    )
    touches = jnp.zeros(len(robot.tracked_bodies)).at[constants.sphere_body].max(height < 0.0)
    return jnp.sum(touches)


ERRORS: dict[str, Callable[[Robot, Tracking], Float[Array, ""]]] = {
    "anchor_position": anchor_position,
    "anchor_orientation": anchor_orientation,
    "body_position": body_position,
    "body_orientation": body_orientation,
    "body_linear_velocity": body_linear_velocity,
    "body_angular_velocity": body_angular_velocity,
}
PENALTIES: dict[str, Callable[[Robot, Tracking], Float[Array, ""]]] = {
    "action_rate": action_rate,
    "joint_limits": joint_limits,
    "undesired_contacts": undesired_contacts,
}

REWARDS = (
    RewardTerm(name="anchor_position", weight=0.5, std=0.3),
    RewardTerm(name="anchor_orientation", weight=0.5, std=0.4),
    RewardTerm(name="body_position", weight=1.0, std=0.3),
    RewardTerm(name="body_orientation", weight=1.0, std=0.4),
    RewardTerm(name="body_linear_velocity", weight=1.0, std=1.0),
    RewardTerm(name="body_angular_velocity", weight=1.0, std=3.14),
    RewardTerm(name="action_rate", weight=-0.1),
    RewardTerm(name="joint_limits", weight=-10.0),
    RewardTerm(name="undesired_contacts", weight=-0.1),
)


def reward_terms(
    table: tuple[RewardTerm, ...], robot: Robot, tracking: Tracking
) -> Float[Array, " terms"]:
    """Computes every term times its weight and the control step, in the table's order."""
    values = []
    for term in table:
        if term.std is None:
            value = PENALTIES[term.name](robot, tracking)
        else:
            value = jnp.exp(-ERRORS[term.name](robot, tracking) / term.std**2)
        values.append(term.weight * value)
    return jnp.stack(values) / robot.control_rate
