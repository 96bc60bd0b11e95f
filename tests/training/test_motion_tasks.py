"""What `--task` stands for, and what of it a user's flags overrule."""

import typing

from motion import rewards
from training import motion_options, motion_tasks
from training.compare_motion_command import CompareMotionCommand
from training.motion_command import MotionCommand, TaskChoice


def built(**flags):
    return motion_options.build(MotionCommand(physics="c", **flags))


def options(job):
    return {option.name: option.value for option in job.sampler.options}


def test_the_agile_task_is_the_quick_one_but_for_what_it_says():
    quick, agile = built(), built(task="agile")
    assert agile.env.action_centre == quick.env.action_centre == "feedforward"
    assert agile.env.termination_terms == quick.env.termination_terms
    differ = [
        one.name
        for one, other in zip(agile.env.reward_terms, rewards.REWARDS, strict=True)
        if one != other
    ]
    assert differ == ["body_linear_velocity", "action_rate"]
    assert (quick.train.ppo.noise_steps, agile.train.ppo.noise_steps) == (1, 5)
    assert (quick.train.first_leniency, agile.train.first_leniency) == (1.0, 2.0)
    assert options(quick) == {}
    assert options(agile)["look_back_frames"] == 35


def test_flags_overrule_the_task():
    job = built(task="agile", sampler_option=("look_back_frames=10",), set_=("bin_seconds=0.5",))
    assert options(job)["look_back_frames"] == 10
    assert options(job)["exponent"] == 3
    assert job.bin_seconds == 0.5


def test_other_samplers_have_options_of_their_own():
    assert options(built(task="agile", sampler="uniform")) == {}


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


def test_every_task_can_be_asked_for():
    choice = typing.get_args(TaskChoice)[0]
    assert set(typing.get_args(choice)) == set(motion_tasks.TASKS)
