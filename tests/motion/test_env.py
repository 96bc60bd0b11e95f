"""Laws of the environment, on the C engine with a tiny robot."""

import dataclasses

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from motion import perturbations, tracking
from motion.env import EnvConfig, make_env
from motion.kinematics import clip_kinematics
from motion.physics import make_physics
from samplers.motion_bins import MotionTime

from . import task_oracle
from .tiny import tiny_bank, tiny_robot

ENVS = 6
ROBOT = tiny_robot()
BANK = tiny_bank(ROBOT)
CALM = dataclasses.replace(EnvConfig().calm(), episode_seconds=0.5)
WILD = EnvConfig(episode_seconds=0.5, push_seconds=(0.04, 0.1))
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def calm():
    return make_env(ROBOT, CALM, num_envs=ENVS, physics="c")


@pytest.fixture(scope="module")
def wild():
    return make_env(ROBOT, WILD, num_envs=ENVS, physics="c")


def starts_at(clip, frame):
    return MotionTime(
        jnp.broadcast_to(jnp.asarray(clip, jnp.int32), (ENVS,)),
        jnp.broadcast_to(jnp.asarray(frame, jnp.int32), (ENVS,)),
    )


def nothing():
    return jnp.zeros((ENVS, ROBOT.num_joints))


def same(a, b):
    flat_a, flat_b = (jax.tree.leaves(tree) for tree in (a, b))
    assert len(flat_a) == len(flat_b)
    for x, y in zip(flat_a, flat_b, strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def check_kinematics(now):
    qpos, qvel = np.asarray(now.qpos, np.float64), np.asarray(now.qvel, np.float64)
    for ours, theirs in zip(now.bodies, clip_kinematics(ROBOT, qpos, qvel), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_a_calm_start_is_the_reference(calm):
    frames = jnp.arange(ENVS, dtype=jnp.int32) * 7
    state = calm.reset(BANK, KEY, starts_at(0, frames))
    np.testing.assert_allclose(state.now.qpos, BANK.qpos[frames], atol=1e-6)
    np.testing.assert_allclose(state.now.qvel, BANK.qvel[frames], atol=1e-6)
    np.testing.assert_allclose(state.now.bodies.position, BANK.body_position[frames], atol=1e-5)
    joints = ROBOT.num_joints
    shown = state.observation.actor[:, :joints]
    np.testing.assert_allclose(shown, BANK.qpos[frames + 1, 7:], atol=1e-6)
    assert calm.actor_size == state.observation.actor.shape[1]
    assert calm.critic_size == state.observation.critic.shape[1]


def test_frames_count_within_their_clip(calm):
    first = int(BANK.clip_start[1])
    state = calm.reset(BANK, KEY, starts_at(1, 3))
    np.testing.assert_allclose(state.now.qpos, jnp.tile(BANK.qpos[first + 3], (ENVS, 1)), atol=1e-6)


def test_the_reward_compares_with_the_frame_shown(calm):
    state = calm.reset(BANK, KEY, starts_at(0, 10))
    state, output = calm.step(BANK, state, nothing(), starts_at(0, 0), KEY)
    np.testing.assert_array_equal(output.here.frame, 11)
    np.testing.assert_array_equal(state.frame, 11)
    gap = state.now.bodies.position - BANK.body_position[11][None]
    expected = jnp.mean(jnp.linalg.norm(gap, axis=-1), axis=-1)
    np.testing.assert_allclose(output.errors.body_world, expected, rtol=1e-4, atol=1e-6)


def test_one_step_is_the_substeps_of_mujoco(wild):
    state = wild.reset(BANK, KEY, starts_at(0, 10))
    randomisation = state.randomisation
    control = np.asarray(BANK.qpos[11, 7:]) + np.asarray(randomisation.joint_offset)
    after, _ = wild.step(BANK, state, nothing(), starts_at(0, 0), KEY)
    is_calm = np.asarray(state.push_in) > 0
    assert is_calm.any()
    for env in np.flatnonzero(is_calm):
        model = ROBOT.model.__copy__()
        model.pair_friction[:, :2] = randomisation.friction[env]
        model.body_ipos[ROBOT.tracked_ids[ROBOT.anchor]] += randomisation.anchor_com[env]
        data = mujoco.MjData(model)
        data.qpos[:], data.qvel[:] = state.now.qpos[env], state.now.qvel[env]
        data.ctrl[:] = control[env]
        for _ in range(ROBOT.num_substeps):
            mujoco.mj_step(model, data)
        np.testing.assert_allclose(after.now.qpos[env], data.qpos, atol=1e-6)
        np.testing.assert_allclose(after.now.qvel[env], data.qvel, atol=1e-5)


def test_actions_are_added_to_the_reference_or_the_default(calm):
    action = jnp.full((ENVS, ROBOT.num_joints), 0.5)
    default = dataclasses.replace(CALM, action_centre="default", action_scale=None)
    for env, centre, scale in (
        (calm, BANK.qpos[11, 7:], 0.25),
        (
            make_env(ROBOT, default, num_envs=ENVS),
            ROBOT.default_joint_position,
            ROBOT.action_scale,
        ),
    ):
        state = env.reset(BANK, KEY, starts_at(0, 10))
        state, _ = env.step(BANK, state, action, starts_at(0, 0), KEY)
        model = ROBOT.model
        offset, size = 0, mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION)
        assert state.physics.rows.shape == (ENVS, size)
        for bit in range(16):
            flag = 1 << bit
            if flag == mujoco.mjtState.mjSTATE_CTRL:
                break
            offset += mujoco.mj_stateSize(model, flag)
        control = state.physics.rows[:, offset : offset + model.nu]
        expected = np.tile(np.asarray(centre) + scale * 0.5, (ENVS, 1))
        np.testing.assert_allclose(control, expected, atol=1e-6)


def test_ended_copies_begin_anew_at_the_starts_given_each_time(calm):
    state = calm.reset(BANK, KEY, starts_at(0, 0))
    seen = []
    for step in range(1, 60):
        key = jax.random.fold_in(KEY, step)
        starts = starts_at(step % 2, jnp.arange(ENVS, dtype=jnp.int32) + step % 30)
        state, output = calm.step(BANK, state, nothing(), starts, key)
        over = np.asarray(output.terminated | output.timed_out)
        check_kinematics(state.now)
        np.testing.assert_array_equal(state.age == 0, over)
        if over.any():
            seen.append(step)
            rows = np.asarray(BANK.clip_start[starts.clip] + starts.frame)[over]
            np.testing.assert_allclose(state.now.qpos[over], BANK.qpos[rows], atol=1e-6)
            np.testing.assert_array_equal(state.frame[over], starts.frame[over])
            np.testing.assert_array_equal(state.clip[over], starts.clip[over])
            assert not state.action[over].any()
    assert len(seen) >= 2


def test_after_a_teleport_observations_are_those_of_a_fresh_environment(calm):
    starts = starts_at(0, 20)
    state = calm.reset(BANK, KEY, starts_at(0, 95))
    for step in range(10):
        state, output = calm.step(BANK, state, nothing(), starts, jax.random.fold_in(KEY, step))
        if bool(jnp.all(output.timed_out)):
            break
    assert bool(jnp.all(output.timed_out))
    fresh = calm.reset(BANK, KEY, starts)
    np.testing.assert_allclose(state.observation.critic, fresh.observation.critic, atol=1e-5)
    np.testing.assert_allclose(state.now.bodies.position, fresh.now.bodies.position, atol=1e-6)
    assert jnp.max(jnp.abs(output.final_critic - state.observation.critic)) > 0.01


def test_the_end_of_a_clip_and_the_limit_are_time_outs_not_failures(calm):
    last = int(BANK.clip_length[0]) - 1
    state = calm.reset(BANK, KEY, starts_at(0, last - 2))
    ends = []
    for _ in range(2):
        state, output = calm.step(BANK, state, nothing(), starts_at(0, 0), KEY)
        ends.append((bool(output.timed_out.all()), bool(output.terminated.any())))
    assert ends == [(False, False), (True, False)]
    np.testing.assert_array_equal(output.here.frame, last)
    limit = round(0.5 * ROBOT.control_rate)
    for step in range(1, limit + 1):
        state, output = calm.step(BANK, state, nothing(), starts_at(0, 0), KEY)
        if bool(output.terminated.any()):
            break
        assert bool(output.timed_out.all()) == (step == limit)
    assert step > 3


def test_a_start_at_the_last_frame_is_over_at_once(calm):
    last = int(BANK.clip_length[0]) - 1
    state = calm.reset(BANK, KEY, starts_at(0, last))
    _, output = calm.step(BANK, state, nothing(), starts_at(0, 0), KEY)
    assert bool(output.timed_out.all())
    np.testing.assert_array_equal(output.here.frame, last)


def test_failures_say_where_they_happened_and_where_they_began(wild):
    state = wild.reset(BANK, KEY, starts_at(0, 40))
    flung = jnp.where(jnp.arange(ENVS)[:, None] < 2, 50.0, 0.0) * jnp.ones((1, ROBOT.num_joints))
    for step in range(30):
        state, output = wild.step(
            BANK, state, flung, starts_at(0, 40), jax.random.fold_in(KEY, step)
        )
        assert not bool(jnp.any(output.terminated & output.timed_out))
        assert bool(jnp.all(output.here.frame == output.start.frame + output.age))
        if bool(output.terminated.any()):
            break
    assert bool(output.terminated.any())


def test_lenient_limits_end_an_episode_later_and_change_nothing_else(wild):
    flung = 50.0 * jnp.ones((ENVS, ROBOT.num_joints))
    failed_at = {}
    for leniency in (1.0, 1.5):
        state, seen = wild.reset(BANK, KEY, starts_at(0, 40)), []
        for step in range(30):
            key = jax.random.fold_in(KEY, step)
            state, output = wild.step(BANK, state, flung, starts_at(0, 40), key, leniency=leniency)
            seen.append(output)
            if bool(output.terminated.any()):
                break
        failed_at[leniency] = seen
    strict, lenient = failed_at.values()
    assert len(strict) < len(lenient) < 30
    for one, other in zip(strict[:-1], lenient, strict=False):
        same(one, other)
    same(strict[-1].errors, lenient[len(strict) - 1].errors)


def test_the_same_state_and_key_give_the_same_step(wild):
    state = wild.reset(BANK, KEY, starts_at(0, 10))
    other = wild.reset(BANK, jax.random.key(9), starts_at(1, 5))
    action = jax.random.normal(KEY, (ENVS, ROBOT.num_joints))
    first = wild.step(BANK, state, action, starts_at(0, 0), KEY)
    wild.step(BANK, other, action, starts_at(0, 0), KEY)
    second = wild.step(BANK, state, action, starts_at(0, 0), KEY)
    same(first, second)
    stored = jax.tree.map(lambda x: np.array(x), state)
    fresh = dataclasses.replace(wild, physics=make_physics("c", ROBOT, ENVS))
    same(first, fresh.step(BANK, stored, action, starts_at(0, 0), KEY))


def test_noise_is_bounded_by_its_table_and_only_the_actors(wild, calm):
    state = wild.reset(BANK, KEY, starts_at(0, 10))
    joints = ROBOT.num_joints
    critic = state.observation.critic[:, : wild.actor_size]
    noise = np.abs(state.observation.actor - critic)
    bound = np.repeat(
        [term.noise for term in WILD.actor_terms],
        (joints, joints, 3, 6, 3, 3, joints, joints, joints),
    )
    assert (noise <= bound + 1e-6).all()
    assert (noise[:, bound > 0] > 0).any(axis=0).all()
    still = calm.reset(BANK, KEY, starts_at(0, 10)).observation
    np.testing.assert_array_equal(still.actor, still.critic[:, : calm.actor_size])


def test_starts_and_robots_differ_within_their_ranges():
    count = 200
    start = tracking.reference_at(BANK, jnp.zeros(count, jnp.int32), jnp.full(count, 10, jnp.int32))
    constants = tracking.constants_of(ROBOT)
    perturb = jax.jit(perturbations.perturb_start, static_argnums=3)
    qpos, qvel = (np.asarray(x) for x in perturb(KEY, constants, start, 1.0))
    from_qpos, from_qvel = np.asarray(BANK.qpos[10]), np.asarray(BANK.qvel[10])
    for gap, bounds in (
        (qpos[:, :3] - from_qpos[:3], perturbations.START_POSITION),
        (qvel[:, :3] - from_qvel[:3], perturbations.LINEAR_VELOCITY),
        (qpos[:, 7:] - from_qpos[7:], [perturbations.START_JOINT] * ROBOT.num_joints),
    ):
        assert (np.abs(gap) <= np.array(bounds) + 1e-5).all()
        assert (np.abs(gap).max(axis=0) > 0.9 * np.array(bounds)).all()
    spin = task_oracle.rotation(from_qpos[3:7]).apply(from_qvel[3:6])
    for row in range(count):
        turned = task_oracle.rotation(qpos[row, 3:7])
        turn = turned * task_oracle.rotation(from_qpos[3:7]).inv()
        assert (np.abs(turn.as_euler("xyz")) <= np.array(perturbations.START_TURN) + 1e-5).all()
        push = turned.apply(qvel[row, 3:6]) - spin
        assert (np.abs(push) <= np.array(perturbations.ANGULAR_VELOCITY) + 1e-5).all()
    draw = jax.jit(perturbations.draw_randomisation, static_argnums=(1, 2, 3))
    drawn = draw(KEY, count, ROBOT.num_joints, 1.0)
    friction = np.asarray(drawn.friction)
    low, high = perturbations.FRICTION
    assert low <= friction.min() < low + 0.05
    assert high - 0.05 < friction.max() <= high
    assert np.abs(drawn.joint_offset).max() <= perturbations.JOINT_OFFSET


def test_pushes_come_at_their_times_and_keep_within_their_range(wild):
    state = wild.reset(BANK, KEY, starts_at(0, 0))
    steps = []
    for step in range(20):
        due = np.asarray(state.push_in) <= 0
        after, output = wild.step(
            BANK, state, nothing(), starts_at(0, 0), jax.random.fold_in(KEY, step)
        )
        lives = ~np.asarray(output.terminated | output.timed_out)
        counted = np.asarray(after.push_in) == np.asarray(state.push_in) - 1
        np.testing.assert_array_equal(counted[lives], ~due[lives])
        steps.append(due.sum())
        state = after
    low, high = WILD.push_seconds
    rate = sum(steps) / (20 * ENVS)
    assert 0.5 / (high * 50) < rate < 1.0 / (low * 50)


def test_actions_that_are_not_finite_count_as_nothing(calm):
    state = calm.reset(BANK, KEY, starts_at(0, 10))
    broken = nothing().at[0].set(jnp.nan).at[1].set(jnp.inf)
    same(
        calm.step(BANK, state, broken, starts_at(0, 0), KEY),
        calm.step(BANK, state, nothing(), starts_at(0, 0), KEY),
    )


def test_a_robot_that_blew_up_fails_and_begins_anew(calm):
    state = calm.reset(BANK, KEY, starts_at(0, 10))
    rows = state.physics.rows.copy()
    rows[0, 1:20] = np.nan
    broken = state._replace(physics=state.physics._replace(rows=rows))
    after, output = calm.step(BANK, broken, nothing(), starts_at(0, 3), KEY)
    assert bool(output.terminated[0])
    assert not bool(output.terminated[1:].any())
    assert np.isfinite(np.asarray(after.now.qpos)).all()
    for leaf in jax.tree.leaves((output.reward, after.observation, output.final_critic)):
        assert np.isfinite(leaf).all()
    check_kinematics(after.now)


def test_settings_that_make_no_sense_are_refused():
    for settings in (
        {"episode_seconds": 0.0},
        {"observation_noise": -1.0},
        {"push_seconds": (2.0, 1.0)},
        {"action_scale": 0.0},
        {"actor_terms": ()},
    ):
        with pytest.raises(ValueError, match=next(iter(settings)).split("_")[0]):
            EnvConfig(**settings)
    with pytest.raises(ValueError, match="num_envs"):
        make_env(ROBOT, CALM, num_envs=0)


def test_evaluation_has_no_other_end_than_that_of_the_clip():
    """Clips of more than ten seconds were said to be played to their end after ten."""
    assert CALM.calm().episode_steps(50.0) > 10_000_000
