"""A run's own files and a guide's weights, damaged: read, or refused by name, nothing else."""

import functools
import json

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenes.formats.array_files import read_npz
from tests.mutations import damaged_arrays, damaged_bytes, damaged_json, npz, reads_or_refuses
from training import (
    config_json,
    motion_options,
    motion_tracks,
    run_folder,
    tiny_guide,
    voxels_options,
)
from training.motion_command import MotionCommand
from training.motion_config import MotionJob
from training.motion_tracks import Tracks
from training.nerf_config import NerfJob
from training.run_folder import RunFolder
from training.run_log import keep_rows
from training.voxels_command import VoxelsCommand
from training.voxels_config import VoxelsJob
from voxels.guidance.tiny_training import TinyTrainingConfig, init_tiny

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


def _save_guide(folder):
    shapes = jax.eval_shape(lambda: init_tiny(TinyTrainingConfig(), jax.random.key(0)).params)
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.25, leaf.dtype), shapes)
    tiny_guide.save(folder.path / "guide.npz", params)


def _save_tracks(folder):
    poses = np.random.default_rng(0).normal(size=(5, 9))
    motion_tracks.save(folder, Tracks(poses, poses + 1, poses[:, 0] > 0, 50.0))


ARRAYS = {
    "guide.npz": (_save_guide, lambda folder: tiny_guide.load(folder.path / "guide.npz")),
    motion_tracks.NAME: (_save_tracks, motion_tracks.load),
}
"""By file: its writer and its reader."""


@pytest.fixture(scope="module")
def whole_arrays(folder):
    """By file: its bytes and what they hold."""
    for save, _ in ARRAYS.values():
        save(folder)
    paths = {name: folder.path / name for name in ARRAYS}
    return {name: (path.read_bytes(), read_npz(path)) for name, path in paths.items()}


def _damage_arrays(name, folder, whole_arrays, data):
    content, arrays = whole_arrays[name]
    damaged = st.one_of(damaged_bytes(content), damaged_arrays(arrays).map(npz))
    (folder.path / name).write_bytes(data.draw(damaged))
    reads_or_refuses(lambda: ARRAYS[name][1](folder), folder.path / name)


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_are_missing_or_of_another_shape_are_named(folder, whole_arrays, name):
    """They were tracebacks of zipfile and of a dict."""
    content, arrays = whole_arrays[name]
    path, read = folder.path / name, ARRAYS[name][1]
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"{path}: not a readable npz file"):
        read(folder)
    for lost in sorted(arrays.keys() - {"words"}):
        kept = {key: value for key, value in arrays.items() if key != lost}
        path.write_bytes(npz(kept))
        with pytest.raises(ValueError, match=f"{path}: array {lost} is missing"):
            read(folder)
        path.write_bytes(npz(kept | {lost: arrays[lost][None]}))
        with pytest.raises(ValueError, match=f"{path}: array {lost} must be"):
            read(folder)
    path.write_bytes(content)
    read(folder)


@pytest.mark.parametrize("name", ARRAYS)
@settings(max_examples=40)
@given(data=st.data())
def test_damaged_arrays_are_read_or_refused_by_name(folder, whole_arrays, name, data):
    _damage_arrays(name, folder, whole_arrays, data)


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


@pytest.mark.slow
@pytest.mark.parametrize("name", ARRAYS)
@settings(max_examples=2000)
@given(data=st.data())
def test_thousands_of_damaged_arrays_are_read_or_refused_by_name(folder, whole_arrays, name, data):
    _damage_arrays(name, folder, whole_arrays, data)
