"""Run folders and the log: whole files or none, and rows that can be cut back."""

import json
import os
import struct

import numpy as np
import pytest

from motion.formats.npz_clip import save_npz
from scenes.formats import atomic
from tests.motion.tiny import swaying_clip, tiny_robot
from training import motion_tracks, run_folder, tiny_guide
from training.motion_tracks import Tracks
from training.run_folder import RunFolder
from training.run_log import RunLog, keep_rows, read_rows
from voxels.block_map import make_map
from voxels.formats.any_map import save_any_map
from voxels.formats.map_json import save_map
from voxels.palette import terrain_palette


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "a.json"
    run_folder.write_json(path, {"a": 1})

    def fail(partial):
        partial.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        atomic.write_file(path, fail)
    assert json.loads(path.read_text()) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def save_tracks(path):
    poses = np.zeros((3, 9))
    motion_tracks.save(RunFolder(path.parent), Tracks(poses, poses, poses[:, 0] > 0, 50.0))


WRITERS = {
    "map.json": lambda path: save_map(path, make_map(np.ones((2, 2, 2), int), ("Stone",))),
    "world.vox": lambda path: save_any_map(
        path, make_map(np.ones((2, 2, 2), int), terrain_palette().names), terrain_palette()
    ),
    "clip.npz": lambda path: save_npz(path, tiny_robot(), swaying_clip(tiny_robot())),
    "guide.npz": lambda path: tiny_guide.save(path, {"layer": {"kernel": np.ones(3)}}),
    motion_tracks.NAME: save_tracks,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_leaves_the_old_file_or_the_whole_new_one(tmp_path, monkeypatch, name):
    """The last rename fails, as on a disk that is full; maps were once written in place."""

    def full(source, target):
        raise OSError(28, "No space left on device")

    path = tmp_path / name
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match=f"{name} cannot be written: No space left on device$"):
            WRITERS[name](path)
    assert path.read_bytes() == b"old"
    WRITERS[name](path)
    assert path.read_bytes() != b"old"
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    """After a power cut the name could stand for an empty file."""
    done, sync, replace = [], os.fsync, os.replace

    def noted_sync(number):
        done.append(("sync", os.fstat(number).st_size))
        sync(number)

    def noted_replace(source, target):
        done.append(("replace", target.name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "replace", noted_replace)
    run_folder.write_text(tmp_path / "a.txt", "four")
    assert done == [("sync", 4), ("replace", "a.txt")]


def test_where_nothing_can_be_brought_to_the_disk_files_are_written_all_the_same(
    tmp_path, monkeypatch
):
    def refuse(error):
        def fail(number):
            raise error

        monkeypatch.setattr(os, "fsync", fail)
        run_folder.write_text(tmp_path / "a.txt", "four")

    refuse(OSError(22, "Invalid argument"))
    assert (tmp_path / "a.txt").read_text() == "four"
    with pytest.raises(OSError, match=r"a\.txt cannot be written: Input/output error"):
        refuse(OSError(5, "Input/output error"))


def test_json_refuses_numbers_that_are_not_finite(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        run_folder.write_json(tmp_path / "a.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["{", "[1]", "\xff"])
def test_read_json_names_the_file(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.json"):
        run_folder.read_json(path)


def test_unused_counts_up(tmp_path):
    assert run_folder.unused(tmp_path, "x") == tmp_path / "x"
    (tmp_path / "x").mkdir()
    (tmp_path / "x-2").mkdir()
    assert run_folder.unused(tmp_path, "x") == tmp_path / "x-3"


def test_existing_wants_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such run folder"):
        run_folder.existing(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"it has no config\.json"):
        run_folder.existing(tmp_path)


def test_log_writes_rows_at_once_and_resumes_without_duplicates(tmp_path):
    folder = RunFolder(tmp_path)
    log = RunLog(folder)
    for step in (4, 8, 12):
        log.write(step, {"psnr": float(step), "bad": float("nan")})
    assert [row["step"] for row in read_rows(folder.metrics)] == [4, 8, 12]
    log.close()
    again = RunLog(folder, resumed_at=8)
    again.write(12, {"psnr": 0.5})
    again.close()
    rows = list(read_rows(folder.metrics))
    assert [(row["step"], row["psnr"]) for row in rows] == [(4, 4.0), (8, 8.0), (12, 0.5)]
    assert rows[0]["bad"] is None
    assert len(list(tmp_path.glob("events*"))) >= 1


def test_cut_off_last_line_is_left_out_but_a_broken_one_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert [row["step"] for row in read_rows(path)] == [1, 2]
    keep_rows(path, last_step=1)
    assert path.read_text() == '{"step": 1}\n'
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(ValueError, match="line 2 is not valid JSON"):
        list(read_rows(path))


def test_a_log_that_cannot_be_closed_does_not_hide_what_went_wrong_before(tmp_path, monkeypatch):
    """A full disk was once reported without the file's name, by the close in a `finally`."""

    def full():
        raise OSError("No space left on device")

    log = RunLog(RunFolder(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(log._events, "close", full)
        with pytest.raises(OSError, match=r"metrics\.jsonl could not be written: No space left"):
            log.close()

        def work():
            try:
                raise OSError("checkpoints: no space")
            finally:
                log.close()

        with pytest.raises(OSError, match="checkpoints: no space"):
            work()
    log.close()


def _events(path):
    """The events of a TensorBoard file: length, its checksum, content, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    content, at = path.read_bytes(), 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        yield Event.FromString(content[at + 12 : at + 12 + length])
        at += 16 + length


def test_tensorboard_gets_every_number_and_is_told_what_a_resumed_run_repeats(tmp_path):
    log = RunLog(RunFolder(tmp_path))
    log.write(5, {"loss": 0.5, "bad": float("nan"), "rays": 3})
    log.close()
    (first,) = tmp_path.glob("events.out.tfevents.*")
    version, event = _events(first)
    assert version.file_version == "brain.Event:2"
    assert event.step == 5
    found = {value.tag: value.simple_value for value in event.summary.value}
    assert found == {"train/loss": 0.5, "train/rays": 3.0}
    first.unlink()
    again = RunLog(RunFolder(tmp_path), resumed_at=4)
    again.close()
    (second,) = tmp_path.glob("events.out.tfevents.*")
    _, mark = _events(second)
    assert (mark.step, mark.session_log.status) == (5, mark.session_log.START)


def test_a_log_that_cannot_be_written_says_so(tmp_path, monkeypatch):
    """The writer's own thread once died of it, and the run waited for the thread for ever."""
    log = RunLog(RunFolder(tmp_path))

    def full():
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(log._events, "flush", full)
        with pytest.raises(OSError, match=r"metrics\.jsonl could not be written: No space left"):
            log.write(1, {"loss": 1.0})
    log.close()
