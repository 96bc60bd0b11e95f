"""The sample data loads with no flags, and its own depth and texture agree with our conventions."""

import json
import shutil

import jax
import numpy as np
import pytest
from skimage.feature import SIFT, match_descriptors

from scenes.cameras import project
from scenes.formats import load
from scenes.posed_images import to_world, validate_splits, world_scale
from scenes.rays import camera_rays

see = jax.jit(project)
rays_of = jax.jit(camera_rays)
NUM = 4096
EXPECTED = {
    "blender_lego_400": ("bounded", 100, 25, (400, 400, 4)),
    "fox_540x960": ("unbounded", 43, 7, (960, 540, 3)),
    "llff_fern": ("forward_facing", 17, 3, (378, 504, 3)),
    "colmap_can": ("unbounded", 62, 9, (1280, 720, 3)),
    "rgbd_shelfbox": ("unbounded", 22, 3, (480, 640, 3)),
    "klevr_tiny": ("bounded", 2, 1, (256, 256, 3)),
    "klevr_tiny/1": ("bounded", 2, 1, (256, 256, 3)),
}


@pytest.fixture(scope="module")
def scene_of(sample):
    """Loads each folder once."""
    cache = {}

    def get(name, **options):
        key = (name, *sorted(options.items()))
        if key not in cache:
            cache[key] = load(sample(name), **options)
        return cache[key]

    return get


@pytest.mark.parametrize("name", EXPECTED)
def test_every_folder_loads_without_flags(scene_of, name):
    scene = validate_splits(scene_of(name))
    kind, num_train, num_test, shape = EXPECTED[name]
    assert scene.train.kind == kind
    assert (scene.train.num_views, scene.test.num_views) == (num_train, num_test)
    assert scene.train.images.shape[1:] == shape
    assert not set(scene.train.names) & set(scene.test.names)


def depth_disagreement(posed, first, second, share=0.5):
    """Takes one view's depth into another and compares with the depth that is there.

    Returns the `share` quantile of the relative difference over pixels where both are known.
    """
    rng = np.random.default_rng(0)
    row, col = np.nonzero(np.isfinite(posed.depth[first]))
    pick = rng.integers(0, len(row), NUM)
    row, col = row[pick], col[pick]
    xy = np.stack([col + 0.5, row + 0.5], axis=-1).astype(np.float32)
    rays = rays_of(posed.cameras, np.full(NUM, first, np.int32), xy)
    points = np.asarray(rays.origins) + posed.depth[first, row, col, None] * rays.directions
    other, planar = see(posed.cameras, np.full(NUM, second, np.int32), points)
    col, row = np.floor(np.asarray(other)).astype(int).T
    inside = (row >= 0) & (row < posed.rows) & (col >= 0) & (col < posed.cols) & (planar > 0)
    there = posed.depth[second, row[inside], col[inside]]
    origin = np.asarray(posed.cameras.camera_to_world)[second, :3, 3]
    distance = np.linalg.norm(np.asarray(points)[inside] - origin, axis=-1)
    known = np.isfinite(there)
    assert known.sum() > 200
    return float(np.quantile(np.abs(there - distance)[known] / distance[known], share))


def as_if(posed, convention):
    """The same views under a convention that is not theirs."""
    pose = np.array(posed.cameras.camera_to_world)
    cameras, depth = posed.cameras, posed.depth
    if convention == "opencv axes":
        pose = pose * np.float32([1, -1, -1, 1])
    elif convention == "world to camera":
        pose = np.linalg.inv(pose)
    elif convention == "wrong scale":
        depth = depth * np.float32(1.1)
    elif convention == "planar depth":
        grid = np.stack(
            np.meshgrid(np.arange(posed.cols) + 0.5, np.arange(posed.rows) + 0.5), axis=-1
        )
        slopes = (grid - cameras.principal[0]) / cameras.focal[0]
        depth = depth * np.sqrt(1 + np.sum(slopes**2, axis=-1)).astype(np.float32)
    return posed._replace(cameras=cameras._replace(camera_to_world=pose), depth=depth)


DEPTH_SCENES = {
    # (folder, split, two views that overlap, options, what agreement is good)
    "rgbd_shelfbox": ("train", 3, 9, {}, 0.008),
    "klevr_tiny": ("train", 0, 1, {}, 0.004),
    "blender_lego_400": ("test", 1, 2, {"with_depth": True}, 0.006),
}


@pytest.mark.parametrize("name", DEPTH_SCENES)
def test_depth_of_one_view_lands_on_the_depth_of_another(scene_of, name):
    split, first, second, options, good = DEPTH_SCENES[name]
    posed = getattr(scene_of(name, **options), split)
    assert depth_disagreement(posed, first, second) < good


@pytest.mark.parametrize(
    "convention", ["opencv axes", "world to camera", "wrong scale", "planar depth"]
)
def test_a_wrong_convention_would_be_seen(scene_of, convention):
    """The check above can fail: under another convention depth disagrees at least twice as much."""
    split, first, second, options, good = DEPTH_SCENES["rgbd_shelfbox"]
    posed = as_if(getattr(scene_of("rgbd_shelfbox", **options), split), convention)
    try:
        error = depth_disagreement(posed, first, second)
    except AssertionError:  # the views no longer overlap at all
        return
    assert error > 2 * good


