"""Clips from files: every format round, and every fault answered with its reason."""

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from motion import builtin_clips, foot_height, quaternion_order, resampling
from motion.clips import Clip, build_clip_bank, check_clip, fit_to_robot
from motion.formats.clip_files import ReadOptions, load_clip
from motion.formats.csv_clip import load_csv
from motion.formats.joint_orders import G1_JOINTS, G1_JOINTS_WITHOUT_WRISTS, breadth_first
from motion.formats.manifest import load_manifest, read_manifest
from motion.formats.npz_clip import load_npz, save_npz
from motion.robots import humanoid_robot

from .tiny import swaying_clip, tiny_robot

NAMES = ("left_joint", "right_joint")


@pytest.fixture(scope="module")
def robot():
    return tiny_robot()


@pytest.fixture(scope="module")
def turning(robot):
    """A clip that turns half around, so that the order of its quaternion shows."""
    clip = swaying_clip(robot)
    angle = np.linspace(0, np.pi, clip.num_frames)
    quaternion = np.stack([np.cos(angle / 2), 0 * angle, 0 * angle, np.sin(angle / 2)], axis=1)
    return clip._replace(root_quaternion=quaternion)


def write_csv(path: Path, clip: Clip, order: str = "wxyz") -> Path:
    quaternion = clip.root_quaternion
    if order == "xyzw":
        quaternion = np.roll(quaternion, -1, axis=1)
    table = np.concatenate((clip.root_position, quaternion, clip.joint_position), axis=1)
    np.savetxt(path, table, delimiter=",")
    return path


@pytest.mark.parametrize("order", ["wxyz", "xyzw"])
def test_a_csv_of_either_order_is_read_alike(tmp_path, robot, turning, order):
    path = write_csv(tmp_path / "turn.csv", turning, order)
    clip = load_csv(path, NAMES, fps=turning.fps)
    np.testing.assert_allclose(clip.root_quaternion, turning.root_quaternion, atol=1e-9)
    np.testing.assert_allclose(clip.joint_position, turning.joint_position, atol=1e-9)
    assert clip.name == "turn"


def test_a_declared_order_that_cannot_be_right_is_refused(tmp_path, turning):
    path = write_csv(tmp_path / "turn.csv", turning, "xyzw")
    with pytest.raises(ValueError, match="look like x y z w, not w x y z"):
        load_csv(path, NAMES, order="wxyz")


def test_an_order_that_cannot_be_told_is_asked_for():
    same = np.tile([0.5, 0.5, 0.5, 0.5], (5, 1))
    assert quaternion_order.detect(same) is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0,0,1,1,0,0,0,0", "row 2 has 8 columns, needed 9.*another robot"),
        ("0,0,1,2,0,0,0,0,0", "row 2: .*no unit quaternion"),
        ("0,0,nan,1,0,0,0,0,0", "row 2 holds a number that is not finite"),
        ("0,0,x,1,0,0,0,0,0", "row 2 holds something that is no number"),
    ],
)
def test_a_broken_row_is_named(tmp_path, row, message):
    path = tmp_path / "broken.csv"
    good = "0,0,1,1,0,0,0,0,0"
    path.write_text("\n".join((good, row, good, good)))
    with pytest.raises(ValueError, match=message):
        load_csv(path, NAMES)


def test_our_npz_comes_back_as_it_was(tmp_path, robot):
    clip = swaying_clip(robot)
    save_npz(tmp_path / "clip.npz", robot, clip)
    back = load_npz(tmp_path / "clip.npz", NAMES)
    assert back.joint_names == clip.joint_names
    assert back.fps == clip.fps
    np.testing.assert_allclose(back.root_position, clip.root_position, atol=1e-9)
    np.testing.assert_allclose(back.joint_position, clip.joint_position, atol=1e-9)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.npz"]


