"""`hardlight view`: who shows what, which flags it has then, and how a visit ends."""

import json
from types import SimpleNamespace

import pytest

from training import cli, motion_viewer, viewer, voxels_viewer

pytest.importorskip("viser")
SERVERS = {"nerf": viewer, "motion": motion_viewer, "voxels": voxels_viewer}


def run_of(job, folder):
    """A folder that says that it holds a run."""
    (folder / "config.json").write_text(json.dumps({"config": {"job": job}}))
    return str(folder)


@pytest.fixture
def served(monkeypatch):
    """What each viewer was asked to serve, by job."""
    asked = {}
    for job, module in SERVERS.items():

        def serve(path, job=job, **flags):
            asked[job] = flags

        monkeypatch.setattr(module, "serve", serve)
    return asked


@pytest.mark.parametrize("job", ["motion", "voxels"])
@pytest.mark.parametrize(
    "flags",
    [("--size", "256"), ("--picture", "color"), ("--cameras", "none"), ("--cameras", "errors")],
)
def test_only_radiance_fields_have_pictures_and_cameras(tmp_path, capsys, served, job, flags):
    assert cli.main(["view", run_of(job, tmp_path), *flags]) == 2
    error = " ".join(capsys.readouterr().err.split())
    name = {"motion": "a motion run", "voxels": "a block world"}[job]
    assert f"is {name}; only radiance fields have {flags[0]}" in error
    assert not served
    assert cli.main(["view", run_of(job, tmp_path), "--port", "9000"]) == 0
    assert served == {job: {"host": "127.0.0.1", "port": 9000}}


def test_a_radiance_field_is_shown_as_asked(tmp_path, served):
    path = run_of("nerf", tmp_path)
    where = {"host": "127.0.0.1", "port": 8080}
    assert cli.main(["view", path]) == 0
    assert served["nerf"] == {**where, "size": 256, "picture": "color", "cameras": "none"}
    assert cli.main(["view", path, "--size", "64", "--picture", "depth", "--cameras", "draws"]) == 0
    assert served["nerf"] == {**where, "size": 64, "picture": "depth", "cameras": "draws"}


@pytest.mark.parametrize("job", SERVERS)
def test_an_interrupt_ends_a_visit_quietly(tmp_path, capsys, monkeypatch, job):
    def interrupted(path, **flags):
        raise KeyboardInterrupt

    monkeypatch.setattr(SERVERS[job], "serve", interrupted)
    assert cli.main(["view", run_of(job, tmp_path)]) == 0
    assert capsys.readouterr().err == ""


def test_the_player_of_motions_stops_its_server_when_interrupted(monkeypatch):
    stopped = []

    def interrupted():
        raise KeyboardInterrupt

    player = SimpleNamespace(port=1, run=interrupted, stop=lambda: stopped.append(True))
    monkeypatch.setattr(motion_viewer, "Player", lambda path, **where: player)
    with pytest.raises(KeyboardInterrupt):
        motion_viewer.serve("run", host="127.0.0.1", port=1)
    assert stopped
