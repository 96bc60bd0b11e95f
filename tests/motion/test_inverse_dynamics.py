"""Torques along a clip: balances nobody can argue with, and the simulator that follows them."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from motion import inverse_dynamics
from motion.builtin_clips import builtin_clip
from motion.clips import build_clip_bank
from motion.env import EnvConfig, make_env
from motion.evaluation import Evaluator, nothing, survival_starts
from motion.formats.clip_files import ReadOptions, load_clip
from motion.formats.mjcf import load_robot
from motion.robots import humanoid_robot

WEIGHT_SHARE = 1e-3


@pytest.fixture(scope="module")
def robot():
    return humanoid_robot()


def _weight(robot):
    return 9.81 * mujoco.mj_getTotalmass(robot.model)


def _moved(clip, height):
    root = clip.root_position.copy()
    root[:, 2] += height
    return clip._replace(root_position=root)


def test_who_stands_lacks_nothing_and_who_hangs_in_the_air_lacks_its_weight(robot):
    stand = builtin_clip(robot, "stand")
    forces = inverse_dynamics.clip_forces(robot, stand)
    assert np.abs(forces.missing[:, :3]).max() < 0.01 * _weight(robot)
    hanging = inverse_dynamics.clip_forces(robot, _moved(stand, 1.0))
    np.testing.assert_allclose(hanging.missing[:, 2], _weight(robot), rtol=0.02)


def test_who_falls_freely_needs_neither_floor_nor_root(robot):
    stand = builtin_clip(robot, "stand")
    time = np.arange(stand.num_frames) / stand.fps
    still = stand._replace(
        joint_position=np.repeat(stand.joint_position[:1], stand.num_frames, 0),
        root_position=np.repeat(stand.root_position[:1], stand.num_frames, 0),
        root_quaternion=np.repeat(stand.root_quaternion[:1], stand.num_frames, 0),
    )
    falling = _moved(still, 1000.0 - 0.5 * 9.81 * time**2)
    forces = inverse_dynamics.clip_forces(robot, falling)
    inner = slice(5, -5)  # differences are one-sided at the ends
    assert np.abs(forces.missing[inner, :3]).max() < WEIGHT_SHARE * _weight(robot)
    assert np.abs(forces.torque[inner]).max() < WEIGHT_SHARE * _weight(robot)


def test_torques_of_joints_without_feet_are_those_of_the_free_robot(robot):
    clip = builtin_clip(robot, "wave")
    ours = inverse_dynamics.clip_forces(robot, clip).torque
    free = inverse_dynamics.free_torques(robot, clip)
    arms = [i for i, name in enumerate(robot.joint_names) if "shoulder" in name or "elbow" in name]
    assert len(arms) >= 4
    smooth = np.stack([np.convolve(column, np.ones(5) / 5, "same") for column in free.T], 1)
    scale = np.abs(free[:, arms]).max()
    np.testing.assert_allclose(ours[3:-3][:, arms], smooth[3:-3][:, arms], atol=0.05 * scale)


def test_a_real_walk_over_a_level_floor_lacks_little_and_as_it_was_read_a_lot(data_folder):
    try:
        g1 = load_robot("g1")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    missing = {}
    for is_levelled in (True, False):
        path = f"{data_folder}/motion/g1_asap/walk_level1.npz"
        clip = load_clip(path, g1, ReadOptions(is_levelled=is_levelled)).clip
        forces = inverse_dynamics.clip_forces(g1, clip).missing[:, :3]
        missing[is_levelled] = np.linalg.norm(forces, axis=1).mean() / _weight(g1)
    assert missing[True] < 0.05
    assert missing[False] > 0.25


def _survivors(robot, bank, centre):
    calm = EnvConfig(action_centre=centre).calm()
    env = make_env(robot, calm, num_envs=16)
    still = Evaluator(env, nothing(env))
    trials, _ = still.play(bank, None, survival_starts(bank, 16, 100), 100)
    return trials.survived.mean(), trials.errors["joint"].mean()


def test_with_the_torques_of_a_squat_no_action_at_all_squats(robot):
    clip = builtin_clip(robot, "squat")
    bank = build_clip_bank(robot, [clip], control_rate=robot.control_rate)
    bank = inverse_dynamics.with_targets(robot, bank, [clip])
    with_torques, angles = _survivors(robot, bank, "feedforward")
    without, angles_without = _survivors(robot, bank, "reference")
    assert with_torques == 1.0
    assert without < 0.7
    assert angles < 0.2 * angles_without


def test_a_bank_without_targets_says_what_is_missing(robot):
    clip = builtin_clip(robot, "stand")
    bank = build_clip_bank(robot, [clip], control_rate=robot.control_rate)
    env = make_env(robot, EnvConfig(action_centre="feedforward"), num_envs=2)
    starts = survival_starts(bank, 2, 10)
    state = env.reset(bank, jax.random.key(0), starts)
    action = jnp.zeros((2, robot.num_joints))
    with pytest.raises(ValueError, match=r"inverse_dynamics\.with_targets"):
        env.step(bank, state, action, starts, jax.random.key(0))


def test_targets_ask_for_no_more_than_the_motors_have(robot, monkeypatch):
    clip = builtin_clip(robot, "stand")
    bank = build_clip_bank(robot, [clip], control_rate=robot.control_rate)
    huge = np.full((len(bank.qpos), robot.num_joints), 1e6)
    forces = inverse_dynamics.ClipForces(huge, np.zeros((len(huge), 6)))
    monkeypatch.setattr(inverse_dynamics, "clip_forces", lambda *_, **__: forces)
    target = inverse_dynamics.joint_targets(robot, clip)
    given = robot.stiffness * (target - np.asarray(bank.qpos[:, 7:]))
    given -= robot.damping * np.asarray(bank.qvel[:, 6:])
    np.testing.assert_allclose(given, np.tile(robot.effort_limit, (len(huge), 1)), rtol=1e-4)
