"""Every observation, reward and termination term against plain NumPy over random states."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from motion import errors, observations, rewards, terminations, tracking
from motion.robots import humanoid_robot
from motion.tracking import Bodies, Physical

from . import task_oracle
from .tiny import random_physical

COUNT = 32
ROBOT = humanoid_robot()
REWARD_NAMES = [term.name for term in rewards.REWARDS]
OBSERVATION_NAMES = [term.name for term in observations.CRITIC]
LENIENCIES = (1.0, 1.5)
TERMINATION_NAMES = [term.name for term in terminations.TERMINATIONS]


def to_physical(state):
    arrays = {name: jnp.asarray(value, jnp.float32) for name, value in state.items()}
    bodies = Bodies(
        arrays["position"],
        arrays["quaternion"],
        arrays["linear_velocity"],
        arrays["angular_velocity"],
    )
    return Physical(arrays["qpos"], arrays["qvel"], bodies)


@functools.cache
def case():
    """Random states, what the package computes of them, and what the oracle does."""
    generator = np.random.default_rng(0)
    now = random_physical(generator, ROBOT, COUNT)
    reference = random_physical(generator, ROBOT, COUNT)
    near = slice(0, COUNT // 2)
    for name, array in reference.items():
        array[near] = now[name][near] + 0.05 * generator.normal(size=array[near].shape)
    for state in (now, reference):
        state["quaternion"] /= np.linalg.norm(state["quaternion"], axis=-1, keepdims=True)
        state["qpos"][:, 3:7] /= np.linalg.norm(state["qpos"][:, 3:7], axis=-1, keepdims=True)
    actions = generator.normal(size=(3, COUNT, ROBOT.num_joints))
    ours = jax.jit(compute)(
        to_physical(now), to_physical(reference), *jnp.asarray(actions, jnp.float32)
    )
    rows = []
    for i in range(COUNT):
        a, b = ({k: v[i] for k, v in state.items()} for state in (now, reference))
        action, last, offset = (array[i] for array in actions)
        rows.append(
            {
                "rewards": task_oracle.errors_and_penalties(ROBOT, a, b, action, last),
                "observations": task_oracle.observations(ROBOT, a, b, action, offset),
                "terminations": task_oracle.terminations(ROBOT, a, b),
            }
        )
    return ours, rows


def track(now, reference, action, last_action, joint_offset):
    return tracking.compare(
        ROBOT,
        tracking.constants_of(ROBOT),
        now,
        reference,
        action=action,
        last_action=last_action,
        joint_offset=joint_offset,
    )


def compute(now, reference, action, last_action, joint_offset):
    def one(*parts):
        moment = track(*parts)
        paid = {**rewards.ERRORS, **rewards.PENALTIES}
        return {
            "rewards": {name: paid[name](ROBOT, moment) for name in REWARD_NAMES},
            "total": rewards.reward_terms(rewards.REWARDS, ROBOT, moment),
            "observations": {
                name: observations.TERMS[name](ROBOT, moment) for name in OBSERVATION_NAMES
            },
            "actor": observations.observe(observations.ACTOR, ROBOT, moment),
            "terminations": {
                name: terminations.TERMS[name](ROBOT, moment) for name in TERMINATION_NAMES
            },
            "failed": {
                leniency: terminations.has_failed(
                    terminations.TERMINATIONS, ROBOT, moment, leniency=leniency
                )
                for leniency in LENIENCIES
            },
        }

    return jax.vmap(one)(now, reference, action, last_action, joint_offset)


@pytest.mark.parametrize("name", REWARD_NAMES)
def test_reward_errors_match_numpy(name):
    ours, rows = case()
    expected = [row["rewards"][name] for row in rows]
    np.testing.assert_allclose(ours["rewards"][name], expected, rtol=2e-5, atol=2e-5)


def test_rewards_are_weighted_exponentials_times_the_step():
    ours, rows = case()
    for place, term in enumerate(rewards.REWARDS):
        value = np.array([row["rewards"][term.name] for row in rows])
        expected = value if term.std is None else np.exp(-value / term.std**2)
        np.testing.assert_allclose(
            ours["total"][:, place], term.weight * expected * 0.02, rtol=1e-3, atol=1e-6
        )


@pytest.mark.parametrize("name", OBSERVATION_NAMES)
def test_observations_match_numpy(name):
    ours, rows = case()
    expected = np.stack([row["observations"][name] for row in rows])
    np.testing.assert_allclose(ours["observations"][name], expected, rtol=2e-5, atol=2e-5)


def test_observation_is_its_terms_side_by_side():
    ours, rows = case()
    names = [term.name for term in observations.ACTOR]
    expected = np.stack([np.concatenate([row["observations"][n] for n in names]) for row in rows])
    np.testing.assert_allclose(ours["actor"], expected, rtol=2e-5, atol=2e-5)
    sizes = observations.term_sizes(observations.ACTOR, ROBOT)
    assert sizes == tuple(len(rows[0]["observations"][name]) for name in names)


@pytest.mark.parametrize("name", TERMINATION_NAMES)
def test_terminations_match_numpy(name):
    ours, rows = case()
    expected = [row["terminations"][name] for row in rows]
    np.testing.assert_allclose(ours["terminations"][name], expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("leniency", LENIENCIES)
def test_an_episode_fails_when_any_term_exceeds_its_limit(leniency):
    ours, rows = case()
    limits = {term.name: leniency * term.limit for term in terminations.TERMINATIONS}
    expected = [any(row["terminations"][n] > limits[n] for n in limits) for row in rows]
    assert any(expected)
    assert not all(expected)
    np.testing.assert_array_equal(ours["failed"][leniency], expected)


def perfect(index=0):
    state = random_physical(np.random.default_rng(index), ROBOT, 1)
    state["qpos"][:, 7:] = ROBOT.default_joint_position
    state["position"][..., 2] += 5.0
    one = jax.tree.map(lambda x: x[0], to_physical(state))
    zero = jnp.zeros(ROBOT.num_joints)
    return one, track(one, one, zero, zero, zero)


def test_perfect_tracking_pays_the_tracking_weights():
    _, moment = perfect()
    terms = rewards.reward_terms(rewards.REWARDS, ROBOT, moment)
    expected = [t.weight * 0.02 if t.std else 0.0 for t in rewards.REWARDS]
    np.testing.assert_allclose(terms, expected, atol=1e-5)
    assert not terminations.has_failed(terminations.TERMINATIONS, ROBOT, moment)


def test_moving_and_turning_both_leaves_re_anchored_terms_alone():
    one, _ = perfect()
    turn = np.array([np.cos(0.4), 0.0, 0.0, np.sin(0.4)])
    rotate = task_oracle.rotation(turn)
    bodies = one.bodies._replace(
        position=jnp.asarray(
            rotate.apply(one.bodies.position) + np.array([1.0, -2.0, 0.0]), jnp.float32
        ),
        quaternion=jnp.asarray(
            [
                (rotate * task_oracle.rotation(q)).as_quat()[[3, 0, 1, 2]]
                for q in one.bodies.quaternion
            ],
            jnp.float32,
        ),
    )
    zero = jnp.zeros(ROBOT.num_joints)
    moved = track(one._replace(bodies=bodies), one, zero, zero, zero)
    assert rewards.anchor_position(ROBOT, moved) > 1.0
    np.testing.assert_allclose(rewards.body_position(ROBOT, moved), 0.0, atol=1e-9)
    np.testing.assert_allclose(rewards.body_orientation(ROBOT, moved), 0.0, atol=1e-6)
    assert not terminations.has_failed(terminations.TERMINATIONS, ROBOT, moved)
    measured = errors.tracking_errors(ROBOT, jax.tree.map(lambda x: x[None], moved))
    np.testing.assert_allclose(measured.body_anchored, 0.0, atol=1e-5)
    np.testing.assert_allclose(measured.anchor_angle, 0.8, atol=1e-5)
    assert measured.body_world[0] > 1.0
    assert measured.joint[0] == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6])
def test_a_state_that_is_not_finite_has_failed(bad):
    one, moment = perfect()
    broken = moment._replace(now=one._replace(qvel=one.qvel.at[3].set(bad)))
    assert terminations.has_failed(terminations.TERMINATIONS, ROBOT, broken)


def test_tables_refuse_unknown_terms_and_bad_numbers():
    with pytest.raises(ValueError, match="no reward term"):
        rewards.RewardTerm(name="style", weight=1.0)
    with pytest.raises(ValueError, match="std"):
        rewards.RewardTerm(name="body_position", weight=1.0)
    with pytest.raises(ValueError, match="std"):
        rewards.RewardTerm(name="action_rate", weight=1.0, std=1.0)
    with pytest.raises(ValueError, match="finite"):
        rewards.RewardTerm(name="action_rate", weight=np.nan)
    with pytest.raises(ValueError, match="no observation term"):
        observations.ObservationTerm(name="phase")
    with pytest.raises(ValueError, match="noise"):
        observations.ObservationTerm(name="last_action", noise=-1.0)
    with pytest.raises(ValueError, match="no termination term"):
        terminations.TerminationTerm(name="boredom", limit=1.0)
    with pytest.raises(ValueError, match="limit"):
        terminations.TerminationTerm(name="anchor_tilt", limit=0.0)
