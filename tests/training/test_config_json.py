"""Configs survive the trip through JSON, and a wrong file is named down to the field."""

import dataclasses
import functools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motion.train_step import TrainConfig
from training import config_json, nerf_options, voxels_options
from training.motion_config import MotionJob, MotionSource
from training.nerf_command import NerfCommand
from training.nerf_config import NerfJob, evaluation_steps
from training.sampler_config import SamplerConfig, SamplerOption
from training.voxels_command import VoxelsCommand
from training.voxels_config import WorldSource

from .conftest import TINY

_VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.none(),
)


@given(
    options=st.dictionaries(st.text(min_size=1, max_size=6), _VALUES, max_size=3),
    seed=st.integers(0, 2**31 - 1),
    seconds=st.none() | st.floats(0.1, 1e6),
)
def test_json_and_back_is_the_same_config(options, seed, seconds):
    job = dataclasses.replace(
        TINY,
        seed=seed,
        sampler=SamplerConfig(
            name="x",
            options=tuple(SamplerOption(name=k, value=v) for k, v in options.items()),
        ),
        loop=dataclasses.replace(TINY.loop, seconds=seconds),
    )
    text = json.dumps(config_json.to_json(job), allow_nan=False)
    assert config_json.from_json(NerfJob, json.loads(text), "f") == job


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("seed",), "3", "f: seed: must be a whole number, got '3'"),
        (("seed",), True, "f: seed: must be a whole number, got True"),
        (("seed",), -1, "seed must be in"),
        (("train", "loss"), "l1", "f: train.loss: must be one of huber, squared, got 'l1'"),
        (("train", "rays_per_step"), 0, "f: train: rays_per_step must be at least 1"),
        (("train", "field"), 4, "f: train.field: must be an object, got 4"),
        (("sampler", "options"), "a", "f: sampler.options: must be a list"),
        (("loop", "seconds"), "soon", "f: loop.seconds: must be a number or none"),
        (("extra",), 1, "f: unknown field 'extra'"),
    ],
)
def test_wrong_value_names_file_and_field(path, value, message):
    values = config_json.to_json(TINY)
    inner = values
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    with pytest.raises(ValueError, match=re.escape(message)):
        config_json.from_json(NerfJob, values, "f")


def test_missing_field_is_named():
    values = config_json.to_json(TINY)
    del values["train"]["field"]["hidden_width"]
    with pytest.raises(ValueError, match=r"f: train\.field: missing field hidden_width"):
        config_json.from_json(NerfJob, values, "f")


def test_a_field_that_older_runs_lack_has_the_value_they_had():
    values = config_json.to_json(MotionJob())
    assert values["source"]["read"].pop("is_levelled")
    for name in ("handback_iteration", "first_leniency", "lenient_iterations"):
        values["train"].pop(name)
    assert values["train"]["ppo"].pop("noise_steps") == 1
    old = config_json.from_json(MotionJob, values, "f")
    assert not old.source.read.is_levelled
    assert old.train == TrainConfig()


def test_a_radiance_field_run_older_than_the_unit_of_depth_reads_back():
    values = config_json.to_json(TINY)
    assert values["scene"].pop("depth_scale") is None
    assert config_json.from_json(NerfJob, values, "f") == TINY


