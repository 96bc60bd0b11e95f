"""PPO: advantages against a plain loop, what ends count, and that it learns."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from motion import networks, ppo
from motion.networks import NetworkConfig
from motion.normalisation import init_moments, merge, normalise
from motion.ppo import PpoConfig, Rollout

from . import control_tasks

SMALL = PpoConfig(
    num_epochs=2, num_minibatches=2, network=NetworkConfig(hidden=(16,), initial_std=0.5)
)


def _advantages_by_loop(config, value, after, reward, terminated, is_over):
    steps, envs = reward.shape
    found = np.zeros((steps, envs))
    for env in range(envs):
        later = 0.0
        for t in reversed(range(steps)):
            worth = 0.0 if terminated[t, env] else after[t, env]
            delta = reward[t, env] + config.discount * worth - value[t, env]
            keep = 0.0 if is_over[t, env] else config.discount * config.trace_decay
            later = delta + keep * later
            found[t, env] = later
    return found


def test_advantages_match_a_plain_loop():
    rng = np.random.default_rng(0)
    value, after, reward = rng.normal(size=(3, 12, 5)).astype(np.float32)
    terminated = rng.random((12, 5)) < 0.2
    is_over = terminated | (rng.random((12, 5)) < 0.2)
    ours = ppo.advantages(
        SMALL,
        *(jnp.asarray(x) for x in (value, after, reward)),
        jnp.asarray(terminated),
        jnp.asarray(is_over),
    )
    plain = _advantages_by_loop(SMALL, value, after, reward, terminated, is_over)
    np.testing.assert_allclose(ours, plain, atol=1e-5)


def test_the_state_after_a_time_out_counts_and_after_a_failure_does_not():
    one = jnp.ones((1, 1))
    yes, no = jnp.ones((1, 1), bool), jnp.zeros((1, 1), bool)
    timed_out = ppo.advantages(SMALL, 0 * one, 2 * one, one, no, yes)
    failed = ppo.advantages(SMALL, 0 * one, 2 * one, one, yes, yes)
    assert float(timed_out[0, 0]) == pytest.approx(1 + SMALL.discount * 2)
    assert float(failed[0, 0]) == pytest.approx(1.0)


def test_moments_do_not_depend_on_the_order_or_size_of_batches():
    rows = np.random.default_rng(1).normal(3.0, 2.0, size=(60, 4)).astype(np.float32)
    at_once = merge(init_moments(4), jnp.asarray(rows))
    in_parts = init_moments(4)
    for part in (rows[40:], rows[:7], rows[7:40]):
        in_parts = merge(in_parts, jnp.asarray(part))
    np.testing.assert_allclose(at_once.mean, rows.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(in_parts.mean, at_once.mean, atol=1e-5)
    np.testing.assert_allclose(in_parts.variance, rows.var(axis=0), rtol=1e-4)
    assert float(in_parts.count) == 60


def test_rows_that_are_not_finite_do_not_reach_the_moments():
    rows = jnp.array([[1.0, 2.0], [jnp.nan, 0.0], [3.0, jnp.inf], [5.0, 4.0]])
    moments = merge(init_moments(2), rows)
    np.testing.assert_allclose(moments.mean, [3.0, 3.0], atol=1e-6)
    untouched = merge(moments, jnp.full((3, 2), jnp.nan))
    assert float(untouched.count) == 2
    np.testing.assert_array_equal(untouched.mean, moments.mean)


def test_nothing_seen_leaves_observations_as_they_are():
    seen = jnp.array([[0.5, -2.0]])
    np.testing.assert_allclose(normalise(init_moments(2), seen), seen)


def _bandit_rollout(config, key, learner, best):
    """One step per environment: reward falls with the distance from `best`."""
    seen = jnp.ones((64, 2))
    action = ppo.act(config, jax.random.normal(key, (64, 3)), learner, seen)
    reward = -jnp.sum((action.value - best[None]) ** 2, axis=1)
    yes = jnp.ones((1, 64), bool)
    parts = (seen, seen, action.value, action.log_prob, action.mean, reward)
    return Rollout(*(part[None] for part in parts), yes, yes, seen[None])


def test_the_policy_moves_to_the_action_that_pays():
    best = jnp.array([0.8, -0.4, 0.0])
    learner = ppo.init_learner(SMALL, jax.random.key(0), actor_size=2, critic_size=2, num_actions=3)

    @jax.jit
    def iterate(learner, key):
        rollout = _bandit_rollout(SMALL, key, learner, best)
        return ppo.learn(SMALL, jax.random.fold_in(key, 1), learner, rollout)

    first = ppo.mean_action(SMALL, learner, jnp.ones((1, 2)))[0]
    for number in range(60):
        learner, metrics = iterate(learner, jax.random.key(number))
    last = ppo.mean_action(SMALL, learner, jnp.ones((1, 2)))[0]
    assert iterate._cache_size() == 1
    assert float(jnp.linalg.norm(last - best)) < 0.25 * float(jnp.linalg.norm(first - best))
    assert all(np.isfinite(float(value)) for value in metrics.values())


def test_a_gradient_that_is_not_finite_changes_nothing():
    learner = ppo.init_learner(SMALL, jax.random.key(0), actor_size=2, critic_size=2, num_actions=3)
    rollout = _bandit_rollout(SMALL, jax.random.key(1), learner, jnp.zeros(3))
    broken = rollout._replace(reward=rollout.reward.at[0, 0].set(jnp.nan))
    after, metrics = ppo.learn(SMALL, jax.random.key(2), learner, broken)
    # a run that learns nothing is stopped by this, see `training.fault`
    assert np.isnan(metrics["gradient_norm"])
    assert float(metrics["updates_left_out"]) == 1.0
    for old, new in zip(
        jax.tree.leaves(learner.params), jax.tree.leaves(after.params), strict=True
    ):
        np.testing.assert_array_equal(old, new)


def test_the_first_mean_action_is_near_zero():
    learner = ppo.init_learner(SMALL, jax.random.key(3), actor_size=5, critic_size=2, num_actions=3)
    seen = jax.random.normal(jax.random.key(4), (32, 5))
    assert float(jnp.max(jnp.abs(ppo.mean_action(SMALL, learner, seen)))) < 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_epochs": 0}, "num_epochs"),
        ({"noise_steps": 0}, "noise_steps"),
        ({"learning_rate": 1.0}, "learning_rate"),
        ({"discount": 1.1}, "discount"),
        ({"clip": 0.0}, "clip"),
        ({"desired_kl": -1.0}, "desired_kl"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **settings)


def test_a_rollout_that_does_not_divide_is_refused():
    config = dataclasses.replace(SMALL, num_minibatches=7)
    learner = ppo.init_learner(
        config, jax.random.key(0), actor_size=2, critic_size=2, num_actions=3
    )
    rollout = _bandit_rollout(config, jax.random.key(1), learner, jnp.zeros(3))
    with pytest.raises(ValueError, match="does not divide into 7 minibatches"):
        ppo.learn(config, jax.random.key(2), learner, rollout)


def test_networks_of_no_width_are_refused():
    with pytest.raises(ValueError, match="hidden"):
        NetworkConfig(hidden=(0,))
    with pytest.raises(ValueError, match="initial_std"):
        networks.NetworkConfig(initial_std=0.0)


@pytest.mark.slow
def test_it_learns_to_swing_up_a_pendulum_in_a_minute():
    config = PpoConfig(
        learning_rate=1e-3,
        num_minibatches=8,
        discount=0.97,
        entropy_weight=0.002,
        network=NetworkConfig(hidden=(64, 64), initial_std=0.7),
    )
    train = jax.jit(
        lambda key: control_tasks.train_pendulum(config, key, envs=128, steps=32, iterations=250)
    )
    learner, rewards = train(jax.random.key(0))
    height = control_tasks.play_pendulum(config, learner, jax.random.key(9), 64)
    is_up = jnp.mean(height[-30:] > 0.9, axis=0) > 0.95
    assert float(jnp.mean(height[:10])) < -0.8, "it must start hanging"
    assert float(jnp.mean(is_up)) > 0.9, f"upright at the end: {float(jnp.mean(is_up)):.2f}"
    assert float(rewards[-1]) > 3 * float(jnp.abs(rewards[0]))
