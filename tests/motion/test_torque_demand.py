"""Torques that clips ask for: gravity by another way, and what is said of a clip too hard."""

import mujoco
import numpy as np
import pytest

from motion.builtin_clips import builtin_clip
from motion.robots import humanoid_robot
from motion.torque_demand import torque_note, torque_shares


@pytest.fixture(scope="module")
def robot():
    return humanoid_robot()


def _held(robot, angles, frames=20):
    clip = builtin_clip(robot, "stand")
    return clip._replace(
        root_position=np.repeat(clip.root_position[:1], frames, 0),
        root_quaternion=np.repeat(clip.root_quaternion[:1], frames, 0),
        joint_position=np.repeat(angles[None], frames, 0),
    )


def test_a_pose_that_is_held_asks_for_the_slope_of_its_potential_energy(robot):
    angles = np.array(robot.default_joint_position)
    angles += np.random.default_rng(0).uniform(-0.3, 0.3, len(angles))
    clip = _held(robot, np.clip(angles, robot.lower, robot.upper))
    model, data = robot.model, mujoco.MjData(robot.model)

    def energy(joint, change):
        data.qpos[:3], data.qpos[3:7] = clip.root_position[0], clip.root_quaternion[0]
        data.qpos[7:] = clip.joint_position[0]
        data.qpos[7 + joint] += change
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        return 9.81 * float(model.body_mass @ data.xipos[:, 2])

    slopes = np.array(
        [(energy(k, 1e-5) - energy(k, -1e-5)) / 2e-5 for k in range(robot.num_joints)]
    )
    shares = torque_shares(robot, clip)
    known = ~np.isnan(shares[0])
    assert known.sum() >= 8  # arms and waist
    assert not known.all()  # legs carry the feet
    expected = np.abs(slopes) / robot.effort_limit
    np.testing.assert_allclose(shares[:, known], expected[None, known].repeat(20, 0), atol=1e-6)
    assert expected[known].max() > 0.05


def test_a_clip_that_is_too_quick_for_its_motors_is_told_and_others_are_not(robot):
    assert torque_note(robot, builtin_clip(robot, "squat")) is None
    clip = builtin_clip(robot, "stand")
    joint = clip.joint_names.index("left_shoulder_pitch_joint")
    swing = clip.joint_position.copy()
    swing[:, joint] += 0.8 * np.sin(2 * np.pi * 4.0 * np.arange(len(swing)) / clip.fps)
    note = torque_note(robot, clip._replace(joint_position=swing))
    assert note is not None
    assert "left_shoulder_pitch_joint for " in note
    assert "cannot follow it exactly" in note
