"""Run by test_many_devices in processes of their own with several CPU devices.

resume FOLDER                           runs stopped and gone on with on other numbers of devices
train FOLDER COORDINATOR COUNT ID       one process of a run of several
"""

import dataclasses
import os
import signal
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from training import checkpoints, devices, nerf_job, nerf_setup, processes, runtime
from training.run_folder import RunFolder
from training.run_log import RunLog, read_rows

from .conftest import TINY, without_video

MARCHING = dataclasses.replace(TINY.train.marching, budget=4096)
JOB = dataclasses.replace(
    without_video(TINY), train=dataclasses.replace(TINY.train, marching=MARCHING)
)
"""Every sample fits, so that the same rays are kept on any number of devices."""
STOP = 12


def last(folder):
    """Step and state of a run's newest checkpoint."""
    template = nerf_setup.state_shapes(nerf_setup.prepare(JOB))
    found = checkpoints.restore(RunFolder(Path(folder)).checkpoints, template)
    return found.step, found.state


def assert_near(one, other):
    """The states of two runs agree but for rounding."""
    names = dict(checkpoints.named_leaves(other))
    for name, value in checkpoints.named_leaves(one):
        a, b = np.asarray(value, np.float64), np.asarray(names[name], np.float64)
        scale = max(1.0, float(np.max(np.abs(a), initial=0.0)))
        np.testing.assert_allclose(a, b, atol=1e-3 * scale, err_msg=name)


def interrupted(folder, mesh):
    """Starts a run and stops it in the middle."""
    write = RunLog.write

    def write_and_interrupt(self, step, values, *, group="train"):
        write(self, step, values, group=group)
        if step == STOP and group == "train":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunLog, "write", write_and_interrupt)
        with pytest.raises(SystemExit):
            nerf_job.start(JOB, out=str(folder), mesh=mesh)


def check_resume(base):
    """From eight devices to one and from one to eight, the run is the one that never stopped."""
    eight = devices.choose("all")
    assert eight is not None
    assert eight.size == 8
    summary = nerf_job.start(JOB, out=str(base / "whole"))
    assert summary["num_devices"] == 1
    step, reference = last(base / "whole")
    for first, second in ((eight, None), (None, eight)):
        folder = base / f"{first and 8}-{second and 8}"
        interrupted(folder, first)
        assert last(folder)[0] < JOB.train.num_steps
        summary = nerf_job.resume(str(folder), mesh=second)
        assert summary["num_devices"] == (8 if second else 1)
        assert summary["steps"] == step == JOB.train.num_steps
        after, state = last(folder)
        assert after == step
        assert_near(reference, state)
        rows = [row["step"] for row in read_rows(RunFolder(folder).metrics) if "loss" in row]
        assert rows == list(range(4, 25, 4))
    with pytest.raises(ValueError, match="over 3 devices"):
        nerf_job.resume(str(base / "whole"), mesh=devices.choose("3"))


def fail_in_second(place):
    """An error that only one process meets."""
    with processes.together():
        if place == 1:
            raise OSError("no such disk")


def train(folder, coordinator, number, place):
    """Trains as one process of several, then checks what all of them hold."""
    runtime.prepare(
        joining=processes.Joining(coordinator=coordinator, num_processes=number, process_id=place)
    )
    states = []
    compiled = nerf_setup.compiled_step

    def remembering(setup, known=None):
        step = compiled(setup, known)

        def stepped(*arguments):
            result = step(*arguments)
            states[:] = [result[0]]
            return result

        return stepped

    nerf_setup.compiled_step = remembering
    mesh = devices.choose(None)
    assert mesh is not None
    assert mesh.size == 2 * number
    with pytest.raises(RuntimeError if place == 0 else SystemExit) as ended:
        fail_in_second(place)
    assert str(ended.value) == ("process 1: no such disk" if place == 0 else "2")
    assert processes.told_by_first(lambda: {"from": place}) == {"from": 0}
    summary = nerf_job.start(JOB, out=folder, mesh=mesh)
    assert (summary != {}) == (place == 0)
    sums = [
        np.asarray(leaf.addressable_data(0), np.float64).sum()
        for leaf in jax.tree.leaves(states[0].params)
    ]
    print("sums", *(value.hex() for value in sums), file=sys.stderr)


def main():
    if sys.argv[1] == "resume":
        check_resume(Path(sys.argv[2]))
    else:
        train(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    print("passed")


if __name__ == "__main__":
    main()
