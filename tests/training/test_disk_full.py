"""A disk that fills up: one clear error, and the last good checkpoint stays."""

import os
import shutil
import subprocess

import numpy as np
import pytest

from training import checkpoints, run_folder
from training.checkpoints import Saver


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


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


def test_a_json_file_is_whole_or_as_it_was(small_disk):
    path = small_disk / "summary.json"
    run_folder.write_json(path, {"step": 1})
    with pytest.raises(OSError, match="summary"):
        run_folder.write_json(path, {"step": 2, "curve": "9" * 2**23})
    assert run_folder.read_json(path) == {"step": 1}
