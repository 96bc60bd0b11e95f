"""What is drawn at random around the task: starts, pushes, the robot itself.

All ranges are those of one table, uniform, scaled by one number each in the environment's settings.

Source: BeyondMimic (Liao et al. 2025), and mjlab for friction; MuJoCo has no restitution and one
coefficient of friction where the original has two.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from . import quaternions
from .tracking import Constants, Physical

START_POSITION = (0.05, 0.05, 0.01)
START_TURN = (0.1, 0.1, 0.2)
START_JOINT = 0.1
LINEAR_VELOCITY = (0.5, 0.5, 0.2)
ANGULAR_VELOCITY = (0.52, 0.52, 0.78)
FRICTION = (0.3, 1.2)
JOINT_OFFSET = 0.01
ANCHOR_COM = (0.025, 0.05, 0.05)


class Randomisation(NamedTuple):
    """How a copy of the robot differs from its description, for as long as it lives.

    Attributes:
      friction: of its feet with the floor.
      joint_offset: error of the joints' zero, radians.
      anchor_com: shift of the anchor body's centre of mass, metres.
    """

    friction: Float[Array, " envs"]
    joint_offset: Float[Array, "envs joints"]
    anchor_com: Float[Array, "envs 3"]


def draw_randomisation(
    key: Key[Array, ""], num_envs: int, num_joints: int, scale: float
) -> Randomisation:
    """Draws copies of the robot.

    Args:
      scale: 0 gives friction 1 and no shifts, 1 the ranges of the table.
    """
    keys = jax.random.split(key, 3)
    low, high = (1.0 + scale * (edge - 1.0) for edge in FRICTION)
    return Randomisation(
        friction=jax.random.uniform(keys[0], (num_envs,), minval=low, maxval=high),
        joint_offset=scale * _within(keys[1], (num_envs, num_joints), JOINT_OFFSET),
        anchor_com=scale * _within(keys[2], (num_envs, 3), ANCHOR_COM),
    )


def perturb_start(
    key: Key[Array, ""], constants: Constants, start: Physical, scale: float
) -> tuple[Float[Array, "envs nq"], Float[Array, "envs nv"]]:
    """Moves every environment away from the frame it starts at.

    The root is shifted, turned and pushed in the world's axes, joints are shifted and kept within
    their soft limits where noise moves them.
    Returns:
      qpos and qvel.
    """
    envs, joints = start.qpos.shape[0], start.qpos.shape[1] - 7
    keys = jax.random.split(key, 5)
    turn = quaternions.from_roll_pitch_yaw(scale * _within(keys[1], (envs, 3), START_TURN))
    quaternion = start.qpos[:, 3:7]
    turned = quaternions.multiply(turn, quaternion)
    spin = quaternions.rotate(quaternion, start.qvel[:, 3:6])
    spin = spin + scale * _within(keys[3], (envs, 3), ANGULAR_VELOCITY)
    angle = start.qpos[:, 7:] + scale * _within(keys[4], (envs, joints), START_JOINT)
    if scale > 0:
        angle = jnp.clip(angle, constants.soft_lower[None], constants.soft_upper[None])
    position = start.qpos[:, :3] + scale * _within(keys[0], (envs, 3), START_POSITION)
    velocity = start.qvel[:, :3] + scale * _within(keys[2], (envs, 3), LINEAR_VELOCITY)
    qpos = jnp.concatenate([position, turned, angle], axis=1)
    spin = quaternions.rotate_back(turned, spin)
    return qpos, jnp.concatenate([velocity, spin, start.qvel[:, 6:]], axis=1)


def push(key: Key[Array, ""], quaternion: Float[Array, "envs 4"]) -> Float[Array, "envs 6"]:
    """Draws sudden changes of the root's velocity: linear (world), angular (body)."""
    keys = jax.random.split(key)
    envs = quaternion.shape[0]
    spin = _within(keys[1], (envs, 3), ANGULAR_VELOCITY)
    linear = _within(keys[0], (envs, 3), LINEAR_VELOCITY)
    return jnp.concatenate([linear, quaternions.rotate_back(quaternion, spin)], axis=1)


def _within(
    key: Key[Array, ""], shape: tuple[int, ...], bound: float | tuple[float, ...]
) -> Float[Array, "..."]:
    return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0) * jnp.asarray(
        bound, jnp.float32
    ).reshape((1,) * (len(shape) - 1) + (-1,))
