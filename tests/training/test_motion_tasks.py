"""What `--task` stands for, and what of it a user's flags overrule."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from motion import rewards, starts
from motion.train_step import TrainConfig
from samplers.motion_bins import MotionTime, bin_of
from training import motion_options
from training.compare_motion_command import CompareMotionCommand
from training.motion_command import MotionCommand


def built(**flags):
    return motion_options.build(MotionCommand(physics="c", **flags))


def options(job):
    return {option.name: option.value for option in job.sampler.options}


def test_the_agile_task_is_the_quick_one_but_for_what_it_says():
    quick, agile = built(), built(task="agile")
    assert agile.env.action_centre == quick.env.action_centre == "feedforward"
    for wide, term in zip(agile.env.termination_terms, quick.env.termination_terms, strict=True):
        assert wide == dataclasses.replace(term, limit=1.2 * term.limit)
    differ = [
        one.name
        for one, other in zip(agile.env.reward_terms, rewards.REWARDS, strict=True)
        if one != other
    ]
    assert differ == ["body_linear_velocity", "action_rate"]
    same = {name: getattr(quick.env, name) for name in ("reward_terms", "termination_terms")}
    assert dataclasses.replace(agile.env, **same) == quick.env
    ppo = dataclasses.replace(agile.train.ppo, noise_steps=1, least_learning_rate=1e-4)
    plain = TrainConfig(num_steps=quick.train.num_steps, ppo=ppo)
    assert plain == quick.train
    assert agile.train.num_steps == 2 * quick.train.num_steps
    assert agile.train.ppo.noise_steps == 5
    assert agile.train.first_leniency == 1.7
    assert options(quick) == {}


def test_the_starts_of_the_agile_task_lie_before_the_bins_that_fail():
    job = built(task="agile")
    sampler = starts.make_start_sampler(
        job.sampler.name,
        clip_frames=(200,),
        batch_size=4000,
        frames_per_bin=50 * job.bin_seconds,
        options=job.sampler.as_dict(),
    )
    state = sampler.init(jax.random.key(0))
    failing = int(bin_of(state.layout, MotionTime(jnp.zeros(1, int), jnp.full(1, 75)))[0])
    state = state._replace(
        failures=state.failures.at[failing].set(50.0), exposure=state.exposure + 50.0
    )
    frames = np.asarray(sampler.sample(jax.random.key(1), state).items.frame)
    # the bin from 1.44 s on, the two before it that lead there, and 0.7 s before those
    assert np.mean((frames >= 75 - 2 * 13 - 35) & (frames < 75 + 13)) > 0.9
    assert np.mean(frames < 75) > 0.7


def test_flags_overrule_the_task():
    job = built(task="agile", sampler_option=("look_back_frames=10",), set_=("bin_seconds=0.5",))
    assert options(job)["look_back_frames"] == 10
    assert options(job)["exponent"] == 3
    assert job.bin_seconds == 0.5


def test_other_samplers_have_options_of_their_own():
    assert options(built(task="agile", sampler="uniform")) == {}
    assert options(built(task="agile", set_=("sampler.name=uniform",))) == {}


def test_a_comparison_has_the_starts_of_its_task():
    command = CompareMotionCommand(
        task="agile",
        samplers="uniform,failure_bins,mild=failure_bins",
        set_=("mild:exponent=1",),
        physics="c",
    )
    [(comparison, _)] = command._comparisons().values()
    found = {
        sampler.title: {option.name: option.value for option in sampler.options}
        for sampler in comparison.samplers
    }
    assert found["uniform"] == {}
    assert found["failure_bins"]["exponent"] == 3
    assert found["mild"]["exponent"] == 1
    assert found["mild"]["look_back_frames"] == 35
    assert comparison.base.train.ppo.noise_steps == 5
