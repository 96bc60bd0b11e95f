"""Damage anywhere in a checkpoint: it is found, or it did not matter; never half a state."""

import json
import shutil

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mutations import damaged_bytes
from training import checkpoints
from training.checkpoints import Saver

_OLDER, _NEWEST = 4, 8


def _state(step):
    random = np.random.default_rng(step)
    return {
        "params": (random.normal(size=(7, 5)).astype(np.float32), random.normal(size=3)),
        "count": np.array(step, np.int32),
        "none": np.zeros((0, 2), np.float32),
        "flags": random.random(12) < 0.5,
    }


def _extra(step):
    return {"step": step, "train_seconds": 12.25 * step, "curve": [[step, 0.5, 21.75]]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder of two checkpoints, and the files of each."""
    folder = tmp_path_factory.mktemp("whole")
    saver = Saver(folder)
    for step in (_OLDER, _NEWEST):
        saver.save(step, _state(step), _extra(step))
    saver.close()
    files = {
        step: sorted(path for path in (folder / str(step)).rglob("*") if path.is_file())
        for step in (_OLDER, _NEWEST)
    }
    return folder, files


@pytest.fixture(scope="module")
def copy(whole, tmp_path_factory):
    """A folder of its own to damage, made anew for every example."""
    place = tmp_path_factory.mktemp("damaged") / "checkpoints"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "_LATE_READS", 0.05)
        yield place


def _spoil(draw, whole, copy, step):
    folder, files = whole
    file = draw(st.sampled_from(files[step]))
    target = copy / file.relative_to(folder)
    if draw(st.integers(0, 9)) == 0:
        target.unlink()
    else:
        target.write_bytes(draw(damaged_bytes(file.read_bytes())))


def _copied(whole, copy):
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole[0], copy)


def _assert_is(restored, step):
    assert (restored.step, restored.extra) == (step, _extra(step))
    for a, b in zip(jax.tree.leaves(restored.state), jax.tree.leaves(_state(step)), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert np.asarray(a).tobytes() == b.tobytes()


def _damage_the_newest(data, whole, copy):
    _copied(whole, copy)
    _spoil(data.draw, whole, copy, _NEWEST)
    restored = checkpoints.restore(copy, _state(0))
    if restored.step == _OLDER:
        assert len(restored.warnings) == 1
        assert str(copy / str(_NEWEST)) in restored.warnings[0]
    else:
        assert restored.warnings == ()
    _assert_is(restored, restored.step)


@settings(max_examples=15)
@given(data=st.data())
def test_a_damaged_checkpoint_is_whole_or_the_one_before_is_used(whole, copy, data):
    _damage_the_newest(data, whole, copy)


@pytest.mark.slow
@settings(max_examples=600)
@given(data=st.data())
def test_a_checkpoint_damaged_anywhere_is_whole_or_the_one_before_is_used(whole, copy, data):
    _damage_the_newest(data, whole, copy)


@pytest.mark.slow
@settings(max_examples=150)
@given(data=st.data())
def test_if_both_are_damaged_one_is_whole_or_both_are_named(whole, copy, data):
    _copied(whole, copy)
    for step in (_OLDER, _NEWEST):
        _spoil(data.draw, whole, copy, step)
    try:
        restored = checkpoints.restore(copy, _state(0))
    except ValueError as error:
        refusal = str(error)
    else:
        _assert_is(restored, restored.step)
        return
    assert all(str(copy / str(step)) in refusal for step in (_OLDER, _NEWEST))


def test_what_is_kept_beside_the_arrays_is_checked_too(whole, copy):
    """A digit of the training time once changed unseen."""
    _copied(whole, copy)
    meta = copy / str(_NEWEST) / "meta" / "metadata"
    text = meta.read_text()
    assert "98.0" in text
    meta.write_text(text.replace("98.0", "99.0"))
    restored = checkpoints.restore(copy, _state(0))
    _assert_is(restored, _OLDER)
    assert "another checksum than when saved" in restored.warnings[0]


def test_a_checkpoint_under_another_number_is_not_taken_for_it(whole, copy):
    _copied(whole, copy)
    (copy / str(_NEWEST)).rename(copy / "9")
    restored = checkpoints.restore(copy, _state(0))
    _assert_is(restored, _OLDER)
    assert "it is of step 8" in restored.warnings[0]


def test_a_checkpoint_of_another_version_is_refused_by_both_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "_FORMAT", 7)
    saver = Saver(tmp_path)
    saver.save(3, _state(3), {})
    saver.close()
    monkeypatch.undo()
    with pytest.raises(ValueError, match="another version of hardlight: its format is 7"):
        checkpoints.restore(tmp_path, _state(0))


@pytest.mark.parametrize("has_checksum", [True, False])
def test_a_newer_checkpoint_laid_out_otherwise_is_refused_and_stays(whole, copy, has_checksum):
    """It once counted as damaged, and the next save deleted it."""
    _copied(whole, copy)
    meta = copy / str(_NEWEST) / "meta" / "metadata"
    values = {"format": 2, "at": _NEWEST, "parts": []}
    if has_checksum:
        values["checksum"] = checkpoints._checksum_of_meta(values)
    meta.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"its format is 2, this version reads 1"):
        checkpoints.restore(copy, _state(0))
    assert checkpoints.steps(copy) == [_NEWEST, _OLDER]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError("no room"), MemoryError),
        (PermissionError(13, "Permission denied"), PermissionError),
        (ValueError('PERMISSION_DENIED: Error opening "zarr" driver'), PermissionError),
    ],
)
def test_a_checkpoint_that_cannot_be_read_now_is_not_damaged(whole, copy, monkeypatch, error, kind):
    def fail(path):
        raise error

    _copied(whole, copy)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_read", fail)
        with pytest.raises(kind):
            checkpoints.restore(copy, _state(0))
    _assert_is(checkpoints.restore(copy, _state(0)), _NEWEST)


def test_a_checkpoint_from_before_there_were_checksums_of_everything_is_read(whole, copy):
    _copied(whole, copy)
    meta = copy / str(_NEWEST) / "meta" / "metadata"
    values = json.loads(meta.read_text())
    del values["checksum"], values["format"]
    meta.write_text(json.dumps(values))
    _assert_is(checkpoints.restore(copy, _state(0)), _NEWEST)


def test_saving_on_after_a_damaged_checkpoint_leaves_none_but_whole_ones(whole, copy):
    """It once stayed as the newest, and took the place of a good one."""
    _copied(whole, copy)
    (copy / str(_NEWEST) / "meta" / "metadata").write_text("{")
    saver = Saver(copy)
    saver.save(6, _state(6), _extra(6))
    saver.close()
    assert checkpoints.steps(copy) == [6, _OLDER]
    restored = checkpoints.restore(copy, _state(0))
    assert restored.warnings == ()
    _assert_is(restored, 6)


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_damaged_checkpoint_is_set_aside_and_not_deleted(whole, copy):
    """Also one that orbax could take for half written; what was damaged may be mended by hand."""
    _copied(whole, copy)
    for file in (copy / str(_NEWEST)).rglob("commit_success.txt"):
        file.unlink()
    meta = copy / str(_NEWEST) / "meta" / "metadata"
    content = meta.read_bytes()
    meta.write_text("{")
    for step in (6, 10):
        saver = Saver(copy)
        saver.save(step, _state(step), _extra(step))
        saver.close()
    assert _names(copy) == ["10", "6", f"unreadable-{_NEWEST}"]
    shutil.rmtree(copy / "10")
    (copy / f"unreadable-{_NEWEST}").rename(copy / str(_NEWEST))
    meta.write_bytes(content)
    _assert_is(checkpoints.restore(copy, _state(0)), _NEWEST)


def test_of_damaged_checkpoints_the_last_ones_set_aside_are_kept(whole, copy):
    _copied(whole, copy)
    for step in (20, 30, 5, 7, 7):
        shutil.copytree(copy / str(_OLDER), copy / str(step), dirs_exist_ok=True)
        saver = Saver(copy, last=_OLDER)
        saver.save(5, _state(5), _extra(5))
        saver.close()
        shutil.rmtree(copy / "5")
        shutil.copytree(whole[0] / str(_OLDER), copy / str(_OLDER), dirs_exist_ok=True)
    assert _names(copy) == [str(_OLDER), "unreadable-5", "unreadable-7"]
