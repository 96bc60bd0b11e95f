"""Runs killed at any moment go on and end bit for bit where one left alone does; so do exports."""

import signal
import subprocess
import sys

import pytest

from benchmarks import faults
from training import config_json, motion_options, run_folder, voxels_options, voxels_setup
from training.motion_command import MotionCommand
from training.run_folder import RunFolder
from training.voxels_command import VoxelsCommand
from voxels.formats.map_json import save_map
from voxels.procedural import WorldConfig, make_world


@pytest.mark.slow
@pytest.mark.parametrize(("job", "kills"), [("nerf", 8), ("voxels", 4), ("motion", 4)])
def test_a_run_killed_again_and_again_loses_nothing_beyond_its_last_checkpoint(
    tmp_path, job, kills
):
    counts = faults.kill_and_resume(job, tmp_path, num_kills=kills)
    assert counts["is_same_end"]
    assert counts["injected"] >= kills // 2  # a run may end before it is hit
    assert counts["lost"] == 0


_EXPORT = """
import os, signal, sys
from training import cli
moment = sys.argv[1]
def die(): os.kill(os.getpid(), signal.SIGKILL)
def cut_and_die(number):
    os.ftruncate(number, os.fstat(number).st_size // 2)
    die()
if moment == "half":
    os.fsync = cut_and_die
elif moment == "unnamed":
    os.replace = lambda *paths: die()
sys.exit(cli.main(["export", *sys.argv[2:]]))
"""


def _export(moment, *words):
    """Runs a command that is killed in the middle of a file, or before the file has its name."""
    program = [sys.executable, "-c", _EXPORT, moment, *map(str, words)]
    return subprocess.run(program, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def exportable(tmp_path_factory):
    """What an export needs of a run, by job; nothing is trained."""
    folders = {name: RunFolder(tmp_path_factory.mktemp(name)) for name in ("voxels", "motion")}
    jobs = {
        "voxels": voxels_options.build(VoxelsCommand(steps=8)),
        "motion": motion_options.build(MotionCommand(steps=4, clip=("builtin:stand",))),
    }
    for name, job in jobs.items():
        stored = {"config": config_json.to_json(job), "data": {}}
        run_folder.write_json(folders[name].config, stored)
    world = make_world(WorldConfig(shape=(5, 5, 5), num_houses=0), 0)
    save_map(folders["voxels"].path / voxels_setup.EXPORTED, world)
    return folders


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job", "what", "name"),
    [
        ("voxels", (), "world.vox"),
        ("voxels", (), "world.json"),
        ("motion", ("--what", "clips"), "clips/stand.npz"),
    ],
)
def test_a_killed_export_leaves_the_old_file_or_none_and_the_next_one_succeeds(
    exportable, tmp_path, job, what, name
):
    path = tmp_path / name
    out = path.parent if what else path
    words = (exportable[job].path, *what, "--out", out)
    for moment in ("half", "unnamed"):
        for old in (None, b"old"):
            path.unlink(missing_ok=True)
            if old is not None:
                path.write_bytes(old)
            killed = _export(moment, *words)
            assert killed.returncode == -signal.SIGKILL, killed.stderr
            assert (path.read_bytes() if path.exists() else None) == old
    ended = _export("never", *words)
    assert ended.returncode == 0, ended.stderr
    found = path.read_bytes()
    path.unlink()
    assert _export("never", *words).returncode == 0
    assert path.read_bytes() == found
