"""Body poses and velocities of clips against MuJoCo, one frame at a time."""

import mujoco
import numpy as np
import pytest

from motion.kinematics import clip_kinematics
from motion.robots import humanoid_robot

from .tiny import tiny_robot


def states(robot, frames, seed=0):
    generator = np.random.default_rng(seed)
    qpos = generator.normal(size=(frames, robot.model.nq))
    qpos[:, 3:7] /= np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
    return qpos, generator.normal(size=(frames, robot.model.nv))


@pytest.mark.parametrize("make", [tiny_robot, humanoid_robot])
def test_bodies_are_where_mujoco_says(make):
    robot = make()
    model, data = robot.model, mujoco.MjData(robot.model)
    qpos, qvel = states(robot, 12)
    motion = clip_kinematics(robot, qpos, qvel)
    velocity = np.zeros(6)
    for frame in range(12):
        data.qpos[:], data.qvel[:] = qpos[frame], qvel[frame]
        mujoco.mj_forward(model, data)
        for place, body in enumerate(robot.tracked_ids):
            np.testing.assert_allclose(motion.position[frame, place], data.xpos[body], atol=1e-12)
            np.testing.assert_allclose(
                motion.quaternion[frame, place], data.xquat[body], atol=1e-12
            )
            mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, body, velocity, 0)
            np.testing.assert_allclose(
                motion.angular_velocity[frame, place], velocity[:3], atol=1e-10
            )
            np.testing.assert_allclose(
                motion.linear_velocity[frame, place], velocity[3:], atol=1e-10
            )


def test_velocities_are_derivatives_of_positions():
    robot = humanoid_robot()
    qpos, qvel = states(robot, 1, seed=1)
    moved = qpos.copy()
    step = 1e-6
    mujoco.mj_integratePos(robot.model, moved[0], qvel[0], step)
    before, after = (clip_kinematics(robot, q, qvel) for q in (qpos, moved))
    slope = (after.position - before.position) / step
    np.testing.assert_allclose(before.linear_velocity, slope, atol=1e-4)


def test_long_clips_are_computed_in_parts():
    robot = tiny_robot()
    qpos, qvel = states(robot, 600)
    whole = clip_kinematics(robot, qpos, qvel)
    part = clip_kinematics(robot, qpos[500:510], qvel[500:510])
    for a, b in zip(whole, part, strict=True):
        np.testing.assert_array_equal(a[500:510], b)


def test_states_of_another_robot_are_refused():
    robot = tiny_robot()
    qpos, qvel = states(robot, 3)
    with pytest.raises(ValueError, match="tiny needs qpos"):
        clip_kinematics(robot, qpos[:, :-1], qvel)
    with pytest.raises(ValueError, match="at least one frame"):
        clip_kinematics(robot, qpos[:0], qvel[:0])
