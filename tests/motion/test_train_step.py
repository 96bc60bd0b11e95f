"""The train step on the C engine with a tiny robot: keys, statistics, starts, evaluation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from motion import evaluation, starts, train_step
from motion.clips import build_clip_bank
from motion.env import EnvConfig, make_env
from motion.evaluation import Evaluator
from motion.networks import NetworkConfig
from motion.ppo import PpoConfig
from motion.train_step import TrainConfig
from samplers.motion_bins import MotionTime, bin_of

from .tiny import swaying_clip, tiny_robot

ENVS, BIN = 8, 25
CONFIG = TrainConfig(
    num_steps=6,
    ppo=PpoConfig(num_epochs=1, num_minibatches=2, network=NetworkConfig(hidden=(8,))),
)


class Bench:
    """A small training set-up, compiled once."""

    def __init__(self, physics="c"):
        self.robot = tiny_robot()
        clips = [swaying_clip(self.robot), swaying_clip(self.robot, name="again", seconds=1.0)]
        self.bank = build_clip_bank(self.robot, clips, control_rate=50.0)
        env_config = EnvConfig(start_noise=0.2)
        self.env = make_env(self.robot, env_config, num_envs=ENVS, physics=physics)
        self.sampler = starts.make_start_sampler(
            "failure_bins", clip_frames=(95, 45), batch_size=ENVS, frames_per_bin=BIN
        )
        self.step = train_step.make_train_step(CONFIG, self.env, self.sampler, "steps")
        self.key = jax.random.key(5)
        calm = make_env(self.robot, env_config.calm(), num_envs=ENVS, physics=physics)
        self.evaluator = Evaluator(calm, evaluation.mean_of(CONFIG.ppo))

    def first(self):
        return train_step.init_state(CONFIG, self.env, self.sampler, jax.random.key(0), self.bank)

    def run(self, state, count):
        for _ in range(count):
            state, metrics = self.step(self.key, self.bank, state)
        return state, metrics


@pytest.fixture(scope="module")
def bench():
    return Bench()


def leaves(state):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


@pytest.mark.slow  # the run that is resumed in tests/training shows the same
def test_the_same_keys_give_the_same_run_also_when_it_is_stopped_between(bench):
    whole, metrics = bench.run(bench.first(), 3)
    half, _ = bench.run(bench.first(), 1)
    stored = jax.tree.map(lambda x: np.array(x) if isinstance(x, np.ndarray) else jnp.copy(x), half)
    bench.run(bench.first(), 1)  # the simulator has meanwhile been used for something else
    again, _ = bench.run(stored, 2)
    for one, other in zip(leaves(whole), leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)
    assert all(np.isfinite(float(value)) for value in metrics.values())
    assert int(whole.iteration) == 3


def test_exposure_counts_every_environment_step_once(bench):
    state, _ = bench.run(bench.first(), 1)
    lengths = np.asarray(state.sampler.layout.num_frames)
    decays = bench.sampler.config.decay ** np.arange(CONFIG.num_steps)
    passes = np.asarray(state.sampler.exposure) * lengths
    assert passes.sum() == pytest.approx(decays.sum(), rel=1e-4)
    assert int(state.sampler.step) == CONFIG.num_steps


def test_evaluation_touches_neither_statistics_nor_training(bench):
    state, _ = bench.run(bench.first(), 1)
    before = leaves(state)
    begin = evaluation.survival_starts(bench.bank, ENVS, 10)
    bench.evaluator.play(bench.bank, state.learner, begin, 10)
    for old, new in zip(before, leaves(state), strict=True):
        np.testing.assert_array_equal(old, new)
    alone, _ = bench.run(bench.first(), 2)
    after, _ = bench.run(state, 1)
    for one, other in zip(leaves(alone), leaves(after), strict=True):
        np.testing.assert_array_equal(one, other)


def noise_of(parts, bench, iteration, step):
    """What a step adds to the policy's actions, in its standard deviations."""
    state = bench.first()
    action = parts.choose(
        bench.key,
        jnp.asarray(iteration),
        jnp.asarray(step),
        state.learner,
        state.sampler,
        state.env.observation,
    ).action
    std = np.exp(np.asarray(state.learner.params.log_std))
    return (np.asarray(action.value) - np.asarray(action.mean)) / std


def test_shared_noise_goes_on_from_one_iteration_to_the_next(bench):
    length = CONFIG.num_steps
    for window in (1, 4):
        config = dataclasses.replace(CONFIG.ppo, noise_steps=window)
        parts = train_step.Parts(
            dataclasses.replace(CONFIG, ppo=config), bench.env, bench.sampler, "steps"
        )
        first = noise_of(parts, bench, 3, 0)
        # as if the rollout before had been a step longer
        longer = noise_of(parts, bench, 2, length)
        assert np.allclose(first, longer, atol=1e-5) == (window > 1)
        assert not np.allclose(first, noise_of(parts, bench, 2, length - 1), atol=1e-3)


