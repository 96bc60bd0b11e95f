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
    np.testing.assert_allclose(read.cameras.camera_to_world[0], pose, atol=1e-6)
    assert (read.rows, read.cols, read.fps) == (posed.rows, posed.cols, None)
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


def nerfstudio_path(poses, **changes):
    """A camera path as nerfstudio's viewer saves it."""
    cameras = [
        {"camera_to_world": pose.reshape(-1).tolist(), "fov": 60.0, "aspect": 2.0} for pose in poses
    ]
    values = {
        "default_fov": 75.0,
        "default_transition_sec": 2.0,
        "keyframes": [],
        "camera_type": "perspective",
        "render_height": 20.0,
        "render_width": 40.0,
        "fps": 30.0,
        "seconds": 0.1,
        "is_cycle": False,
        "smoothness_value": 0.0,
        "camera_path": cameras,
    }
    return {name: value for name, value in (values | changes).items() if value is not None}


def test_nerfstudio_camera_paths_are_read(posed, tmp_path):
    path = tmp_path / "path.json"
    poses = np.asarray(posed.cameras.camera_to_world[:3], np.float64)
    world_from_scene = np.array([[0, -2.0, 0, 3], [2, 0, 0, -1], [0, 0, 2, 5], [0, 0, 0, 1]])
    in_files = world_from_scene @ poses
    in_files[:, :3, :3] /= 2.0
    values = nerfstudio_path(in_files)
    values["camera_path"][1]["fov"] = 90.0
    path.write_text(json.dumps(values))
    read = camera_paths.read_path(path, posed, world_from_scene)
    np.testing.assert_allclose(read.cameras.camera_to_world, poses, atol=1e-6)
    assert (read.rows, read.cols, read.fps) == (20, 40, 30.0)
    focal = np.array([10 * np.sqrt(3), 10.0, 10 * np.sqrt(3)])  # half the height over the tangent
    np.testing.assert_allclose(read.cameras.focal, np.stack([focal, focal], 1), rtol=1e-6)
    np.testing.assert_allclose(read.cameras.principal, [[20.0, 10.0]] * 3)
    for changes, expected in (
        ({"fps": None}, (20, 40, 30.0)),  # 3 frames in 0.1 seconds
        ({"fps": None, "seconds": None, "camera_type": None}, (20, 40, None)),
        ({"render_width": None}, (20, 40, 30.0)),
        ({"render_width": None, "render_height": None}, (8, 16, 30.0)),
    ):
        path.write_text(json.dumps(nerfstudio_path(poses, **changes)))
        read = camera_paths.read_path(path, posed, np.eye(4))
        assert (read.rows, read.cols, read.fps) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"camera_type": "fisheye"}, "camera_type: cameras of type fisheye are not supported"),
        ({"camera_type": "equirectangular"}, "cameras of type equirectangular are not"),
        ({"camera_path": []}, "camera_path must not be empty"),
        ({"camera_path": [{"fov": 50}]}, r"camera_path\[0\].camera_to_world must be 16 numbers"),
        ({"render_height": 0}, "render_height must be positive"),
        ({"render_width": 10.5}, "render_width must be a whole number up to 65535"),
        ({"fps": "fast"}, "fps must be a number"),
        ({"fps": 1e6}, "fps must give 0.01 to 1000 frames a second"),
    ],
)
def test_nerfstudio_camera_paths_that_cannot_be_followed_are_refused(
    posed, tmp_path, changes, message
):
    path = tmp_path / "path.json"
    poses = np.asarray(posed.cameras.camera_to_world[:2], np.float64)
    path.write_text(json.dumps(nerfstudio_path(poses, **changes)))
    with pytest.raises(ValueError, match=message) as caught:
        camera_paths.read_path(path, posed, np.eye(4))
    assert str(path) in str(caught.value)


def test_matrices_column_by_column_and_wide_angles_are_refused(posed, tmp_path):
    path = tmp_path / "path.json"
    poses = np.asarray(posed.cameras.camera_to_world[:2], np.float64)
    turned = nerfstudio_path(np.swapaxes(poses, 1, 2))
    wide = nerfstudio_path(poses)
    wide["camera_path"][1]["fov"] = 180.0
    missing = nerfstudio_path(poses, default_fov=None)
    del missing["camera_path"][1]["fov"]
    for values, message in (
        (turned, r"camera_path\[0\]\.camera_to_world must end in the row 0 0 0 1"),
        (wide, r"camera_path\[1\]\.fov must be in \[0\.1, 179\] degrees, got 180"),
        (missing, r"camera_path\[1\]\.fov is missing"),
    ):
        path.write_text(json.dumps(values))
        with pytest.raises(ValueError, match=message):
            camera_paths.read_path(path, posed, np.eye(4))


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


def test_a_video_has_the_size_and_the_rate_its_path_asks_for(
    finished, tmp_path, monkeypatch, capsys
):
    pose = np.asarray(loaded_run.load(str(finished[0])).setup.scene.world_from_scene)
    ours, theirs = tmp_path / "ours.json", tmp_path / "theirs.json"
    ours.write_text(json.dumps({"frames": [{"transform_matrix": pose.tolist()}]}))
    theirs.write_text(json.dumps(nerfstudio_path([pose])))
    kept = []

    def keep(file, frames, fps):
        kept.append((fps, *next(iter(frames)).shape))
        return file

    monkeypatch.setattr(video, "write_video", keep)
    for path, flags, expected in (
        (ours, {}, (24.0, 16, 16, 3)),
        (ours, {"fps": 12.0}, (12.0, 16, 16, 3)),
        (theirs, {}, (30.0, 20, 40, 3)),
        (theirs, {"fps": 12.0, "size": 10}, (12.0, 5, 10, 3)),
    ):
        list(run_rendering.render(str(finished[0]), "path", path=path, out=tmp_path, **flags))
        assert kept.pop() == expected
        told = "in the coordinates of the scene's own files" in capsys.readouterr().out
        assert told == (path == theirs)


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
