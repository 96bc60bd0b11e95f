"""Runs side by side: who does what, what is said, and how it stops."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading

import pytest

from training import compare_runs, compare_workers
from training.compare_config import NerfComparison, run_name
from training.nerf_config import OutputConfig, SamplerConfig

from .conftest import TINY

COMPARISON = NerfComparison(
    base=dataclasses.replace(TINY, outputs=OutputConfig(num_pictures=1, video_frames=0)),
    samplers=(SamplerConfig(name="uniform"), SamplerConfig(name="error_weighted")),
    num_seeds=2,
)
needs_two_cores = pytest.mark.skipif(len(compare_workers.cores()) < 2, reason="needs two cores")


def stand_ins(monkeypatch, program):
    """Starts programs that read their input and know folder, index and count as argv[1:]."""

    def start(folder, index, count, log):
        words = [sys.executable, "-c", program, str(folder), str(index), str(count)]
        with log.open("ab") as said:
            return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=said, stderr=said)

    monkeypatch.setattr(compare_workers, "_start", start)


@needs_two_cores
def test_it_waits_for_all_workers(monkeypatch, tmp_path, capsys):
    stand_ins(
        monkeypatch, "import sys, time; time.sleep(0.2); open(sys.argv[1] + '/' + sys.argv[2], 'w')"
    )
    compare_workers.run(COMPARISON, tmp_path, 2)
    assert {path.name for path in tmp_path.iterdir()} >= {"0", "1", "worker-1.log", "worker-2.log"}
    assert "2 runs side by side" in capsys.readouterr().out


@needs_two_cores
def test_a_worker_that_fails_is_named_and_the_others_finish(monkeypatch, tmp_path):
    program = (
        "import sys, time\n"
        "if sys.argv[2] == '1': sys.exit('no such data')\n"
        "time.sleep(0.5); open(sys.argv[1] + '/done', 'w')"
    )
    stand_ins(monkeypatch, program)
    with pytest.raises(ChildProcessError, match=r"worker-2\.log: this worker failed: no such data"):
        compare_workers.run(COMPARISON, tmp_path, 2)
    assert (tmp_path / "done").exists()


@needs_two_cores
def test_a_stop_ends_the_input_of_the_workers(monkeypatch, tmp_path):
    stand_ins(
        monkeypatch, "import sys; sys.stdin.read(); open(sys.argv[1] + '/' + sys.argv[2], 'w')"
    )
    threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(SystemExit) as left:
        compare_workers.run(COMPARISON, tmp_path, 2)
    assert left.value.code == 130
    assert {path.name for path in tmp_path.iterdir()} >= {"0", "1"}


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
