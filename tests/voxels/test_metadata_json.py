"""metadata.json: conventions pinned by re-projection, broken fields refused by name."""

import copy
import json

import numpy as np
import pytest

from scenes.cameras import make_cameras, project
from voxels.formats.metadata_json import CapturedViews, load_views, parse_views, save_views
from voxels.procedural import look_at


def example_views(tmp_path):
    poses = np.stack(
        [look_at(np.array([5.0, 4.0, 3.0]), np.zeros(3)), look_at(np.ones(3), np.zeros(3))]
    )
    cameras = make_cameras(poses, np.array([50.0, 60.0]), np.array([21.0, 14.0]))
    names = ("left", "right")
    return CapturedViews(cameras, names, 30, 40, 0.1, 500.0, (tmp_path / "images/a.png", None))


@pytest.fixture
def written(tmp_path):
    views = example_views(tmp_path)
    save_views(tmp_path / "metadata.json", views)
    return views, json.loads((tmp_path / "metadata.json").read_text())


def test_cameras_round_trip(tmp_path, written):
    before, _ = written
    after = load_views(tmp_path / "metadata.json")
    for a, b in zip(after.cameras, before.cameras, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert after[1:] == before[1:]


def test_matrices_are_column_major_opengl(written):
    """The file's own matrices and the cameras read from it put a point at the same pixel."""
    views, document = written
    point = np.array([0.3, 0.2, -0.4, 1.0])
    matrix = np.array(document["views"][0]["viewProjectionMatrix"]).reshape(4, 4).T
    clip = matrix @ point
    x = (clip[0] / clip[3] + 1) / 2 * views.cols
    y = (1 - clip[1] / clip[3]) / 2 * views.rows
    xy, depth = project(views.cameras, 0, point[:3].astype(np.float32))
    np.testing.assert_allclose(xy, [x, y], atol=1e-3)
    assert depth > 0


def test_views_without_matrices_use_vectors_and_field_of_view(tmp_path, written):
    views, document = written
    for view in document["views"]:
        del view["viewMatrix"], view["projectionMatrix"]
    read = parse_views(document, tmp_path)
    np.testing.assert_allclose(
        read.cameras.camera_to_world, views.cameras.camera_to_world, atol=1e-5
    )
    np.testing.assert_allclose(read.cameras.focal, views.cameras.focal, rtol=1e-5)
    np.testing.assert_allclose(read.cameras.principal, [[20, 15]] * 2)


def changed(document, change):
    document = copy.deepcopy(document)
    change(document["views"][0])
    return document


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(viewMatrix=[1.0] * 15), r"views\[0\].viewMatrix must be 16"),
        (lambda v: v.update(viewMatrix=list(np.eye(4).ravel() * 2)), "last row"),
        (
            lambda v: v.update(viewMatrix=np.reshape(v["viewMatrix"], (4, 4)).T.ravel().tolist()),
            "row-major",
        ),
        (lambda v: v.update(viewMatrix=np.diag([1.0, 2, 1, 1]).ravel().tolist()), "orthonormal"),
        (lambda v: v.update(viewMatrix=np.diag([1.0, 1, -1, 1]).ravel().tolist()), "left-handed"),
        (lambda v: v.update(position=[0.0, 0.0, 0.0]), "puts the camera at"),
        (lambda v: v.update(projectionMatrix=list(np.eye(4).ravel())), "not an OpenGL"),
        (lambda v: v["projectionMatrix"].__setitem__(5, 1e-320), r"views\[0\]: focal lengths"),
        (lambda v: v["intrinsics"].update(near=9.0, far=1.0), "near < far"),
        (lambda v: v.update(forward=[0.0, 0.0, -1.0]), r"views\[0\]: .* forward is"),
        (lambda v: v.update(forward=[0.0, 0.0, 0.0]), r"views\[0\].forward must not be zero"),
        (lambda v: v.update(up=[0.0, -1.0, 0.0]), r"views\[0\]: .* up is"),
        (lambda v: v.update(up=[0.1, 1.0, 0.0]), r"views\[0\]: .* up is"),
        (
            lambda v: v["intrinsics"].update(fovYDegrees=40.0),
            r"views\[0\]: projectionMatrix spans 28.072 .*fovYDegrees is 40",
        ),
        (lambda v: v["intrinsics"].update(fovYDegrees=-40.0), r"fovYDegrees must lie in"),
        (lambda v: v["intrinsics"].update(fovYDegrees="wide"), r"fovYDegrees must be a number"),
        (lambda v: v.update(viewMatrix=None, forward=None), "no \\['forward'\\]"),
        (lambda v: v.update(viewMatrix=[float("inf")] * 16), "not finite"),
    ],
)
def test_broken_views_are_refused_by_name(tmp_path, written, change, message):
    with pytest.raises(ValueError, match=message):
        parse_views(changed(written[1], change), tmp_path)


def test_a_row_major_matrix_at_the_origin_is_refused(tmp_path):
    views = example_views(tmp_path)
    poses = np.array(views.cameras.camera_to_world)
    poses[:, :3, 3] = 0
    save_views(
        tmp_path / "metadata.json",
        views._replace(cameras=views.cameras._replace(camera_to_world=poses)),
    )
    load_views(tmp_path / "metadata.json")
    document = json.loads((tmp_path / "metadata.json").read_text())
    matrix = document["views"][1]["viewMatrix"]
    document["views"][1]["viewMatrix"] = np.reshape(matrix, (4, 4)).T.ravel().tolist()
    (tmp_path / "metadata.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"metadata\.json: views\[1\].*forward.*row-major"):
        load_views(tmp_path / "metadata.json")


def test_rounded_vectors_and_a_leaning_up_agree_with_the_matrices(tmp_path, written):
    views, document = written
    for view in document["views"]:
        view["forward"] = [round(3.7 * x, 3) for x in view["forward"]]
        view["up"] = [0, 1, 0]
        view["intrinsics"]["fovYDegrees"] = round(view["intrinsics"]["fovYDegrees"], 2)
    read = parse_views(document, tmp_path)
    np.testing.assert_allclose(
        read.cameras.camera_to_world, views.cameras.camera_to_world, atol=1e-5
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"imageSize": {"width": 4}}, "imageSize"),
        ({"views": []}, "at least one view"),
        ({"viewCount": 7}, "viewCount"),
    ],
)
def test_broken_documents_are_refused_by_name(tmp_path, written, more, message):
    with pytest.raises(ValueError, match=message):
        parse_views({**written[1], **more}, tmp_path)


def test_lenses_cannot_be_written(tmp_path):
    views = example_views(tmp_path)
    bent = views._replace(
        cameras=views.cameras._replace(distortion=np.full((2, 8), 0.1, np.float32))
    )
    with pytest.raises(ValueError, match="lens distortion"):
        save_views(tmp_path / "metadata.json", bent)