def epipolar_error(posed, first, second):
    """Median distance in pixels between matched keypoints and the other view's rays."""
    found = []
    for view in (first, second):
        image = posed.images[view, ..., :3].mean(axis=-1) / 255.0
        detector = SIFT(upsampling=1, n_octaves=4)
        detector.detect_and_extract(image)
        found.append((detector.positions[:, ::-1] + 0.5, detector.descriptors))
    matches = match_descriptors(found[0][1], found[1][1], max_ratio=0.7, cross_check=True)
    assert len(matches) > 30
    pick = np.resize(matches, (512, 2))
    xy = np.float32(found[0][0][pick[:, 0]])
    target = found[1][0][pick[:, 1]]
    rays = rays_of(posed.cameras, np.full(512, first, np.int32), xy)
    best = np.full(512, np.inf)
    for distance in np.geomspace(posed.near, 30 * posed.near, 200):
        points = np.asarray(rays.origins) + distance * np.asarray(rays.directions)
        there, planar = see(posed.cameras, np.full(512, second, np.int32), np.float32(points))
        error = np.linalg.norm(np.asarray(there) - target, axis=-1)
        best = np.minimum(best, np.where(np.asarray(planar) > 0, error, np.inf))
    return float(np.median(best[: len(matches)]))


PHOTOS = {"fox_540x960": (4, 6), "llff_fern": (3, 5)}


@pytest.mark.parametrize("name", PHOTOS)
def test_matched_keypoints_lie_on_each_others_rays(scene_of, name):
    """Photographs without depth: poses, focal length and lens must explain what is seen."""
    posed = scene_of(name, downscale=2).train
    first, second = PHOTOS[name]
    assert epipolar_error(posed, first, second) < 1.0
    turned = posed._replace(
        cameras=posed.cameras._replace(
            camera_to_world=posed.cameras.camera_to_world * np.float32([1, -1, -1, 1])
        )
    )
    assert epipolar_error(turned, first, second) > 3.0


def test_the_fox_of_the_original_file_reports_its_missing_images(sample, tmp_path):
    folder = tmp_path / "fox"
    folder.mkdir()
    (folder / "images").symlink_to(sample("fox_540x960") / "images")
    shutil.copy(sample("fox_540x960") / "transforms_original.json", folder / "transforms.json")
    scene, whole = load(folder, downscale=4), load(sample("fox_540x960"), downscale=4)
    assert any("17 of 67 listed images do not exist" in note for note in scene.notes)
    np.testing.assert_allclose(scene.train.cameras.focal, whole.train.cameras.focal, rtol=1e-4)
    np.testing.assert_array_equal(scene.train.images, whole.train.images)


def test_the_shelf_box_reads_the_same_as_an_rgbd_folder(scene_of, sample, tmp_path):
    folder = tmp_path / "shelf"
    folder.mkdir()
    source = sample("rgbd_shelfbox")
    for name in ("images", "depth", "poses_original", "intrinsics.K.txt"):
        (folder / name).symlink_to(source / name)
    values = json.loads((source / "transforms.json").read_text())
    for split in ("train", "test"):
        (folder / f"{split}_list.txt").write_text("\n".join(values[f"{split}_filenames"]))
    expected, got = scene_of("rgbd_shelfbox"), load(folder)
    for split in ("train", "test"):
        a, b = getattr(expected, split), getattr(got, split)
        assert a.names == b.names
        np.testing.assert_array_equal(a.images, b.images)
        np.testing.assert_allclose(a.depth, b.depth, rtol=1e-5)
        for field in ("camera_to_world", "focal", "principal"):
            x, y = getattr(a.cameras, field), getattr(b.cameras, field)
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


def test_world_units_of_the_shelf_box_are_metres(scene_of):
    scene = scene_of("rgbd_shelfbox")
    depth = scene.train.depth * world_scale(scene)
    assert 0.2 < np.nanquantile(depth, 0.01) < np.nanquantile(depth, 0.99) < 1.6
    origins = to_world(scene, scene.train.cameras.camera_to_world[:, :3, 3])
    np.testing.assert_allclose(origins[0], 0.0, atol=1e-5)  # its first camera is the world


def test_klevr_surfaces_lie_in_the_box_the_file_gives(scene_of):
    posed = scene_of("klevr_tiny").train
    for view in range(posed.num_views):
        row, col = np.nonzero(np.isfinite(posed.depth[view]))
        pick = np.random.default_rng(0).integers(0, len(row), NUM)
        row, col = row[pick], col[pick]
        xy = np.stack([col + 0.5, row + 0.5], axis=-1).astype(np.float32)
        rays = rays_of(posed.cameras, np.full(NUM, view, np.int32), xy)
        ends = rays.origins + posed.depth[view, row, col, None] * rays.directions
        points = np.asarray(ends)
        inside = np.all((points > posed.aabb[0] - 0.02) & (points < posed.aabb[1] + 0.02), axis=1)
        assert inside.mean() > 0.97