def test_the_root_of_an_npz_is_the_robots_own(tmp_path, robot):
    """MuJoCo's humanoid has a pelvis that is not its root."""
    save_npz(tmp_path / "clip.npz", robot, swaying_clip(robot))
    arrays = dict(np.load(tmp_path / "clip.npz"))
    arrays["body_names"] = np.array([arrays["body_names"][0], "pelvis", *arrays["body_names"][2:]])
    np.savez(tmp_path / "other.npz", **arrays)
    own = load_npz(tmp_path / "other.npz", NAMES, root=robot.tracked_bodies[0])
    np.testing.assert_array_equal(own.root_position, arrays["body_pos_w"][:, 0])
    unknown = load_npz(tmp_path / "other.npz", NAMES)
    np.testing.assert_array_equal(unknown.root_position, arrays["body_pos_w"][:, 1])


def test_an_npz_of_the_other_quaternion_order_is_refused(tmp_path, robot, turning):
    save_npz(tmp_path / "clip.npz", robot, turning)
    arrays = dict(np.load(tmp_path / "clip.npz"))
    arrays["body_quat_w"] = np.roll(arrays["body_quat_w"], -1, axis=-1)
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(ValueError, match=r"other\.npz: body_quat_w: root quaternions look"):
        load_npz(tmp_path / "other.npz", NAMES)


def test_a_failed_write_leaves_the_old_file(tmp_path, robot, monkeypatch):
    clip = swaying_clip(robot)
    save_npz(tmp_path / "clip.npz", robot, clip)
    before = (tmp_path / "clip.npz").read_bytes()

    def fail(*arguments, **named):
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="disk full"):
        save_npz(tmp_path / "clip.npz", robot, clip)
    assert (tmp_path / "clip.npz").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_nameless_npz_needs_its_joint_order(tmp_path):
    frames = 4
    rest = np.tile([1.0, 0, 0, 0], (frames, 1, 1))
    joints = np.arange(29.0)[None].repeat(frames, 0)
    path = tmp_path / "motion.npz"
    np.savez(
        path, fps=[50], joint_pos=joints, body_pos_w=np.zeros((frames, 1, 3)), body_quat_w=rest
    )
    with pytest.raises(ValueError, match="has no joint_names"):
        load_npz(path, G1_JOINTS)
    depth_first = load_npz(path, G1_JOINTS, joint_order="mujoco")
    breadth = load_npz(path, G1_JOINTS, joint_order="isaac")
    assert depth_first.joint_names == G1_JOINTS
    assert breadth.joint_names == breadth_first()
    assert sorted(breadth_first()) == sorted(G1_JOINTS)
    with pytest.raises(ValueError, match="29 columns for 2 joint names"):
        load_npz(path, NAMES, joint_order="mujoco")


def test_pickles_are_refused_and_never_run(tmp_path, robot):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    (tmp_path / "clip.pkl").write_bytes(pickle.dumps(Bomb()))
    np.savez(tmp_path / "clip.npz", dof=np.array([Bomb()], dtype=object), allow_pickle=True)
    for name in ("clip.pkl", "clip.npz"):
        with pytest.raises(ValueError, match="refused"):
            load_clip(tmp_path / name, robot)
    assert not (tmp_path / "exploded").exists()


def test_unknown_files_are_refused(tmp_path, robot):
    with pytest.raises(FileNotFoundError, match="no such clip"):
        load_clip(tmp_path / "nothing.csv", robot)
    (tmp_path / "clip.bvh").write_text("HIERARCHY")
    with pytest.raises(ValueError, match="unknown kind of clip"):
        load_clip(tmp_path / "clip.bvh", robot)
    np.savez(tmp_path / "other.npz", something=np.zeros(3))
    with pytest.raises(ValueError, match="no known layout"):
        load_clip(tmp_path / "other.npz", robot)


def test_joints_are_put_into_the_robots_order(robot):
    clip = swaying_clip(robot)
    swapped = clip._replace(
        joint_names=clip.joint_names[::-1], joint_position=clip.joint_position[:, ::-1]
    )
    fitted, notes = fit_to_robot(robot, swapped)
    np.testing.assert_array_equal(fitted.joint_position, clip.joint_position)
    assert notes == ()


