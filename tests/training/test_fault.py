"""A step that is not finite stops the run, is kept, and can be repeated."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nerf import train_step
from training import checkpoints, cli, fault_replay, nerf_job, nerf_setup
from training.fault import FaultError, check_finite, not_finite
from training.run_folder import RunFolder

from .conftest import TINY


def test_nan_stops_saves_and_replays(finished, shared, tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(finished[0], folder.path)
    shutil.rmtree(folder.checkpoints)
    template = nerf_setup.state_shapes(nerf_setup.prepare(TINY, shared.scene))
    good = checkpoints.restore(RunFolder(finished[0]).checkpoints, template)
    # the state of step 8 with a network that has lost its mind
    state = good.state._replace(
        step=jnp.asarray(8, jnp.int32),
        params=jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), good.state.params),
    )
    extra = {**good.extra, "step": 8}
    saver = checkpoints.Saver(folder.checkpoints)
    saver.save(8, state, extra)
    saver.close()

    with pytest.raises(FaultError, match="step 8 was not finite") as raised:
        nerf_job.resume(str(folder.path), shared=shared)
    assert "hardlight replay" in str(raised.value)
    assert json.loads((folder.fault / "fault.json").read_text())["step"] == 8
    kept = checkpoints.restore(folder.fault, template)
    assert kept.step == 8
    for a, b in zip(jax.tree.leaves(kept.state), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))

    def make_again(*arguments):
        raise AssertionError("the step is known")

    known = dict(shared.steps)
    with monkeypatch.context() as patch:
        patch.setattr(train_step, "make_train_step", make_again)
        report = fault_replay.replay(str(folder.path), known=known)
    assert known == shared.steps
    assert not report.is_finite
    assert any(line.startswith("before the step: params.params.tables") for line in report.lines)
    assert "not finite again" in report.lines[-1]


def test_a_run_without_fault_has_nothing_to_replay(finished, capsys):
    assert cli.main(["replay", str(finished[0])]) == 2
    assert "met no fault" in capsys.readouterr().err


def test_not_finite_counts():
    tree = {"a": jnp.array([1.0, jnp.inf, jnp.nan]), "b": jnp.arange(3), "c": jnp.ones(2)}
    assert list(not_finite(tree)) == [("a", 2, 3)]


def test_a_fault_is_kept_apart_from_the_checkpoints(tmp_path):
    folder = RunFolder(tmp_path)
    saver = checkpoints.Saver(folder.checkpoints)
    saver.save(3, {"a": jnp.ones(2)}, {})
    saver.close()
    check_finite(folder, {"a": jnp.ones(2)}, step=4, values={"loss": 1.0})
    bad = {"a": jnp.array([1.0, jnp.nan])}
    with pytest.raises(FaultError, match=r"step 4 was not finite .*reward nan.*last good"):
        check_finite(folder, bad, step=4, values={"loss": 1.0, "reward": float("nan")})
    assert checkpoints.restore(folder.checkpoints, bad).step == 3
    np.testing.assert_array_equal(checkpoints.restore(folder.fault, bad).state["a"], bad["a"])


def test_the_same_fault_again_takes_the_place_of_the_first(tmp_path):
    folder, bad = RunFolder(tmp_path), {"a": jnp.array([jnp.nan])}
    for step, weight in ((4, 1.0), (6, 2.0), (4, 3.0)):
        with pytest.raises(FaultError):
            check_finite(folder, {"w": jnp.array(weight)}, step=step, values={}, learned=bad)
    assert sorted(path.name for path in folder.fault.iterdir()) == ["4", "fault.json"]
    restored = checkpoints.restore(folder.fault, {"w": jnp.array(0.0)})
    assert float(restored.state["w"]) == 3.0


def test_a_state_that_is_not_finite_is_a_fault_though_its_metrics_are_fine(tmp_path):
    folder = RunFolder(tmp_path)
    learned = {"grid": jnp.array([1.0, jnp.nan, jnp.inf]), "count": jnp.arange(2)}
    with pytest.raises(FaultError, match=r"step 2 was not finite \(learned grid in 2 of 3\)"):
        check_finite(folder, learned, step=2, values={"loss": 1.0}, learned=learned)
    check_finite(folder, learned, step=2, values={"loss": 1.0}, learned=learned["count"])
