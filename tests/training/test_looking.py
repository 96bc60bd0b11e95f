"""Pictures, videos, camera paths, the viewer's camera, and the doctor."""

import json
import sys

import numpy as np
import pytest

from scenes import analytic
from scenes.rotations import look_at
from training import camera_paths, doctor, loaded_run, pictures, run_rendering, video, viewer


@pytest.fixture(scope="module")
def posed():
    """Views of an analytic scene."""
    return analytic.posed_images("blocks", num_train=12, num_test=1, size=8, supersampling=1).train


def test_orbit_keeps_distance_and_looks_at_the_scene(posed):
    orbit = camera_paths.orbit(posed, num_frames=9)
    poses = np.asarray(orbit.camera_to_world, np.float64)
    target = camera_paths.looked_at(np.asarray(posed.cameras.camera_to_world, np.float64))
    np.testing.assert_allclose(target, 0.0, atol=1e-5)  # analytic cameras look at the origin
    toward = target - poses[:, :3, 3]
    toward /= np.linalg.norm(toward, axis=-1, keepdims=True)
    np.testing.assert_allclose(-poses[:, :3, 2], toward, atol=1e-5)
    np.testing.assert_allclose(np.ptp(poses[:, 2, 3]), 0.0, atol=0.5)
    with pytest.raises(ValueError, match="at least 1 frame"):
        camera_paths.orbit(posed, num_frames=0)


def test_cameras_that_look_outwards_are_followed_outwards(posed):
    """From a tripod all stand in one place; looking at that place has no answer."""
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    out = np.stack([np.cos(angle), np.sin(angle), np.full(12, 0.2)], axis=-1)
    for radius in (0.0, 0.5):
        places = radius * out * [1, 1, 0]
        poses = look_at(places, places + out, np.array([0.0, 0, 1]))
        cameras = camera_paths.with_intrinsics(posed, poses)
        scene = posed._replace(cameras=cameras, kind="unbounded")
        path = np.asarray(camera_paths.orbit(scene, num_frames=8).camera_to_world)
        forward = -path[:, :3, 2]
        np.testing.assert_allclose(np.linalg.norm(path[:, :2, 3], axis=1), radius, atol=1e-5)
        np.testing.assert_allclose(forward[:, 2], 0.2 / np.sqrt(1.04), atol=1e-3)
        flat = forward[:, :2] / np.linalg.norm(forward[:, :2], axis=1, keepdims=True)
        np.testing.assert_allclose(path[:, :2, 3], radius * flat, atol=1e-5)


def test_an_orbit_stays_on_the_side_that_was_photographed(posed):
    angles = np.radians(np.linspace(150.0, 260.0, 12))
    places = 3.0 * np.stack([np.cos(angles), np.sin(angles), np.full(12, 0.3)], axis=-1)
    cameras = camera_paths.with_intrinsics(
        posed, look_at(places, np.zeros(3), np.array([0, 0, 1.0]))
    )
    path = camera_paths.orbit(posed._replace(cameras=cameras, kind="unbounded"), num_frames=40)
    x, y, _ = np.asarray(path.camera_to_world, np.float64)[:, :3, 3].T
    around = np.degrees(np.arctan2(y, x)) % 360.0
    assert around.min() > 149.0
    assert around.max() < 261.0
    assert np.ptp(around) > 100.0


def test_forward_facing_scenes_are_swayed_over(posed):
    places = np.array([[x, y, 5.0] for x in (-1.0, 0.0, 1.0) for y in (-1.0, 1.0)])
    poses = look_at(places, np.zeros(3), np.array([0.0, 1.0, 0.0]))
    cameras = camera_paths.with_intrinsics(posed, poses)
    scene = posed._replace(cameras=cameras, kind="forward_facing")
    path = np.asarray(camera_paths.orbit(scene, num_frames=8).camera_to_world)
    assert np.all(path[:, 2, 3] > 4.0)
    assert np.all(np.abs(path[:, :2, 3]) < 1.0)