def test_a_clip_of_another_robot_is_refused(robot):
    clip = swaying_clip(robot)
    with pytest.raises(ValueError, match="another robot: tiny has no joint tail"):
        fit_to_robot(robot, clip._replace(joint_names=("left_joint", "tail")))
    half = clip._replace(joint_names=("left_joint",), joint_position=clip.joint_position[:, :1])
    with pytest.raises(ValueError, match="lacks joints of tiny: right_joint"):
        fit_to_robot(robot, half)


def test_small_excess_over_joint_limits_is_clipped_and_large_refused(robot):
    clip = swaying_clip(robot)
    angles = clip.joint_position.copy()
    angles[7, 1] = 1.02
    fitted, notes = fit_to_robot(robot, clip._replace(joint_position=angles))
    assert fitted.joint_position[7, 1] == pytest.approx(1.0)
    assert "exceeded a joint limit" in notes[0]
    angles[7, 1] = 1.5
    with pytest.raises(ValueError, match=r"right_joint is 0\.500 rad beyond its limit at frame 7"):
        fit_to_robot(robot, clip._replace(joint_position=angles))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c._replace(fps=0.0), "fps"),
        (lambda c: c._replace(joint_names=("a", "a")), "not unique"),
        (lambda c: c._replace(root_quaternion=2 * c.root_quaternion), "has length 2.0000"),
        (lambda c: c._replace(root_position=c.root_position * np.nan), "not finite at frame 0"),
        (lambda c: c._replace(root_position=c.root_position[:, :2]), "root_position must be"),
    ],
)
def test_what_no_clip_may_be_is_refused(robot, change, message):
    with pytest.raises(ValueError, match=message):
        check_clip(change(swaying_clip(robot)))


def test_a_floating_clip_is_put_on_the_floor(robot):
    clip = swaying_clip(robot)
    floating = clip._replace(root_position=clip.root_position + np.array([0, 0, 0.3]))
    landed, raised, below = foot_height.put_on_floor(robot, floating)
    assert raised < -0.25
    floor = np.quantile(foot_height.lowest_foot_points(robot, landed), 0.2)
    assert abs(floor) < 1e-9
    np.testing.assert_allclose(below, -foot_height.lowest_foot_points(robot, landed).min())


def _raised(clip, heights):
    root = clip.root_position.copy()
    root[:, 2] += heights
    return clip._replace(root_position=root)


def test_a_floor_that_drifts_is_made_level_and_flights_stay(tmp_path):
    robot = humanoid_robot()
    jump = builtin_clips.builtin_clip(robot, "jump")
    time = np.arange(jump.num_frames) / jump.fps
    drift = 0.05 * np.sin(2 * np.pi * time / 8.0)
    drifting = _raised(jump, drift)
    levelled = foot_height.level_floor(robot, drifting)
    assert levelled.is_changed
    np.testing.assert_allclose(levelled.drift, drift.max() - drift.min(), atol=0.01)
    flight = foot_height.lowest_foot_points(robot, jump)
    left = foot_height.lowest_foot_points(
        robot, foot_height.put_on_floor(robot, levelled.clip).clip
    )
    np.testing.assert_allclose(left, flight, atol=0.012)
    save_npz(tmp_path / "jump.npz", robot, drifting)
    notes = " ".join(load_clip(tmp_path / "jump.npz", robot).notes)
    assert re.search(r"jump: its floor rises and sinks by (9\d|10\d) mm, made level", notes), notes
    as_it_is = load_clip(tmp_path / "jump.npz", robot, ReadOptions(is_levelled=False))
    assert "made level" not in " ".join(as_it_is.notes)