def test_replace_fields_reads_values_as_typed():
    job = config_json.replace_fields(TINY, {"train.optimizer.learning_rate": "0.5"})
    assert job.train.optimizer.learning_rate == 0.5
    assert config_json.replace_fields(TINY, {"loop.seconds": "none"}).loop.seconds is None
    assert config_json.replace_fields(TINY, {"loop.seconds": "3"}).loop.seconds == 3.0


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("train.optimizer.learningrate", "1", "no setting 'learningrate' in OptimizerConfig: "),
        ("train.field", "1", "setting 'field' is a group; choose one of field.encoding"),
        ("seed.x", "1", "setting 'seed' is a plain value"),
        ("train.optimizer.learning_rate", "fast", "learning_rate: must be a number"),
        ("train.optimizer.learning_rate", "7", "learning_rate must lie in"),
    ],
)
def test_replace_fields_explains(path, text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        config_json.replace_fields(TINY, {path: text})


def test_entries_of_a_table_go_by_their_names():
    job = MotionJob(source=MotionSource(clips=("builtin:stand",)))
    changed = config_json.replace_fields(
        job,
        {
            "env.termination_terms.anchor_height.limit": "0.5",
            "env.actor_terms": "[joint_position, last_action]",
            "env.actor_terms.last_action.noise": "0.25",
        },
    )
    assert changed.env.actor_terms[1].noise == 0.25
    limits = {term.name: term.limit for term in changed.env.termination_terms}
    assert limits == {"anchor_height": 0.5, "anchor_tilt": 0.8, "end_effector_height": 0.25}
    assert [term.name for term in changed.env.actor_terms] == ["joint_position", "last_action"]
    assert changed.env.calm().termination_terms == job.env.termination_terms
    for path, value, message in (
        ("env.termination_terms.knee.limit", "1", "entries: anchor_height, anchor_tilt"),
        ("env.termination_terms.anchor_tilt", "1", "needs an entry and its field"),
        ("env.termination_terms.anchor_tilt.limit", "high", "must be a number"),
        ("env.actor_terms", "[clock]", "takes the entries to keep"),
        ("env.reward_terms", "[]", "at least one reward"),
    ):
        with pytest.raises(ValueError, match=message):
            config_json.replace_fields(job, {path: value})
    left_out = {"env.actor_terms": "[last_action]", "env.actor_terms.joint_position.noise": "1"}
    with pytest.raises(ValueError, match="keeps last_action, not joint_position"):
        config_json.replace_fields(job, left_out)


def test_settings_that_fit_each_other_may_be_changed_together():
    """One by one each of them would be refused."""
    job = config_json.replace_fields(
        TINY, {"train.steps_per_call": "7", "train.num_steps": "21", "loop.log_every": "7"}
    )
    assert (job.train.steps_per_call, job.train.num_steps, job.loop.log_every) == (7, 21, 7)
    with pytest.raises(ValueError, match="steps_per_call"):
        config_json.replace_fields(TINY, {"train.steps_per_call": "7"})


@pytest.mark.parametrize("text", ["inf", "nan", "-inf"])
def test_numbers_are_finite(text):
    with pytest.raises(ValueError, match="checkpoint_seconds: must be a finite number"):
        config_json.replace_fields(TINY, {"loop.checkpoint_seconds": text})


def test_changed_fields_lists_paths():
    other = config_json.replace_fields(TINY, {"train.field.hidden_width": "9"})
    assert config_json.changed_fields(TINY, other) == ["train.field.hidden_width: 8 -> 9"]
    assert config_json.changed_fields(TINY, TINY) == []


def test_assignments_are_split_and_checked():
    assert config_json.parse_assignments(["a=1", "b=x=y"], "--set") == {"a": "1", "b": "x=y"}
    for words in (["a"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(ValueError, match="--set"):
            config_json.parse_assignments(words, "--set")


def test_settings_may_be_named_as_in_config_json():
    once, twice = ("train.num_steps=16", "loop.log_every=4"), ("train.num_steps=16", "num_steps=8")
    field, world = functools.partial(NerfCommand, data="synthetic:spheres"), VoxelsCommand
    for build, command in ((nerf_options.build, field), (voxels_options.build, world)):
        assert build(command(set_=once)).train.num_steps == 16
        with pytest.raises(ValueError, match="gives num_steps twice"):
            build(command(set_=twice))
    assert nerf_options.wants_depth(NerfCommand(set_=("train.depth.is_guided=true",)))


@pytest.mark.parametrize("steps", [1, 5, 24, 1000, 20000])
@pytest.mark.parametrize("points", [1, 2, 10])
def test_evaluation_steps_rise_to_the_last_step(steps, points):
    found = evaluation_steps(dataclasses.replace(TINY.loop, num_evaluations=points), steps)
    assert found[-1] == steps
    assert list(found) == sorted(set(found))
    assert len(found) <= points
    assert all(step % TINY.loop.log_every == 0 or step == steps for step in found)


def test_lists_are_typed_between_brackets():
    world = config_json.replace_fields(WorldSource(), {"shape": "[16, 8,4]"})
    assert world.shape == (16, 8, 4)
    for text in ("[]", "[1, 2]", "8", "[a, b, c]"):
        with pytest.raises(ValueError, match="shape"):
            config_json.replace_fields(WorldSource(), {"shape": text})