def test_camera_path_round_trip_and_bad_files(posed, tmp_path):
    path = tmp_path / "path.json"
    pose = np.asarray(posed.cameras.camera_to_world[2], np.float64)
    # twice as large in the files, turned and moved
    world_from_scene = np.array([[0, -2.0, 0, 3], [2, 0, 0, -1], [0, 0, 2, 5], [0, 0, 0, 1]])
    in_files = world_from_scene @ pose
    in_files[:3, :3] /= 2.0
    path.write_text(json.dumps({"frames": [{"transform_matrix": in_files.tolist()}]}))
    read = camera_paths.read_path(path, posed, world_from_scene)
    np.testing.assert_allclose(read.camera_to_world[0], pose, atol=1e-6)
    for text, message in (
        ("{", "not valid JSON"),
        ("[]", "frames must be a list"),
        ('{"frames": [{}]}', r"frames\[0\].transform_matrix must be a 4 x 4 matrix"),
        ('{"frames": [{"transform_matrix": [[1]]}]}', "must be a 4 x 4 matrix"),
        (json.dumps({"frames": [{"transform_matrix": (2 * pose).tolist()}]}), "transform_matrix"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            camera_paths.read_path(path, posed, np.eye(4))
    with pytest.raises(FileNotFoundError, match="no such camera path"):
        camera_paths.read_path(tmp_path / "none.json", posed, np.eye(4))


def test_video_has_every_frame_and_falls_back_to_gif(tmp_path, monkeypatch):
    imageio = pytest.importorskip("imageio.v3")
    frames = [np.full((17, 20, 3), 40 * index, np.uint8) for index in range(5)]
    if video.has_ffmpeg():
        file = video.write_video(tmp_path / "a", frames, fps=10)
        assert file.suffix == ".mp4"
        assert file.read_bytes()[4:8] == b"ftyp"
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    file = video.write_video(tmp_path / "a", frames, fps=10)
    assert file.suffix == ".gif"
    assert len(imageio.imread(file)) == 5
    with pytest.raises(ValueError, match="at least one frame"):
        video.write_video(tmp_path / "b", [])


def test_colorize_spans_its_map_and_marks_what_is_unknown():
    values = np.array([[0.0, 1.0, np.nan, 5.0]])
    hidden = np.array([[0.0, 0.0, 0.0, 1.0]])
    shown = pictures.colorize(values, low=0.0, high=1.0, color_map="gray", hidden=hidden)
    np.testing.assert_array_equal(shown[0, :, 0], [0, 255, 128, 255])
    assert pictures.to_uint8(np.array([[[np.nan, 2.0, -1.0]]])).tolist() == [[[0, 255, 0]]]


def test_fitted_size_keeps_the_shape():
    assert run_rendering.fitted_size(300, 400, 200) == (150, 200)
    assert run_rendering.fitted_size(300, 400, None) == (300, 400)
    assert run_rendering.fitted_size(1, 4000, 40) == (1, 40)


def test_viewer_camera_is_the_opengl_pose(posed):
    pose = np.asarray(posed.cameras.camera_to_world[3], np.float64)
    opencv = pose[:3, :3] @ np.diag([1.0, -1.0, -1.0])
    w = 0.5 * np.sqrt(1 + np.trace(opencv))
    xyz = np.array(
        [opencv[2, 1] - opencv[1, 2], opencv[0, 2] - opencv[2, 0], opencv[1, 0] - opencv[0, 1]]
    ) / (4 * w)
    found = viewer.opengl_pose(np.array([w, *xyz]), pose[:3, 3])
    np.testing.assert_allclose(found, pose, atol=1e-6)


def test_viewer_draws_what_the_run_renders(finished):
    pytest.importorskip("viser")
    run = loaded_run.load(str(finished[0]))
    served = viewer.Viewer(run, host="127.0.0.1", port=8123, size=32)
    try:
        posed = run.setup.scene.test
        angle = 2 * np.arctan(0.5 * posed.rows / posed.cameras.focal[0, 1])
        picture = served.draw(
            np.asarray(posed.cameras.camera_to_world[0]),
            vertical_angle=float(angle),
            aspect=1.0,
            longest=16,
        )
    finally:
        served.stop()
    whole = next(run.evaluator.every_view(run.snapshot)).rendered.color
    difference = picture.astype(int) - pictures.to_uint8(whole).astype(int)
    assert np.abs(difference).max() <= 2


def test_the_viewer_waits_for_the_first_checkpoint(finished, monkeypatch, capsys):
    found = iter([[], [], [], [8]])
    waited = []

    def load(path):
        raise ConnectionAbortedError(f"loaded after {len(waited)} looks")

    monkeypatch.setattr(viewer.checkpoints, "steps", lambda folder: next(found))
    monkeypatch.setattr(viewer.time, "sleep", waited.append)
    monkeypatch.setattr(viewer.loaded_run, "load", load)
    with pytest.raises(ConnectionAbortedError, match="loaded after 2 looks"):
        viewer.serve(str(finished[0]), host="127.0.0.1", port=0, size=32)
    assert "waiting for the run's first checkpoint" in capsys.readouterr().out


def test_a_path_in_the_coordinates_of_the_files_shows_what_a_camera_there_shows(
    finished, tmp_path, monkeypatch
):
    run = loaded_run.load(str(finished[0]))
    scene = run.setup.scene
    world = np.asarray(scene.world_from_scene, np.float64)
    pose = world @ np.asarray(scene.test.cameras.camera_to_world[0], np.float64)
    pose[:3, :3] /= np.cbrt(np.linalg.det(world[:3, :3]))
    path = tmp_path / "path.json"
    path.write_text(json.dumps({"frames": [{"transform_matrix": pose.tolist()}] * 2}))
    kept = {}

    def keep(file, frames, fps):
        kept[file.name] = list(frames)
        return file

    monkeypatch.setattr(video, "write_video", keep)
    for shows in ("color", "depth"):
        list(run_rendering.render(str(finished[0]), "path", path=path, shows=shows, out=tmp_path))
    whole = next(run.evaluator.every_view(run.snapshot)).rendered
    difference = kept["path"][1].astype(int) - pictures.to_uint8(whole.color).astype(int)
    assert np.abs(difference).max() <= 2
    np.testing.assert_array_equal(*kept["path-depth"])
    assert kept["path-depth"][0].shape == kept["path"][0].shape


def test_doctor_finds_nothing_wrong_here():
    findings = list(doctor.examine())
    assert not [finding for finding in findings if finding.level == "error"]
    subjects = {finding.subject for finding in findings}
    assert {"versions", "device", "scatter-add", "compile cache", "ffmpeg"} <= subjects


def test_doctor_names_a_distribution_that_shadows_a_package(monkeypatch):
    from importlib import metadata

    monkeypatch.setattr(
        metadata, "packages_distributions", lambda: {"motion": ["hardlight", "other-motion"]}
    )
    (finding,) = doctor.shadowed_packages()
    assert finding.level == "error"
    assert "other-motion" in finding.text


@pytest.mark.parametrize(
    ("version", "platform", "flags", "level"),
    [
        ("0.10.2", "gpu", "", "warning"),
        ("0.11.0", "gpu", "", "warning"),
        ("0.11.0", "gpu", "--xla_backend_extra_options=-nvptx-allow-ftz-atomics", "ok"),
        ("0.10.2", "cpu", "", "note"),
        ("0.12.0", "gpu", "", "ok"),
    ],
)
def test_doctor_warns_of_slow_scatter_on_cuda(version, platform, flags, level):
    (finding,) = doctor.scatter_fault(version, platform, flags)
    assert finding.level == level
