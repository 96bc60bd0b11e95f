"""Body poses and velocities of clips against MuJoCo, one frame at a time."""

import dataclasses
import functools
import os

import jax
import mujoco
import numpy as np
import pytest

from motion import kinematics
from motion.kinematics import clip_kinematics
from motion.robots import build_robot, humanoid_robot
from motion.tree_kinematics import bodies_at, tree_of

from .tiny import DESCRIPTION, tiny_robot, tiny_spec


def twisted_robot():
    """Turned bodies, hinges off their origins and not at zero, two in one body, a body without."""
    spec = tiny_spec()
    leg = spec.body("left_leg")
    leg.quat, leg.joints[0].pos, leg.joints[0].ref = [0.8, 0.3, -0.4, 0.2], [0.02, 0.1, -0.3], 0.4
    leg.add_joint(
        name="left_twist",
        type=mujoco.mjtJoint.mjJNT_HINGE,
        axis=[0.6, 0.0, 0.8],
        pos=[-0.1, 0.03, 0.05],
        range=[-1.0, 1.0],
        limited=True,
    )
    fixed = leg.add_body(name="left_shin", pos=[0.1, 0.2, 0.3], quat=[0.6, 0.0, 0.8, 0.0])
    toe = fixed.add_body(name="left_toe", pos=[-0.2, 0.1, 0.0], quat=[0.0, 0.6, 0.8, 0.0])
    toe.add_joint(
        name="left_toe",
        type=mujoco.mjtJoint.mjJNT_HINGE,
        axis=[1.0, 0.0, 0.0],
        range=[-1.0, 1.0],
        limited=True,
    )
    for body in (fixed, toe):
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.05, 0, 0])
    tracked = (*DESCRIPTION.tracked_bodies, "left_toe", "left_shin")
    description = dataclasses.replace(DESCRIPTION, tracked_bodies=tracked)
    return build_robot(spec, description, num_substeps=2)


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


@pytest.mark.parametrize("make", [tiny_robot, humanoid_robot, twisted_robot])
def test_the_tree_puts_bodies_where_mujoco_does(make):
    robot = make()
    qpos, qvel = states(robot, 12)
    wanted = clip_kinematics(robot, qpos, qvel)
    with jax.enable_x64():
        got = jax.jit(functools.partial(bodies_at, tree_of(robot)))(qpos, qvel)
    for name, array in got._asdict().items():
        np.testing.assert_allclose(array, getattr(wanted, name), atol=1e-10, err_msg=name)


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


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not say")
def test_clips_are_computed_in_no_more_threads_than_there_are_cores(monkeypatch):
    counts = []
    plain = kinematics.Batch

    def counted(model, size, threads):
        counts.append(threads)
        return plain(model, size, threads)

    monkeypatch.setattr(kinematics, "Batch", counted)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {7})
    robot = tiny_robot()
    clip_kinematics(robot, *states(robot, 3))
    assert counts == [1]
