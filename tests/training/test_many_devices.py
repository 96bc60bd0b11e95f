"""Runs on several devices and in several processes: what is agreed on, written and gone on with."""

import json
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.on_devices import ROOT, environment, run_checks
from training import devices, doctor, processes
from training.interrupts import StopRequest
from training.processes import Joining
from training.run_log import RunLog


@pytest.mark.parametrize(
    ("flags", "environ", "expected"),
    [
        ((None, None, None), {}, None),
        ((None, None, None), {"JAX_COORDINATOR_ADDRESS": ""}, None),
        (("host:1", 2, 1), {}, Joining(coordinator="host:1", num_processes=2, process_id=1)),
        (("auto", None, None), {"JAX_PROCESS_ID": "1"}, Joining(coordinator="auto")),
        (
            (None, 4, None),
            {"JAX_COORDINATOR_ADDRESS": "[::1]:9", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "3"},
            Joining(coordinator="[::1]:9", num_processes=4, process_id=3),
        ),
    ],
)
def test_flags_come_before_the_environment(flags, environ, expected):
    assert processes.joining(*flags, environ=environ) == expected


@pytest.mark.parametrize(
    ("flags", "environ", "words"),
    [
        (("host:1", None, None), {}, "--num-processes .* and --process-id .*JAX_PROCESS_ID"),
        ((None, None, None), {"JAX_NUM_PROCESSES": "2"}, "needs --coordinator"),
        (("auto", 2, None), {}, "finds out"),
        (("host", 2, 0), {}, "HOST:PORT"),
        (("host:1", 2, 2), {}, "0 to the number of processes - 1, got 2 of 2"),
        (("host:1", 2, None), {"JAX_PROCESS_ID": "one"}, "JAX_PROCESS_ID must be a whole number"),
    ],
)
def test_half_given_settings_are_refused_by_name(flags, environ, words):
    with pytest.raises(ValueError, match=words):
        processes.joining(*flags, environ=environ)


@pytest.mark.parametrize(
    ("asked", "words"), [("0", "number or all"), ("many", "number or all"), ("4096", "JAX finds")]
)
def test_impossible_numbers_of_devices_are_refused(asked, words):
    with pytest.raises(ValueError, match=words):
        devices.choose(asked)


def test_one_device_is_the_default_and_arrays_stay_as_they_are():
    assert devices.choose(None) is None
    assert devices.choose("1") is None
    tree = {"a": jax.numpy.ones(3), "b": np.ones(2)}
    assert devices.spread(tree, None) is tree
    assert devices.local(tree)["a"] is tree["a"]
    assert devices.whole(tree)["b"] is tree["b"]


def test_alone_errors_pass_and_the_first_process_is_this_one():
    with pytest.raises(OSError, match="disk"), processes.together():
        raise OSError("disk")
    assert processes.is_first()
    assert processes.told_by_first(lambda: (1,)) == (1,)
    stop = StopRequest()
    assert not processes.AnyStop(stop).is_set
    stop.is_set = True
    assert processes.AnyStop(stop).is_set


def test_a_process_that_is_not_the_first_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = RunLog(None, resumed_at=3)
    log.write(1, {"loss": 1.0})
    log.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("environ", "level", "words"),
    [
        ({}, "ok", "one;"),
        ({"JAX_PROCESS_ID": "0"}, "error", "JAX_COORDINATOR_ADDRESS"),
        ({"SLURM_NTASKS": "8", "SLURM_STEP_NODELIST": "a[1-2]"}, "note", "8 tasks"),
        (
            {
                "JAX_COORDINATOR_ADDRESS": "h:1",
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": "1",
            },
            "ok",
            "process 1 of 2",
        ),
    ],
)
def test_doctor_says_what_the_environment_knows_of_other_processes(environ, level, words):
    finding = doctor.several_processes(environ)
    assert finding.level == level
    assert words in finding.text


@pytest.mark.slow
def test_runs_go_on_with_another_number_of_devices(tmp_path):
    run_checks("tests.training.device_checks", "resume", str(tmp_path), timeout=1800)


@pytest.mark.slow
def test_two_processes_are_one_run_with_one_folder(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    folder = tmp_path / "runs" / "together"
    (tmp_path / "runs").mkdir()
    children = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.training.device_checks", "train"),
                *(str(folder), address, "2", str(place)),
            ],
            cwd=ROOT,
            env=environment(2),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for place in (0, 1)
    ]
    try:
        told = [child.communicate(timeout=1800) for child in children]
    finally:
        for child in children:
            child.kill()
    for child, (_, errors) in zip(children, told, strict=True):
        assert child.returncode == 0, errors[-3000:]
    sums = [
        [line for line in errors.splitlines() if line.startswith("sums ")] for _, errors in told
    ]
    assert len(sums[0]) == 1
    assert sums[0] == sums[1]
    assert "passed" in told[0][0]
    assert "passed" not in told[1][0], "only process 0 prints"
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["together"]
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["num_processes"], summary["num_devices"]) == (2, 4)
    assert summary["steps"] == 24