@pytest.mark.parametrize("size", [0.01, 0.2])
def test_a_floor_of_noise_or_of_stairs_stays_as_it_is(size):
    robot = humanoid_robot()
    stand = builtin_clips.builtin_clip(robot, "stand")
    moved = _raised(stand, size * (np.arange(stand.num_frames) > stand.num_frames // 2))
    levelled = foot_height.level_floor(robot, moved)
    assert not levelled.is_changed
    assert levelled.clip is moved
    np.testing.assert_allclose(levelled.drift, size, atol=2e-3)


def test_feet_that_one_height_cannot_put_on_the_floor_are_told(robot, tmp_path):
    clip = swaying_clip(robot)
    drop = np.zeros(clip.num_frames)
    drop[3:6] = 0.05
    sunk = clip._replace(root_position=clip.root_position - drop[:, None] * np.array([0, 0, 1.0]))
    save_npz(tmp_path / "sunk.npz", robot, sunk)
    notes = " ".join(load_clip(tmp_path / "sunk.npz", robot).notes)
    assert re.search(r"sway: feet are up to (4[5-9]|5[0-5]) mm below the floor", notes), notes


def test_slerp_turns_at_even_speed():
    angle = np.linspace(0, 2.0, 9)
    turn = np.stack([np.cos(angle / 2), np.sin(angle / 2), 0 * angle, 0 * angle], axis=1)
    ends = (turn[:1].repeat(9, 0), turn[-1:].repeat(9, 0))
    np.testing.assert_allclose(
        resampling.slerp(*ends, np.linspace(0, 1, 9)[:, None]), turn, atol=1e-12
    )
    other_sign = resampling.slerp(ends[0], -ends[1], np.linspace(0, 1, 9)[:, None])
    np.testing.assert_allclose(np.abs(np.sum(other_sign * turn, axis=1)), 1, atol=1e-12)


def test_constant_turning_has_constant_angular_velocity():
    rate, fps = np.array([0.3, -0.5, 0.8]), 50.0
    speed = np.linalg.norm(rate)
    angle = speed * np.arange(20) / fps
    quaternion = np.concatenate(
        (np.cos(angle / 2)[:, None], np.sin(angle / 2)[:, None] * rate / speed), axis=1
    )
    np.testing.assert_allclose(
        resampling.angular_velocity(quaternion, fps), np.tile(rate, (20, 1)), atol=1e-9
    )


def test_resampling_keeps_straight_motion_and_ends():
    fps, frames = 30.0, 31
    time = np.arange(frames) / fps
    position = np.stack([time, 2 * time, 1 - time], axis=1)
    rest = np.tile([1.0, 0, 0, 0], (frames, 1))
    new, turned, joints = resampling.resample(position, rest, position[:, :2], fps, 50.0)
    assert len(new) == 51
    np.testing.assert_allclose(new[:, 0], np.arange(51) / 50.0, atol=1e-12)
    np.testing.assert_allclose(joints[-1], position[-1, :2], atol=1e-12)
    np.testing.assert_allclose(turned[:, 0], 1.0)


def test_a_bank_joins_clips_at_the_control_rate(robot):
    slow = swaying_clip(robot, fps=25.0)
    bank = build_clip_bank(robot, [swaying_clip(robot), slow], control_rate=50.0)
    assert list(np.asarray(bank.clip_start)) == [0, 101]
    assert list(np.asarray(bank.clip_length)) == [101, 101]
    assert bank.body_position.shape == (202, 3, 3)
    with pytest.raises(ValueError, match="at least one clip"):
        build_clip_bank(robot, [], control_rate=50.0)


def test_a_manifest_names_weighs_and_splits(tmp_path, robot):
    for name in ("a", "b", "c"):
        save_npz(tmp_path / f"{name}.npz", robot, swaying_clip(robot, name=name))
    rows = [
        {"file": "a.npz", "weight": 2.0},
        {"file": "b.npz", "name": "second"},
        {"file": "c.npz", "split": "test"},
    ]
    path = tmp_path / "clips.json"
    path.write_text(json.dumps({"clips": rows}))
    found = load_manifest(path, robot)
    assert [entry.name for entry, _ in found] == ["a", "second", "c"]
    assert [entry.weight for entry, _ in found] == [2.0, 1.0, 1.0]
    assert [entry.split for entry, _ in found] == ["train", "train", "test"]
    assert found[1][1].clip.name == "second"
    path.write_text(json.dumps({"clips": rows[2:]}))
    with pytest.raises(ValueError, match="no clips of split train"):
        load_manifest(path, robot)


@pytest.mark.parametrize("file", ["/", "gone.csv", "/nowhere/walk.csv"])
def test_a_clip_that_a_manifest_cannot_have_is_told_with_the_manifest(tmp_path, robot, file):
    path = tmp_path / "clips.json"
    path.write_text(json.dumps({"clips": [{"file": file}]}))
    with pytest.raises(FileNotFoundError, match=r"clips\.json: .*no such clip"):
        load_manifest(path, robot)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "needs a list 'clips'"),
        ('{"clips": [{"name": "x"}]}', "clip 0: must be an object with a 'file'"),
        ('{"clips": [{"file": "a", "speed": 2}]}', "clip 0: unknown fields speed"),
        ('{"clips": [{"file": "a", "weight": -1}]}', "clip 0: weight must be positive"),
        ('{"clips": [{"file": "a", "split": "dev"}]}', "clip 0: split must be one of"),
        ('{"clips": [{"file": "a"}, {"file": "a"}]}', "names occur twice: a"),
    ],
)
def test_a_broken_manifest_is_named(tmp_path, content, message):
    path = tmp_path / "clips.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_manifest(path)


