"""When an episode has failed: one table, one function per term, of one environment.

A failure is never a time-out: the limit of the episode and the end of the clip are the
environment's, and count as neither failure nor success. A state that is not finite has failed.

Source: BeyondMimic (Liao et al. 2025).
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from . import quaternions
from .robots import Robot
from .tracking import Tracking


@dataclasses.dataclass(frozen=True, kw_only=True)
class TerminationTerm:
    """One line of the table: the episode has failed when the value exceeds the limit."""

    name: str
    limit: float

    def __post_init__(self) -> None:
        if self.name not in TERMS:
            raise ValueError(f"no termination term {self.name!r}: {', '.join(TERMS)}")
        if not self.limit > 0:
            raise ValueError(f"{self.name}: limit must be positive, got {self.limit}")


def anchor_height(robot: Robot, tracking: Tracking) -> Float[Array, ""]:
    """Difference in height of the anchor, metres."""
    now, reference = tracking.now.bodies, tracking.reference.bodies
    return jnp.abs(now.position[robot.anchor, 2] - reference.position[robot.anchor, 2])


def anchor_tilt(robot: Robot, tracking: Tracking) -> Float[Array, ""]:
    """Difference of the vertical seen from the anchor, its z component; 2 is upside down."""
    now, reference = tracking.now.bodies, tracking.reference.bodies
    return jnp.abs(
        quaternions.up_component(now.quaternion[robot.anchor])
        - quaternions.up_component(reference.quaternion[robot.anchor])
    )


def end_effector_height(robot: Robot, tracking: Tracking) -> Float[Array, ""]:
    """Largest difference in height of an end effector from the re-anchored reference, metres."""
    ends = jnp.asarray(robot.end_effectors, jnp.int32)
    gap = tracking.now.bodies.position[ends, 2] - tracking.anchored_position[ends, 2]
    return jnp.max(jnp.abs(gap))


TERMS: dict[str, Callable[[Robot, Tracking], Float[Array, ""]]] = {
    "anchor_height": anchor_height,
    "anchor_tilt": anchor_tilt,
    "end_effector_height": end_effector_height,
}

TERMINATIONS = (
    TerminationTerm(name="anchor_height", limit=0.25),
    TerminationTerm(name="anchor_tilt", limit=0.8),
    TerminationTerm(name="end_effector_height", limit=0.25),
)


def has_failed(
    table: tuple[TerminationTerm, ...],
    robot: Robot,
    tracking: Tracking,
    *,
    leniency: Float[Array, ""] | float = 1.0,
) -> Bool[Array, ""]:
    """Says whether any term exceeds its limit, times `leniency`, or the state is not finite."""
    failed = ~is_finite(tracking)
    for term in table:
        failed = failed | (TERMS[term.name](robot, tracking) > term.limit * leniency)
    return failed


def is_finite(tracking: Tracking) -> Bool[Array, ""]:
    """Says whether positions and velocities are finite, and no joint has run away."""
    now = tracking.now
    is_sane = jnp.all(jnp.abs(now.qvel) < 1e4)
    return is_sane & jnp.all(jnp.isfinite(now.qpos)) & jnp.all(jnp.isfinite(now.qvel))
