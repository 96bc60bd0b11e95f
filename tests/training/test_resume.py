"""A run goes on bit for bit from whatever a kill leaves on disk."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from training import checkpoints, nerf_job, nerf_report, nerf_setup
from training.run_folder import RunFolder
from training.run_log import RunLog, read_rows

from .conftest import TINY, without_video

_TIMES = ("seconds", "rays_per_second")


def _rows(folder):
    """Metrics without the times, which differ from run to run."""
    return [
        {name: value for name, value in row.items() if name not in _TIMES}
        for row in read_rows(RunFolder(folder).metrics)
    ]


def _state(folder, shared):
    template = nerf_setup.state_shapes(nerf_setup.prepare(TINY, shared.scene))
    return checkpoints.restore(RunFolder(folder).checkpoints, template)


def _assert_same_end(folder, reference, shared):
    """Equal rows (none twice), equal curve steps, and every bit of the last state."""
    assert _rows(folder) == _rows(reference)
    left, right = _state(folder, shared), _state(reference, shared)
    assert left.step == right.step == TINY.train.num_steps
    for (name, a), (_, b) in zip(
        checkpoints.named_leaves(left.state), checkpoints.named_leaves(right.state), strict=True
    ):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=name)
    assert [point[::2] for point in left.extra["curve"]] == [
        point[::2] for point in right.extra["curve"]
    ]


@pytest.fixture(scope="module")
def wreckage(tmp_path_factory, shared):
    """What a kill would have left after each row of metrics: copies of a run's folder."""
    base = tmp_path_factory.mktemp("kills")
    folder, copies = base / "run", []
    write = RunLog.write

    def write_and_copy(self, step, values, *, group="train"):
        write(self, step, values, group=group)
        copies.append(base / f"row-{len(copies)}")
        # files may vanish while they are copied, as old checkpoints are deleted meanwhile
        subprocess.run(["cp", "-r", str(folder), str(copies[-1])], capture_output=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunLog, "write", write_and_copy)
        nerf_job.start(TINY, out=str(folder), shared=shared)
    return folder, copies


def test_resumed_run_equals_uninterrupted_run_from_any_moment(wreckage, shared):
    reference, copies = wreckage
    assert len(copies) == len(_rows(reference)) == 9
    for copy in (copies[0], copies[3], copies[5], copies[-1]):
        nerf_job.resume(str(copy), shared=shared)
        _assert_same_end(copy, reference, shared)


def test_resume_drops_rows_after_the_checkpoint(wreckage, shared, tmp_path):
    reference, copies = wreckage
    folder = tmp_path / "run"
    shutil.copytree(copies[6], folder)
    with RunFolder(folder).metrics.open("a") as file:
        file.write('{"kind": "train", "step": 23, "loss": 0.0}\n{"kind": "train", "st')
    nerf_job.resume(str(folder), shared=shared)
    _assert_same_end(folder, reference, shared)


def test_damaged_newest_checkpoint_falls_back_with_a_message(wreckage, shared, tmp_path, capsys):
    reference, _ = wreckage
    folder = tmp_path / "run"
    shutil.copytree(reference, folder)
    newest, older = checkpoints.steps(RunFolder(folder).checkpoints)[:2]
    for file in (RunFolder(folder).checkpoints / str(newest) / "state").rglob("d/*"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    nerf_job.resume(str(folder), shared=shared)
    said = capsys.readouterr().out
    assert f"{newest} is damaged" in said
    assert f"going back to step {older}" in said
    _assert_same_end(folder, reference, shared)


def test_all_checkpoints_damaged_names_them(wreckage, shared, tmp_path):
    reference, _ = wreckage
    folder = tmp_path / "run"
    shutil.copytree(reference, folder)
    for file in RunFolder(folder).checkpoints.rglob("d/*"):
        file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"no usable checkpoint: .*damaged"):
        nerf_job.resume(str(folder), shared=shared)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minutes": 3}, "unknown field 'minutes'"),
        ({"curve": None}, "missing field 'curve'"),
    ],
)
def test_progress_of_another_version_is_refused_by_its_field(
    wreckage, shared, tmp_path, change, message
):
    """It was a TypeError, or a curve that began anew."""
    shutil.copytree(wreckage[0], tmp_path / "run")
    folder, found = RunFolder(tmp_path / "run"), _state(wreckage[0], shared)
    shutil.rmtree(folder.checkpoints)
    extra = {k: v for k, v in (found.extra | change).items() if v is not None}
    saver = checkpoints.Saver(folder.checkpoints)
    saver.save(20, found.state, extra)
    saver.close()
    with pytest.raises(ValueError, match=f"checkpoint {folder.checkpoints / '20'}: {message}"):
        nerf_job.resume(str(folder.path), shared=shared)


