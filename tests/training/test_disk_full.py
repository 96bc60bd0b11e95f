"""A disk that fills up: one clear error, and the last good checkpoint stays."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.faults import FLAGS
from scenes.formats.array_files import read_npz
from training import checkpoints, run_folder, tiny_guide
from training.checkpoints import Saver


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    _mount("size=4m", place)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def roomy_disk(tmp_path):
    """A file system of 64 MB, enough for one small run of any job."""
    place = tmp_path / "disk"
    place.mkdir()
    _mount("size=64m", place)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def locked_disk(tmp_path):
    """A file system nobody may write to, not even root."""
    place = tmp_path / "locked"
    place.mkdir()
    _mount("ro", place)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def _mount(options, place):
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a file system")


def _hardlight(*words):
    """Runs a command; its exit code and what it said of errors."""
    command = [sys.executable, "-m", "training.cli", *map(str, words)]
    wide = os.environ | {"COLUMNS": "1000"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, env=wide)
    return ended.returncode, " ".join(ended.stderr.split())


def random_state(size):
    # random, or compression would make it fit
    return {"weights": np.random.default_rng(0).random(size).astype(np.float32)}


def test_a_checkpoint_that_does_not_fit_is_reported_and_the_last_one_stays(small_disk):
    folder, small = small_disk / "checkpoints", random_state(2**17)
    first = Saver(folder)
    first.save(1, small, {"note": "fits"})
    first.close()

    def save_more():
        saver = Saver(folder)
        saver.save(2, random_state(2**21), {})
        saver.close()

    with pytest.raises(OSError, match=str(folder)):
        save_more()
    restored = checkpoints.restore(folder, small)
    assert (restored.step, restored.extra) == (1, {"note": "fits"})
    np.testing.assert_array_equal(restored.state["weights"], small["weights"])


def test_a_run_that_goes_on_does_not_touch_the_checkpoint_it_goes_on_from(tmp_path):
    """It used to be deleted and written anew: a kill or a full disk then lost the run."""
    folder, state = tmp_path / "checkpoints", random_state(64)
    first = Saver(folder)
    first.save(3, state, {"note": "first"})
    first.close()
    again = Saver(folder, last=3)
    again.save(3, random_state(64), {"note": "again"})
    again.close()
    assert checkpoints.restore(folder, state).extra == {"note": "first"}
    again.save(4, state, {"note": "later"})
    again.close()
    assert checkpoints.steps(folder) == [4, 3]


def test_a_json_file_is_whole_or_as_it_was(small_disk):
    path = small_disk / "summary.json"
    run_folder.write_json(path, {"step": 1})
    with pytest.raises(OSError, match="summary"):
        run_folder.write_json(path, {"step": 2, "curve": "9" * 2**23})
    assert run_folder.read_json(path) == {"step": 1}


def test_arrays_that_do_not_fit_leave_the_old_file_and_no_rest(small_disk):
    path, small = small_disk / "guide.npz", random_state(64)
    tiny_guide.save(path, small)
    with pytest.raises(OSError, match=rf"{path} cannot be written: No space left on device$"):
        tiny_guide.save(path, random_state(2**21))
    np.testing.assert_array_equal(read_npz(path)["weights"], small["weights"])
    assert [file.name for file in small_disk.iterdir()] == ["guide.npz"]


def test_a_folder_nobody_may_write_to_is_named(locked_disk):
    with pytest.raises(OSError, match=f"output folder {locked_disk}/run cannot be written to"):
        run_folder.create(locked_disk / "run")


@pytest.mark.slow
@pytest.mark.parametrize("job", FLAGS)
def test_every_job_says_where_it_may_not_write(locked_disk, job):
    code, said = _hardlight(job, *FLAGS[job], "--out", locked_disk / "run")
    assert code == 2
    assert f"output folder {locked_disk}/run cannot be written to: Read-only file system" in said
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("free", [8, 200])
@pytest.mark.parametrize("job", FLAGS)
def test_every_job_says_when_its_disk_is_full_and_goes_on_when_it_is_not(roomy_disk, job, free):
    """`free` kilobytes are enough for the config, or for a few checkpoints."""
    filler, out = roomy_disk / "filler", roomy_disk / "run"
    filler.write_bytes(bytes((64 << 20) - (free << 10)))
    code, said = _hardlight(job, *FLAGS[job], "--out", out)
    assert code == 2, said
    # threads of third parties complain as well, in tracebacks of their own
    assert re.search(rf"error: {out}\S* (a checkpoint )?(could not|cannot) be", said), said
    filler.unlink()
    again = ("--resume", out) if (out / "config.json").exists() else (*FLAGS[job], "--out", out)
    code, said = _hardlight(job, *again)
    assert code == 0, said
    assert run_folder.read_json(out / "summary.json")["job"] == job