def test_the_environment_is_told_how_wide_limits_are(bench):
    config = dataclasses.replace(CONFIG, first_leniency=3.0, lenient_iterations=4)
    told = []

    def step(*arguments, leniency):
        told.append(float(leniency))
        return bench.env.step(*arguments, leniency=leniency)

    parts = train_step.Parts(config, bench.env, bench.sampler, "steps")
    iterate = train_step.on_host(
        config.num_steps,
        choose=jax.jit(parts.choose),
        step=step,
        count=jax.jit(parts.count),
        learn=jax.jit(parts.learn),
    )
    state = bench.first()
    for _ in range(2):
        state, _ = iterate(bench.key, bench.bank, state)
    np.testing.assert_allclose(told, [3.0] * config.num_steps + [2.5] * config.num_steps)


def test_limits_narrow_evenly_to_those_of_the_task():
    config = dataclasses.replace(CONFIG, first_leniency=3.0, lenient_iterations=10)
    seen = [float(config.leniency(jnp.asarray(step))) for step in (0, 5, 10, 1000)]
    np.testing.assert_allclose(seen, [3.0, 2.0, 1.0, 1.0])
    assert float(CONFIG.leniency(jnp.asarray(7))) == 1.0
    for half in ({"first_leniency": 2.0}, {"lenient_iterations": 5}, {"first_leniency": 0.5}):
        with pytest.raises(ValueError, match="lenien"):
            dataclasses.replace(CONFIG, **half)


def test_outside_the_samplers_iterations_starts_are_uniform(bench):
    late = dataclasses.replace(CONFIG, start_iteration=10, handback_iteration=20)
    parts = train_step.Parts(late, bench.env, bench.sampler, "steps")
    state = bench.first()
    tilted = state.sampler._replace(
        failures=jnp.zeros(6).at[2].set(50.0), exposure=jnp.ones(6) * 20.0
    )
    probs = np.asarray(bench.sampler.probabilities(tilted))
    assert probs[2] > 2 / 6, "the sampler must prefer a bin for this to show anything"
    counts = {}
    for iteration in (9, 10, 19, 20):
        hits = 0
        for step in range(40):
            chosen = parts.choose(
                bench.key,
                jnp.asarray(iteration),
                jnp.asarray(step),
                state.learner,
                tilted,
                state.env.observation,
            )
            hits += int(np.sum(np.asarray(bin_of(tilted.layout, chosen.starts)) == 2))
        counts[iteration] = hits / (40 * ENVS)
    error = 5 * np.sqrt(0.25 / (40 * ENVS))
    for iteration in (9, 20):
        assert abs(counts[iteration] - 1 / 6) < error
    for iteration in (10, 19):
        assert abs(counts[iteration] - probs[2]) < error
    with pytest.raises(ValueError, match="handback_iteration must come after"):
        dataclasses.replace(CONFIG, start_iteration=10, handback_iteration=10)


def test_survival_starts_have_room_and_reach_every_clip(bench):
    begin = evaluation.survival_starts(bench.bank, 32, 20)
    lengths = np.asarray(bench.bank.clip_length)[np.asarray(begin.clip)]
    assert np.all(np.asarray(begin.frame) + 20 < lengths)
    assert set(np.asarray(begin.clip)) == {0, 1}


def test_short_clips_are_started_at_several_moments_and_none_is_forgotten(bench):
    every = np.asarray(bench.bank.clip_length)
    short = evaluation.survival_starts(bench.bank, 32, 1000)
    frame, clip = np.asarray(short.frame), np.asarray(short.clip)
    assert np.all(frame < every[clip] // 2)
    assert len(np.unique(frame)) > 8
    long = bench.bank._replace(clip_length=jnp.array([6000, 60]))
    begin = evaluation.survival_starts(long, 16, 50)
    assert np.bincount(np.asarray(begin.clip)).tolist() == [15, 1]


def test_trials_say_where_and_when_they_failed(bench):
    state = bench.first()
    begin = evaluation.survival_starts(bench.bank, ENVS, 30)
    trials, track = bench.evaluator.play(bench.bank, state.learner, begin, 30)
    assert track.qpos.shape[:2] == (31, ENVS)
    fell = ~trials.survived
    np.testing.assert_array_equal(trials.failed_frame[fell], (trials.frame + trials.steps)[fell])
    np.testing.assert_array_equal(trials.failed_frame[~fell], -1)
    np.testing.assert_array_equal(trials.steps[~fell], 30)
    np.testing.assert_array_equal(track.is_alive.all(axis=0), ~fell)
    rates = evaluation.per_bin(state.sampler.layout, trials)
    assert np.nansum(rates) >= 0
    assert (np.nansum(rates) > 0) == bool(fell.any())
    numbers = evaluation.summarise(trials, 50.0)
    assert numbers["success"] == pytest.approx(np.mean(trials.survived))


def test_who_reaches_the_end_of_a_clip_stays_alive(bench):
    last = np.asarray(bench.bank.clip_length)[0] - 1
    begin = MotionTime(jnp.zeros(ENVS, jnp.int32), jnp.full(ENVS, last - 2, jnp.int32))
    trials, track = bench.evaluator.play(bench.bank, bench.first().learner, begin, 8)
    assert trials.survived.all()
    assert trials.steps.max() < 8
    assert track.is_alive.all()


@pytest.mark.slow
def test_with_mjx_the_whole_iteration_is_one_program_traced_once():
    bench = Bench("mjx")
    state, metrics = bench.run(bench.first(), 2)
    assert bench.step._cache_size() == 1
    assert all(np.isfinite(float(value)) for value in metrics.values())
    assert int(state.sampler.step) == 2 * CONFIG.num_steps
