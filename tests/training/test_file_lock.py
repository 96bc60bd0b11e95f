"""A run is trained by one process at a time, and looked at by any number."""

import fcntl
import json
import subprocess
import sys

import pytest

from training import (
    checkpoints,
    config_json,
    file_lock,
    loaded_run,
    motion_job,
    motion_options,
    nerf_job,
    voxels_job,
    voxels_options,
)
from training.motion_command import MotionCommand
from training.run_folder import RunFolder
from training.voxels_command import VoxelsCommand

from .conftest import TINY, without_video

REFUSAL = "another process is training this run"
JOBS = {
    "nerf": (nerf_job, lambda: TINY),
    "voxels": (voxels_job, lambda: voxels_options.build(VoxelsCommand(steps=8))),
    "motion": (motion_job, lambda: motion_options.build(MotionCommand(steps=4))),
}


def test_others_are_refused_until_the_lock_is_given_back(tmp_path):
    folder, other = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "other")
    for run in (folder, other):
        run.path.mkdir()
    for _ in range(2):  # one after the other
        with file_lock.training(folder):
            with (
                pytest.raises(ValueError, match=f"^{folder.path}: {REFUSAL}$"),
                file_lock.training(folder),
            ):
                raise AssertionError
            with file_lock.training(other):
                pass


@pytest.mark.parametrize("error", [ValueError("why"), OSError("why")])
def test_errors_pass_through_and_end_the_lock(tmp_path, error):
    for _ in range(2):
        with pytest.raises(type(error), match="why"), file_lock.training(RunFolder(tmp_path)):
            raise error


def test_where_files_know_no_locks_a_run_is_trained_without(tmp_path, monkeypatch):
    def unknown(file, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with file_lock.training(RunFolder(tmp_path)), file_lock.training(RunFolder(tmp_path)):
        pass


_HOLDER = """
import sys, time
from pathlib import Path
from training import file_lock
from training.run_folder import RunFolder
with file_lock.training(RunFolder(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_lock_ends_with_the_process_that_holds_it(tmp_path):
    words = [sys.executable, "-c", _HOLDER, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            with (
                pytest.raises(ValueError, match=REFUSAL),
                file_lock.training(RunFolder(tmp_path)),
            ):
                raise AssertionError
        finally:
            holder.kill()
    with file_lock.training(RunFolder(tmp_path)):
        pass


@pytest.mark.parametrize("name", JOBS)
def test_a_run_that_is_being_trained_is_not_gone_on_with(tmp_path, name):
    """Its metrics were once replaced under the process that writes them."""
    folder, (job, make) = RunFolder(tmp_path), JOBS[name]
    values = {"config": config_json.to_json(make()), "data": {}}
    folder.config.write_text(json.dumps(values))
    folder.metrics.write_text('{"step": 4}\n')
    with file_lock.training(folder), pytest.raises(ValueError, match=REFUSAL):
        job.resume(str(tmp_path))
    assert folder.metrics.read_text() == '{"step": 4}\n'


def test_two_runs_begun_at_once_in_one_folder_are_one(shared, tmp_path):
    with file_lock.training(RunFolder(tmp_path)), pytest.raises(ValueError, match=REFUSAL):
        nerf_job.start(without_video(TINY), out=str(tmp_path), shared=shared)
    assert not RunFolder(tmp_path).config.exists()
    nerf_job.start(without_video(TINY), out=str(tmp_path), shared=shared)
    nerf_job.resume(str(tmp_path), shared=shared)


def test_a_run_can_be_looked_at_while_it_is_trained(finished):
    folder = RunFolder(finished[0])
    with file_lock.training(folder):
        run = loaded_run.load(str(folder.path))
        assert run.step == checkpoints.steps(folder.checkpoints)[0]
        assert loaded_run.newer(run._replace(step=0)) is not None