@pytest.mark.parametrize("place", [(nerf_report, "write"), (checkpoints.Saver, "wait")])
def test_a_run_counts_as_done_when_all_else_is_written(shared, tmp_path, place):
    """Comparisons took a summary for the end of a run whose report or checkpoint was missing."""
    folder = RunFolder(tmp_path / "run")

    def fail(*arguments, **named):
        assert not folder.summary.exists()
        raise OSError("disk full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*place, fail)
        with pytest.raises(OSError, match="disk full"):
            nerf_job.start(without_video(TINY), out=str(folder.path), shared=shared)
    assert not folder.summary.exists()
    nerf_job.resume(str(folder.path), shared=shared)
    assert folder.summary.exists()
    assert folder.report.exists()


@pytest.mark.parametrize("at", [8, 12, 16, 20, 24])
def test_interrupt_stops_at_a_group_and_resumes_exactly(wreckage, shared, tmp_path, at):
    """Also where an evaluation is due at the end of the group."""
    reference, _ = wreckage
    folder = tmp_path / "run"
    write = RunLog.write

    def write_and_interrupt(self, step, values, *, group="train"):
        write(self, step, values, group=group)
        if step == at and group == "train":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunLog, "write", write_and_interrupt)
        with pytest.raises(SystemExit) as leaving:
            nerf_job.start(TINY, out=str(folder), shared=shared)
    assert leaving.value.code == 130
    nerf_job.resume(str(folder), shared=shared)
    _assert_same_end(folder, reference, shared)


_CHILD = """
import dataclasses, sys
sys.path.insert(0, {root!r})
from tests.training.conftest import TINY, without_video
from training import nerf_job
job = dataclasses.replace(
    without_video(TINY), train=dataclasses.replace(TINY.train, num_steps=400),
    loop=dataclasses.replace(TINY.loop, checkpoint_seconds=0.05))
if sys.argv[1] == "start":
    nerf_job.start(job, out=sys.argv[2])
else:
    nerf_job.resume(sys.argv[2])
"""


@pytest.mark.slow
def test_resumes_bit_for_bit_after_kill_9(tmp_path, pytestconfig):
    script = tmp_path / "child.py"
    script.write_text(_CHILD.format(root=str(pytestconfig.rootpath)))

    def launch(mode, folder):
        return subprocess.Popen(
            [sys.executable, str(script), mode, str(folder)],
            cwd=pytestconfig.rootpath,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    reference = tmp_path / "reference"
    assert launch("start", reference).wait(timeout=300) == 0
    for kills in ((1,), (9, 40), (25, 60, 85)):
        folder = tmp_path / f"killed-{len(kills)}"
        child, mode = launch("start", folder), "resume"
        for rows in kills:
            metrics, patience = RunFolder(folder).metrics, time.monotonic() + 120
            while child.poll() is None and time.monotonic() < patience:
                if metrics.exists() and metrics.read_bytes().count(b"\n") >= rows:
                    break
                time.sleep(0.002)
            child.kill()
            child.wait()
            child = launch(mode, folder)
        assert child.wait(timeout=300) == 0
        assert _rows(folder) == _rows(reference)
        left, right = (
            json.loads(RunFolder(run).summary.read_text())["final"] for run in (folder, reference)
        )
        assert left == right
