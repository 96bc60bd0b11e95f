"""Damaged clips of every format: read, or refused by name, nothing else."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motion import builtin_clips
from motion.clips import check_clip
from motion.formats.clip_files import load_clip
from motion.formats.csv_clip import load_csv
from motion.formats.deepmimic import load_deepmimic
from motion.formats.joint_orders import G1_JOINTS
from motion.formats.manifest import load_manifest, read_manifest
from motion.formats.npz_clip import load_npz, save_npz
from motion.robots import humanoid_robot

from ..mutations import (
    damaged_arrays,
    damaged_bytes,
    damaged_json,
    damaged_text,
    npz,
    reads_or_refuses,
)
from .tiny import swaying_clip, tiny_robot


def _damaged_npz(content, arrays):
    return st.one_of(damaged_bytes(content), damaged_arrays(arrays).map(npz))


def _short(robot):
    return swaying_clip(robot, seconds=0.2)


def _csv(robot):
    clip = _short(robot)
    table = np.concatenate((clip.root_position, clip.root_quaternion, clip.joint_position), axis=1)
    return "\n".join(",".join(f"{value:.6g}" for value in row) for row in table).encode()


def _ours(robot, folder):
    save_npz(folder / "ours.npz", robot, _short(robot))
    with np.load(folder / "ours.npz") as file:
        return dict(file)


def _asap():
    frames = 5
    turn = np.tile([0.0, 0, 0.1, np.sqrt(0.99)], (frames, 1))
    return {
        "fps": np.array(30.0),
        "root_pos": np.tile([0.0, 0.0, 0.8], (frames, 1)),
        "root_rot_xyzw": turn,
        "dof": np.zeros((frames, 29)),
    }


def _deepmimic():
    frame = np.zeros(44)
    frame[[0, 2]] = 0.1, 0.84
    frame[[4, 8, 12, 16, 21, 25, 30, 35, 39]] = 1.0
    frames = np.tile(frame, (5, 1))
    frames[2, 0] = 0.05
    return json.dumps({"Loop": "wrap", "Frames": frames.tolist()}).encode()


_MANIFEST = json.dumps(
    {
        "clips": [
            {"file": "clip.csv", "name": "a", "weight": 2.0, "quaternion_order": "wxyz", "fps": 30},
            {"file": "ours.npz", "split": "train", "is_put_on_floor": False},
        ]
    }
).encode()


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """By file: whole bytes, how they are damaged, and their reader."""
    folder = tmp_path_factory.mktemp("clips")
    robot, person = tiny_robot(), humanoid_robot()
    csv, ours, asap = _csv(robot), _ours(robot, folder), _asap()

    def g1(path):
        check_clip(load_npz(path, G1_JOINTS))

    def manifest(path):
        for _, loaded in load_manifest(path, robot):
            check_clip(loaded.clip)

    found = {
        "clip.csv": (csv, damaged_text(csv), lambda path: check_clip(load_clip(path, robot).clip)),
        "ours.npz": (
            npz(ours),
            _damaged_npz(npz(ours), ours),
            lambda path: check_clip(load_clip(path, robot).clip),
        ),
        "asap.npz": (npz(asap), _damaged_npz(npz(asap), asap), g1),
        "jump.txt": (
            _deepmimic(),
            damaged_json(_deepmimic()),
            lambda path: check_clip(load_clip(path, person).clip),
        ),
        "clips.json": (_MANIFEST, damaged_json(_MANIFEST), manifest),
    }
    for name, (content, _, _) in found.items():
        (folder / name).write_bytes(content)
    return folder, found


NAMES = ("clip.csv", "ours.npz", "asap.npz", "jump.txt", "clips.json")


def _damage(cases, name, data):
    folder, found = cases
    whole, damage, read = found[name]
    try:
        (folder / name).write_bytes(data.draw(damage))
        reads_or_refuses(lambda: read(folder / name), folder / name, folder)
    finally:
        (folder / name).write_bytes(whole)


@pytest.mark.parametrize("name", NAMES)
def test_whole_clips_are_read(cases, name):
    folder, found = cases
    assert reads_or_refuses(lambda: found[name][2](folder / name), name)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30)
@given(data=st.data())
def test_damaged_clips_are_read_or_refused_by_name(cases, name, data):
    _damage(cases, name, data)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=3000)
@given(data=st.data())
def test_thousands_of_damaged_clips_are_read_or_refused_by_name(cases, name, data):
    _damage(cases, name, data)


def test_frames_of_very_uneven_length_do_not_become_millions(tmp_path):
    """Resampling them to the shortest once asked for as much memory as the file liked."""
    content = json.loads(_deepmimic())
    frames = np.array(content["Frames"])
    path = tmp_path / "jump.txt"
    frames[1, 0] = 1e-9
    path.write_text(json.dumps(content | {"Frames": frames.tolist()}))
    with pytest.raises(ValueError, match=r"jump\.txt: frames must last 0\.001 to 10 s"):
        load_deepmimic(path)
    frames[:, 0] = 10.0
    frames[0, 0] = 0.001
    path.write_text(json.dumps(content | {"Frames": np.tile(frames, (30, 1)).tolist()}))
    with pytest.raises(ValueError, match="more than 1000000 frames"):
        load_deepmimic(path)


def test_a_damaged_first_row_is_no_header(tmp_path):
    good = "0,0,1,1,0,0,0,0,0"
    path = tmp_path / "clip.csv"
    path.write_text("\n".join((good.replace("1,", "l,", 1), good, good, good)))
    with pytest.raises(ValueError, match="row 1 holds something that is no number"):
        load_csv(path, ("left_joint", "right_joint"))
    path.write_text("\n".join(("x,y,z,qw,qx,qy,qz,left,right", good, good, good)))
    assert load_csv(path, ("left_joint", "right_joint"), order="wxyz").num_frames == 3


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("quaternion_order", "zyxw"),
        ("joint_order", "alphabet"),
        ("is_put_on_floor", "yes"),
        ("fps", "30"),
        ("fps", 0.5),
    ],
)
def test_an_option_of_a_manifest_that_means_nothing_is_refused(tmp_path, option, value):
    """An order of quaternions that is none was once taken for x y z w."""
    path = tmp_path / "clips.json"
    path.write_text(json.dumps({"clips": [{"file": "a.csv", option: value}]}))
    with pytest.raises(ValueError, match=rf"clips\.json: clip 0: {option} must be"):
        read_manifest(path)


def test_built_in_clips_keep_their_limits():
    """The largest number a clip may hold leaves the built-in ones far away."""
    clip = builtin_clips.builtin_clip(humanoid_robot(), "step")
    check_clip(clip)
    with pytest.raises(ValueError, match="root_position is above 1e\\+06 at frame 0"):
        check_clip(clip._replace(root_position=clip.root_position + 1e7))
