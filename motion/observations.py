"""What the policy and the critic see: two tables, one function per term, of one environment.

The reference shown is the one the coming step will be compared with. There is no phase: the clip
enters through the reference only. The critic sees the same without noise and where the bodies are.

Source: BeyondMimic (Liao et al. 2025), observations of 160 and 286 numbers for the G1.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from . import quaternions
from .robots import Robot
from .tracking import Tracking


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObservationTerm:
    """One line of a table.

    Attributes:
      noise: largest error of a measurement; errors are uniform.
    """

    name: str
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in TERMS:
            raise ValueError(f"no observation term {self.name!r}: {', '.join(TERMS)}")
        if not self.noise >= 0:
            raise ValueError(f"{self.name}: noise must not be negative, got {self.noise}")


def reference_joint_position(robot: Robot, tracking: Tracking) -> Float[Array, " n"]:
    """Joint angles of the reference, radians."""
    del robot
    return tracking.reference.qpos[7:]


def reference_joint_velocity(robot: Robot, tracking: Tracking) -> Float[Array, " n"]:
    """Joint velocities of the reference, rad/s."""
    del robot
    return tracking.reference.qvel[6:]


def anchor_position_error(robot: Robot, tracking: Tracking) -> Float[Array, " n"]:
    """Where the reference's anchor is, in the axes of the robot's anchor, metres."""
    now, reference = tracking.now.bodies, tracking.reference.bodies
    gap = reference.position[robot.anchor] - now.position[robot.anchor]
    return quaternions.rotate_back(now.quaternion[robot.anchor], gap)


def anchor_orientation_error(robot: Robot, tracking: Tracking) -> Float[Array, " n"]:
    """How the reference's anchor is turned, seen from the robot's, two matrix columns."""
    now, reference = tracking.now.bodies, tracking.reference.bodies
    inverse = quaternions.conjugate(now.quaternion[robot.anchor])
    return quaternions.two_columns(
        quaternions.multiply(inverse, reference.quaternion[robot.anchor])
    )


def base_linear_velocity(robot: Robot, tracking: Tracking) -> Float[Array, " n"]:
    """Velocity of the root in its own axes, m/s."""
    del robot
    return quaternions.rotate_back(tracking.now.qpos[3:7], tracking.now.qvel[:3])


def base_angular_velocity(robot: Robot, tracking: Tracking) -> Float[Array, " n"]:
    """Angular velocity of the root in its own axes, rad/s."""
    del robot
    return tracking.now.qvel[3:6]


def joint_position(robot: Robot, tracking: Tracking) -> Float[Array, " n"]:
    """Joint angles relative to the default pose, as measured with the joints' zero error."""
    del robot
    default = tracking.constants.default_joint_position
    return tracking.now.qpos[7:] - default - tracking.joint_offset


def joint_velocity(robot: Robot, tracking: Tracking) -> Float[Array, " n"]:
    """Joint velocities, rad/s."""
    del robot
    return tracking.now.qvel[6:]


def last_action(robot: Robot, tracking: Tracking) -> Float[Array, " n"]:
    """The action that led here; zero at the start of an episode."""
    del robot
    return tracking.action


def body_positions(robot: Robot, tracking: Tracking) -> Float[Array, " n"]:
    """Where the bodies are, in the axes of the robot's anchor, metres."""
    now = tracking.now.bodies
    anchor = jnp.broadcast_to(now.quaternion[robot.anchor], now.quaternion.shape)
    gap = now.position - now.position[robot.anchor][None]
    return quaternions.rotate_back(anchor, gap).reshape(-1)


def body_orientations(robot: Robot, tracking: Tracking) -> Float[Array, " n"]:
    """How the bodies are turned, seen from the robot's anchor, two matrix columns each."""
    now = tracking.now.bodies
    inverse = quaternions.conjugate(now.quaternion[robot.anchor])
    anchor = jnp.broadcast_to(inverse, now.quaternion.shape)
    return quaternions.two_columns(quaternions.multiply(anchor, now.quaternion)).reshape(-1)


TERMS: dict[str, Callable[[Robot, Tracking], Float[Array, " n"]]] = {
    "reference_joint_position": reference_joint_position,
    "reference_joint_velocity": reference_joint_velocity,
    "anchor_position_error": anchor_position_error,
    "anchor_orientation_error": anchor_orientation_error,
    "base_linear_velocity": base_linear_velocity,
    "base_angular_velocity": base_angular_velocity,
    "joint_position": joint_position,
    "joint_velocity": joint_velocity,
    "last_action": last_action,
    "body_positions": body_positions,
    "body_orientations": body_orientations,
}

ACTOR = (
    ObservationTerm(name="reference_joint_position"),
    ObservationTerm(name="reference_joint_velocity"),
    ObservationTerm(name="anchor_position_error", noise=0.25),
    ObservationTerm(name="anchor_orientation_error", noise=0.05),
    ObservationTerm(name="base_linear_velocity", noise=0.5),
    ObservationTerm(name="base_angular_velocity", noise=0.2),
    ObservationTerm(name="joint_position", noise=0.01),
    ObservationTerm(name="joint_velocity", noise=0.5),
    ObservationTerm(name="last_action"),
)
_WITHOUT_ESTIMATION = ("anchor_position_error", "base_linear_velocity")
ACTOR_WITHOUT_ESTIMATION = tuple(term for term in ACTOR if term.name not in _WITHOUT_ESTIMATION)
CRITIC = (
    *(ObservationTerm(name=term.name) for term in ACTOR),
    ObservationTerm(name="body_positions"),
    ObservationTerm(name="body_orientations"),
)


def observe(
    table: tuple[ObservationTerm, ...], robot: Robot, tracking: Tracking
) -> Float[Array, " size"]:
    """Puts the terms of a table side by side, without noise."""
    return jnp.concatenate([TERMS[term.name](robot, tracking) for term in table])


def term_sizes(table: tuple[ObservationTerm, ...], robot: Robot) -> tuple[int, ...]:
    """Gives the numbers in every term of a table."""
    joints, bodies = robot.num_joints, len(robot.tracked_bodies)
    fixed = {
        "anchor_position_error": 3,
        "anchor_orientation_error": 6,
        "base_linear_velocity": 3,
        "base_angular_velocity": 3,
        "body_positions": 3 * bodies,
        "body_orientations": 6 * bodies,
    }
    return tuple(fixed.get(term.name, joints) for term in table)


def noise_amplitudes(
    table: tuple[ObservationTerm, ...], robot: Robot
) -> Float[np.ndarray, " size"]:
    """Gives the largest error of every number of a table."""
    sizes = term_sizes(table, robot)
    return np.repeat([term.noise for term in table], sizes).astype(np.float32)