def test_options_of_no_file_are_refused():
    with pytest.raises(ValueError, match="fps"):
        ReadOptions(fps=0.1)


@pytest.mark.parametrize("name", builtin_clips.names())
def test_built_in_motions_keep_their_feet_on_the_ground_and_are_smooth(name):
    robot = humanoid_robot()
    clip = builtin_clips.builtin_clip(robot, name)
    fitted, notes = fit_to_robot(robot, clip)
    assert notes == ()
    lowest = foot_height.lowest_foot_points(robot, fitted)
    in_air = lowest > 2e-3
    assert np.min(lowest) > -2e-3
    assert np.any(in_air) == (name == "jump")
    if name == "jump":
        away = np.abs(np.arange(len(lowest)) / clip.fps - 6.34)
        fall = 0.5 * 9.81 * (0.14**2 - away**2)
        np.testing.assert_allclose(lowest, np.maximum(fall, 0.0), atol=2e-3)
    speed = np.gradient(fitted.joint_position, 1 / clip.fps, axis=0)
    assert np.max(np.abs(speed)) < 8.0
    change = np.abs(np.diff(speed, axis=0))
    change = np.delete(change, np.s_[307:329], axis=0) if name == "jump" else change  # legs stop
    assert np.max(change) < 2.5


def test_an_unknown_built_in_motion_lists_the_known():
    with pytest.raises(ValueError, match="built-in clips: stand, wave"):
        builtin_clips.builtin_clip(humanoid_robot(), "moonwalk")


def _clips(folder: str) -> list[Path]:
    found = sorted(path for path in Path(folder, "motion").rglob("*") if path.is_file())
    return [path for path in found if path.suffix != ".md"]


def test_every_sample_clip_loads_or_is_refused_with_its_reason(data_folder):
    from motion.formats.mjcf import load_robot

    try:
        g1 = load_robot("g1")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    person = humanoid_robot()
    reasons = {
        "02-constspeed_UnitreeG1.npz": "LocoMuJoCo file, made for another robot",
        "05-run_UnitreeG1.npz": "LocoMuJoCo file, made for another robot",
        "humanoid3d_cartwheel.txt": "beyond its limit",
    }
    seen = 0
    for path in _clips(data_folder):
        robot = person if path.suffix == ".txt" else g1
        if path.name in reasons:
            with pytest.raises(ValueError, match=reasons[path.name]):
                load_clip(path, robot)
        else:
            clip, _ = load_clip(path, robot)
            assert clip.joint_names == robot.joint_names
            heights = foot_height.lowest_foot_points(
                robot,
                clip._replace(
                    root_position=clip.root_position[::10],
                    root_quaternion=clip.root_quaternion[::10],
                    joint_position=clip.joint_position[::10],
                ),
            )
            assert abs(float(np.median(heights))) < 0.03
            assert float(np.mean(resampling.up_component(clip.root_quaternion))) > 0.8
        seen += 1
    assert seen >= 9


def test_motions_without_wrists_are_those_of_the_g1():
    assert len(G1_JOINTS) == 29
    assert len(G1_JOINTS_WITHOUT_WRISTS) == 23
