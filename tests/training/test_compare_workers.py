"""Runs side by side: who does what, what is said, and how it stops."""

import dataclasses
import os
import signal
import subprocess
import sys

import pytest

from training import compare_runs, compare_workers
from training.compare_config import NerfComparison, run_name
from training.compare_worker import cores
from training.nerf_config import OutputConfig
from training.run_folder import RunFolder
from training.sampler_config import SamplerConfig

from .conftest import TINY

COMPARISON = NerfComparison(
    base=dataclasses.replace(TINY, outputs=OutputConfig(num_pictures=1, video_frames=0)),
    samplers=(SamplerConfig(name="uniform"), SamplerConfig(name="error_weighted")),
    num_seeds=2,
)
needs_two_cores = pytest.mark.skipif(len(cores()) < 2, reason="needs two cores")


def stand_ins(monkeypatch, folder, program):
    """Starts programs that fail when their input ends before they do; argv[1:] is folder, index.

    They end with what `finish(text)` writes into a file of their index.
    """
    frame = (
        "import os, sys, threading, time\n"
        "folder, index = sys.argv[1:3]\n"
        "def finish(text): open(f'{folder}/{index}', 'w').write(text); os._exit(0)\n"
        "def watch():\n"
        "    while os.read(0, 10): pass\n"
        "    finish('stopped')\n"
        "threading.Thread(target=watch, daemon=True).start()\n"
    )

    def start(_, index, count, log):
        words = [sys.executable, "-c", frame + program, str(folder), str(index), str(count)]
        with log.open("ab") as said:
            return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=said, stderr=said)

    monkeypatch.setattr(compare_workers, "_start", start)
    compare_runs.write_config(COMPARISON, folder)


def ends(folder):
    return {path.name: path.read_text() for path in folder.iterdir() if path.name in ("0", "1")}


@needs_two_cores
def test_it_waits_for_all_workers(monkeypatch, tmp_path, capsys):
    stand_ins(monkeypatch, tmp_path, "time.sleep(0.3 + 0.7 * int(index)); finish('done')")
    compare_workers.run(COMPARISON, tmp_path, 2)
    assert ends(tmp_path) == {"0": "done", "1": "done"}
    assert "2 runs side by side" in capsys.readouterr().out


@needs_two_cores
def test_workers_that_fail_are_named_and_the_others_finish(monkeypatch, tmp_path):
    program = "index == '1' and sys.exit('no such data')\ntime.sleep(1); finish('done')"
    stand_ins(monkeypatch, tmp_path, program)
    said = r"worker-2\.log \(exit code 1\): no such data"
    with pytest.raises(ChildProcessError, match=said):
        compare_workers.run(COMPARISON, tmp_path, 2)
    assert ends(tmp_path) == {"0": "done"}


@needs_two_cores
def test_a_stop_ends_the_input_of_the_workers(monkeypatch, tmp_path):
    stand_ins(monkeypatch, tmp_path, "time.sleep(60)")
    count = compare_workers._num_done

    def count_and_stop(runs):
        os.kill(os.getpid(), signal.SIGINT)
        monkeypatch.setattr(compare_workers, "_num_done", count)
        return count(runs)

    monkeypatch.setattr(compare_workers, "_num_done", count_and_stop)
    with pytest.raises(SystemExit) as left:
        compare_workers.run(COMPARISON, tmp_path, 2)
    assert left.value.code == 130
    assert ends(tmp_path) == {"0": "stopped", "1": "stopped"}


@needs_two_cores
def test_a_comparison_that_is_worked_on_is_left_alone(monkeypatch, tmp_path):
    stand_ins(monkeypatch, tmp_path, "finish('done')")
    with compare_workers.working_in(tmp_path):
        with compare_workers.working_in(tmp_path):
            pass  # workers share
        for count in (1, 2):
            with pytest.raises(ValueError, match="another process works on this comparison"):
                compare_runs.resume(tmp_path, workers=count)
    assert ends(tmp_path) == {}


@needs_two_cores
def test_a_worker_ends_well_while_its_input_is_open(tmp_path, monkeypatch):
    compare_runs.write_config(COMPARISON, tmp_path)
    for job in COMPARISON.runs():
        summary = RunFolder(tmp_path / run_name(job)).summary
        summary.parent.mkdir(parents=True)
        summary.write_text("{}")
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "__init__.py").write_text("raise ImportError('not this one')")
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "worker-1.log"
    worker = compare_workers._start(tmp_path, 0, 2, log)
    try:
        assert worker.wait(120) == 0, log.read_text()
    finally:
        compare_workers._end([worker], is_urgent=True)
    assert log.read_text().count("already done") == 2


@pytest.mark.parametrize("count", [0, 3])
def test_more_workers_than_seeds_are_refused(tmp_path, count):
    with pytest.raises(ValueError, match=r"--workers must be from 1 to the number of seeds, 2"):
        compare_workers.run(COMPARISON, tmp_path, count)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@needs_two_cores
def test_runs_side_by_side_end_as_runs_in_turn(tmp_path, shared):
    together = compare_runs.start(COMPARISON, tmp_path / "together", workers=2)
    in_turn = compare_runs.start(COMPARISON, tmp_path / "in-turn", shared=shared)
    for name in ("uniform", "error_weighted"):
        for quantity in ("final", "at_equal_steps"):
            a, b = (found["samplers"][name][quantity]["values"] for found in (together, in_turn))
            assert a == pytest.approx(b, abs=0.05)  # another number of cores sums in another order
    said = [(tmp_path / "together" / f"worker-{k}.log").read_text() for k in (1, 2)]
    done = [[run_name(job) in text for job in COMPARISON.runs()] for text in said]
    assert done == [[True, True, False, False], [False, False, True, True]]
