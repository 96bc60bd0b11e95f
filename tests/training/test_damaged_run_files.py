"""A run's own files, damaged: read, or refused by name, nothing else."""

import functools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mutations import damaged_bytes, damaged_json, reads_or_refuses
from training import config_json, motion_options, run_folder, voxels_options
from training.motion_command import MotionCommand
from training.motion_config import MotionJob
from training.nerf_config import NerfJob
from training.run_folder import RunFolder
from training.run_log import keep_rows
from training.voxels_command import VoxelsCommand
from training.voxels_config import VoxelsJob

from .conftest import TINY

JOBS = {
    "nerf": (lambda: TINY, NerfJob),
    "voxels": (lambda: voxels_options.build(VoxelsCommand(steps=8)), VoxelsJob),
    "motion": (lambda: motion_options.build(MotionCommand(steps=4)), MotionJob),
}
ROWS = b"".join(
    json.dumps({"kind": "train", "step": step, "loss": 0.5 / step, "bad": None}).encode() + b"\n"
    for step in range(4, 40, 4)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return RunFolder(tmp_path_factory.mktemp("run"))


@functools.cache
def _config_of(job):
    values = {"config": config_json.to_json(JOBS[job][0]()), "data": {"train": {"views": 3}}}
    return json.dumps(values).encode()


def _damage_config(job, folder, data):
    folder.config.write_bytes(data.draw(damaged_json(_config_of(job))))
    reads_or_refuses(lambda: run_folder.read_job(folder, JOBS[job][1]), folder.config)


def _damage_metrics(folder, data):
    folder.metrics.write_bytes(data.draw(damaged_bytes(ROWS)))
    reads_or_refuses(lambda: keep_rows(folder.metrics, last_step=20), folder.metrics)


@pytest.mark.parametrize("job", JOBS)
def test_whole_files_are_read(folder, job):
    folder.config.write_bytes(_config_of(job))
    folder.metrics.write_bytes(ROWS)
    assert reads_or_refuses(lambda: run_folder.read_job(folder, JOBS[job][1]), folder.config)
    keep_rows(folder.metrics, last_step=20)
    assert folder.metrics.read_bytes() == b"".join(ROWS.splitlines(keepends=True)[:5])


@pytest.mark.parametrize("job", JOBS)
@settings(max_examples=40)
@given(data=st.data())
def test_a_damaged_config_is_read_or_refused_by_name(folder, job, data):
    _damage_config(job, folder, data)


@settings(max_examples=40)
@given(data=st.data())
def test_damaged_metrics_are_read_or_refused_by_name(folder, data):
    _damage_metrics(folder, data)


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS)
@settings(max_examples=3000)
@given(data=st.data())
def test_thousands_of_damaged_configs_are_read_or_refused_by_name(folder, job, data):
    _damage_config(job, folder, data)


@pytest.mark.slow
@settings(max_examples=3000)
@given(data=st.data())
def test_thousands_of_damaged_metrics_are_read_or_refused_by_name(folder, data):
    _damage_metrics(folder, data)
