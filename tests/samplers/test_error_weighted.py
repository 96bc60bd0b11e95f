"""What `error_weighted` promises beyond the conformance table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from samplers import error_weighted
from samplers.base import Draw, Feedback
from samplers.error_weighted import ErrorWeightedConfig
from tests import oracles
from tests.statistics import assert_mean_close

N, BATCH = 64, 32


def config(**settings):
    return ErrorWeightedConfig(
        **{"num_items": N, "batch_size": BATCH, "warmup_steps": 0} | settings
    )


def taught(cfg, losses, steps=40):
    """A state that has seen the same losses for a while."""
    sampler = error_weighted.make(cfg)
    losses = jnp.asarray(losses)

    def one(state, step):
        draw = sampler.sample(jax.random.fold_in(jax.random.key(0), step), state)
        return sampler.update(state, draw, Feedback(losses[draw.items])), None

    scan = jax.jit(lambda state: jax.lax.scan(one, state, jnp.arange(steps))[0])
    return sampler, scan(sampler.init(jax.random.key(0)))


def test_probabilities_become_proportional_to_loss_above_an_exact_floor():
    losses = np.linspace(0.1, 3.0, N).astype(np.float32)
    sampler, state = taught(config(decay=0.0, mean_decay=0.99), losses, steps=200)
    probs = np.asarray(sampler.probabilities(state))
    np.testing.assert_allclose(probs, oracles.mixture(losses, 0.25), rtol=0.15)
    assert probs.min() >= 0.25 / N


def test_warmup_is_uniform_and_then_ends():
    losses = np.linspace(0.1, 3.0, N).astype(np.float32)
    sampler, state = taught(config(warmup_steps=41), losses, steps=40)
    np.testing.assert_allclose(sampler.probabilities(state), 1 / N, rtol=1e-5)
    after = state._replace(step=jnp.asarray(41, jnp.int32))
    assert np.ptp(np.asarray(sampler.probabilities(after))) > 0.5 / N


def test_sampling_is_handed_back_to_uniform_once_the_length_of_the_run_is_known():
    cfg = config(warmup_steps=5, handback_from=0.5, handback_over=0.25)
    sampler, state = taught(cfg, np.linspace(0.1, 3.0, N).astype(np.float32), steps=30)
    unplanned = np.asarray(sampler.probabilities(state))
    assert np.ptp(unplanned) > 0.5 / N
    for length, is_uniform in ((60, False), (40, True), (80, False)):
        probs = np.asarray(sampler.probabilities(sampler.plan(state, length)))
        if is_uniform:
            np.testing.assert_allclose(probs, 1 / N, rtol=1e-5)
        else:
            np.testing.assert_array_equal(probs, unplanned)


@pytest.mark.parametrize("length", [0, -5, float("nan")])
def test_a_run_has_at_least_one_step(length):
    sampler = error_weighted.make(config())
    with pytest.raises(ValueError, match="num_steps must be at least 1"):
        sampler.plan(sampler.init(jax.random.key(0)), length)


def test_weights_are_bounded_by_one_over_the_floor():
    losses = np.zeros(N, np.float32)
    losses[3] = 1.0
    sampler, state = taught(config(decay=0.0), losses, steps=100)
    weights = jax.jit(sampler.sample)(jax.random.key(5), state).weights
    assert float(jnp.max(weights)) <= 4.0 * (1 + 1e-5)


def test_items_never_visited_keep_counting_as_average_while_losses_fall():
    sampler = error_weighted.make(config(decay=0.0))
    state = sampler.init(jax.random.key(0))
    items = jnp.arange(BATCH, dtype=jnp.int32)
    draw = Draw(items=items, probs=jnp.full(BATCH, 1 / N), weights=jnp.ones(BATCH))
    update = jax.jit(sampler.update)
    for step in range(50):
        state = update(state, draw, Feedback(jnp.full(BATCH, 10.0 * 0.97**step)))
    probs = np.asarray(sampler.probabilities(state)) * N
    np.testing.assert_allclose(probs[BATCH:], probs[:BATCH].mean(), rtol=0.5)


def test_all_zero_losses_mean_uniform():
    sampler, state = taught(config(), np.zeros(N, np.float32))
    np.testing.assert_allclose(sampler.probabilities(state), 1 / N, rtol=1e-5)


def test_scores_are_written_only_when_due():
    sampler = error_weighted.make(config(update_frequency=3))
    state = sampler.init(jax.random.key(0))
    changed = []
    update = jax.jit(sampler.update)
    draw = jax.jit(sampler.sample)(jax.random.key(1), state)
    for _ in range(6):
        after = update(state, draw, Feedback(jnp.linspace(0.1, 1.0, BATCH)))
        changed.append(bool(jnp.any(after.weights.leaves != state.weights.leaves)))
        state = after
    assert changed == [True, False, False, True, False, False]


@pytest.mark.parametrize("focus", [1.0, 2.0])
def test_weighted_gradient_is_unbiased(focus):
    features = np.random.default_rng(0).normal(size=(N, 2)).astype(np.float32)
    targets = np.sin(3.0 * features[:, 0]) + (features[:, 1] > 1)
    theta = jnp.array([0.3, -0.2])

    def loss(theta, index):
        return (jnp.asarray(features)[index] @ theta - jnp.asarray(targets)[index]) ** 2

    sampler, state = taught(config(focus=focus), loss(theta, jnp.arange(N)))
    exact = jax.grad(lambda t: jnp.mean(loss(t, jnp.arange(N))))(theta)

    def estimate(key):
        draw = sampler.sample(key, state)
        return jax.grad(lambda t: jnp.mean(draw.weights * loss(t, draw.items)))(theta)

    estimates = jax.jit(jax.vmap(estimate))(jax.random.split(jax.random.key(9), 3000))
    assert_mean_close(estimates, exact)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_items": 0}, "num_items"),
        ({"num_items": 2**31}, "num_items"),
        ({"batch_size": 0}, "batch_size"),
        ({"uniform_fraction": 0.0}, "uniform_fraction"),
        ({"uniform_fraction": float("nan")}, "uniform_fraction"),
        ({"decay": 1.5}, "decay"),
        ({"correction": -0.1}, "correction"),
        ({"focus": -1.0}, "focus"),
        ({"update_frequency": 0}, "update_frequency"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"handback_from": 0.0}, "handback_from"),
        ({"handback_from": 1.5}, "handback_from"),
        ({"handback_from": 0.5, "handback_over": -0.1}, "handback_over"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        config(**settings)
