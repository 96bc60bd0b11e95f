"""The whole job from its flags: resume bit for bit, gradients alone, maps and captured views."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from training import checkpoints, config_json, run_folder, voxels_job, voxels_setup
from training.fault import FaultError
from training.interrupts import StopRequest
from training.voxels_command import VoxelsCommand
from training.voxels_config import VoxelsJob

SMALL = {"steps": 8, "size": 16, "views": 3, "set_": ("world.shape=[5,5,5]", "loop.log_every=2")}


class StopAfter(StopRequest):
    """A user who interrupts after some steps."""

    looks = 3

    def __enter__(self):
        self._left = self.looks
        return self

    def __setattr__(self, name, value):
        if name != "is_set":
            super().__setattr__(name, value)

    @property
    def is_set(self):
        self._left -= 1
        return self._left < 0


def last_state(path):
    folder = run_folder.existing(str(path))
    job = config_json.from_json(VoxelsJob, run_folder.read_json(folder.config)["config"], "here")
    shapes = voxels_setup.state_shapes(voxels_setup.prepare(job))
    return checkpoints.restore(folder.checkpoints, shapes)


@pytest.mark.slow
def test_a_resumed_run_ends_bit_for_bit_where_an_unbroken_one_does(tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    VoxelsCommand(out=str(whole), **SMALL).run()
    with monkeypatch.context() as patch:
        patch.setattr(voxels_job, "StopRequest", StopAfter)
        with pytest.raises(SystemExit):
            VoxelsCommand(out=str(broken), **SMALL).run()
    assert 0 < last_state(broken).step < 8
    VoxelsCommand(resume=str(broken)).run()
    ends = [last_state(path) for path in (whole, broken)]
    assert [end.step for end in ends] == [8, 8]
    for a, b in zip(*(jax.tree.leaves(end.state) for end in ends), strict=True):
        np.testing.assert_array_equal(a, b)
    maps = [(path / "map_optimized.json").read_text() for path in (whole, broken)]
    assert maps[0] == maps[1]
    summaries = [run_folder.read_json(path / "summary.json")["final"] for path in (whole, broken)]
    assert summaries[0] == summaries[1]
    assert "export gap" in (broken / "report.html").read_text()


@pytest.mark.slow
def test_a_world_gone_nan_is_not_kept_and_the_run_goes_on_as_if_it_had_not(tmp_path, monkeypatch):
    """Metrics tell of what was before a step, so its last good checkpoint was overwritten once."""
    whole, part = tmp_path / "whole", tmp_path / "part"
    settings = SMALL | {"set_": (*SMALL["set_"], "loop.checkpoint_seconds=0.000001")}
    real = voxels_job._make_step

    def poisoned(setup):
        step = real(setup)

        def lose_its_mind(state):
            state, metrics = step(state)
            if int(state.step) == 4:
                state = state._replace(grid=jax.tree.map(lambda leaf: leaf * np.nan, state.grid))
            return state, metrics

        return lose_its_mind

    with monkeypatch.context() as patch:
        patch.setattr(voxels_job, "_make_step", poisoned)
        with pytest.raises(
            FaultError, match=r"step 4 was not finite \(learned occupancy logits in 125"
        ):
            VoxelsCommand(out=str(part), **settings).run()
    assert last_state(part).step == 2
    VoxelsCommand(resume=str(part)).run()
    VoxelsCommand(out=str(whole), **settings).run()
    for a, b in zip(
        *(jax.tree.leaves(last_state(path).state) for path in (whole, part)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_map_with_captured_views_is_kept_by_its_own_pictures(tmp_path, data_folder):
    """Training starts at the truth here, so it must stay there."""
    folder = Path(data_folder) / "voxels/synthetic"
    out = tmp_path / "run"
    VoxelsCommand(
        map=str(folder / "maps/1/map.json"),
        cameras=str(folder / "datasets/1/metadata.json"),
        steps=10,
        out=str(out),
    ).run()
    final = run_folder.read_json(out / "summary.json")["final"]
    assert final["known_map"] == "initial"
    assert final["visible_right"] > 0.98
    assert final["psnr_exported"] > 25


@pytest.mark.slow
def test_gradients_can_be_checked_without_training(tmp_path, capsys):
    out = tmp_path / "gradients"
    VoxelsCommand(check_gradients=True, out=str(out), **SMALL).run()
    written = json.loads((out / "gradient_report.json").read_text())
    assert json.loads(capsys.readouterr().out) == written
    assert 0 <= written["gradient_health_score"] <= 1
    assert written["score"] > 0.5
    assert not (out / "checkpoints").exists() or not any((out / "checkpoints").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"guidance": "tiny"}, "needs a prompt"),
        ({"guidance": "target", "prompt": "snow"}, "reads no prompt"),
        ({"cameras": "metadata.json"}, "belongs to a --map"),
        ({"resume": "run", "steps": 3}, "goes on as it was started"),
        ({"guidance": "tiny", "prompt": "castle"}, "the prompt knows"),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        VoxelsCommand(out=str(tmp_path / "run"), **({"size": 16} | flags)).run()
