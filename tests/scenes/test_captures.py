"""Laws that hold for every capture format, on an analytic scene written in each of them."""

import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from scenes.formats import load
from scenes.formats.pictures import read_plane
from scenes.posed_images import to_world, world_scale
from scenes.rays import camera_rays, pixel_grid

from . import written_captures as written

rays_of = jax.jit(camera_rays)
PLACES = np.random.default_rng(0).uniform([0, 0], [24, 20], (6, 2)).astype(np.float32)
HELD_OUT = {"klevr": ("rgba_00003.png", "rgba_00008.png")}


@pytest.fixture(params=written.WRITERS, scope="module")
def capture(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "scene"
    folder.mkdir()
    expected = written.WRITERS[request.param](folder)
    return request.param, folder, expected, load(folder)


def all_views(scene):
    """(split, view, number in the capture) of every view."""
    for posed in (scene.train, scene.test):
        for view, name in enumerate(posed.names):
            digits = "".join(c for c in name.split("/")[-1] if c.isdigit())
            yield posed, view, int(digits)


def test_rays_in_world_units_are_those_that_were_written(capture):
    _, _, expected, scene = capture
    rotation = scene.world_from_scene[:3, :3] / world_scale(scene)
    count = 0
    for posed, view, number in all_views(scene):
        got = rays_of(posed.cameras, np.full(6, view, np.int32), PLACES)
        want = rays_of(expected.cameras, np.full(6, number, np.int32), PLACES)
        origins = to_world(scene, np.asarray(got.origins))
        np.testing.assert_allclose(origins, want.origins, atol=2e-6)
        directions = np.float64(got.directions) @ rotation.T
        np.testing.assert_allclose(directions, want.directions, atol=5e-6)
        count += 1
    assert count == written.NUM_VIEWS


def test_pixels_are_those_that_were_written(capture):
    _, _, expected, scene = capture
    for posed, view, number in all_views(scene):
        alpha = expected.images[number, ..., 3:] / 255.0
        over_white = expected.images[number, ..., :3] * alpha + 255 * (1 - alpha)
        assert np.abs(posed.images[view] - over_white).max() <= 0.51
        assert posed.images.shape[-1] == 3


def test_depth_in_world_units_is_that_of_the_scene(capture):
    name, _, expected, scene = capture
    if name in ("llff", "colmap"):
        assert scene.train.depth is None
        return
    for posed, view, number in all_views(scene):
        got, want = posed.depth[view] * world_scale(scene), expected.depth[number]
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        np.testing.assert_allclose(got, want, atol=0.0007)  # half of a stored unit, and slant


def test_a_given_depth_scale_is_the_unit_of_every_depth_map(capture):
    name, folder, expected, scene = capture
    if scene.train.depth is None:
        with pytest.raises(ValueError, match=r"depth_scale 0\.5 is for depth maps") as caught:
            load(folder, depth_scale=0.5)
        assert str(folder) in str(caught.value)
        return
    stored = {"transforms": 0.0005, "rgbd": 0.001, "klevr": 1.0}[name]
    doubled = load(folder, depth_scale=2 * stored)
    assert not any("millimetres" in note for note in doubled.notes)
    for posed, view, number in all_views(doubled):
        got, want = posed.depth[view] * world_scale(doubled), 2 * expected.depth[number]
        np.testing.assert_allclose(got, want, atol=0.0014)
    for wrong in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="depth_scale must be in"):
            load(folder, depth_scale=wrong)


@pytest.mark.parametrize("ending", [".npy", ".tiff"])
@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_the_unit_assumed_for_integers_is_told_whatever_the_file(tmp_path, ending, kind):
    written.rgbd(tmp_path)
    for path in tmp_path.glob("*.depth.png"):
        stored = read_plane(path).astype(kind)
        if ending == ".npy":
            np.save(path.with_suffix(ending), stored)
        else:
            Image.fromarray(stored).save(path.with_suffix(ending))
        path.unlink()
    told = [note for note in load(tmp_path).notes if "integers are taken as millimetres" in note]
    assert len(told) == (kind is np.uint16)


def test_transforms_json_may_be_named_instead_of_its_folder(tmp_path):
    written.transforms(tmp_path)
    whole = load(tmp_path)
    (tmp_path / "transforms.json").rename(tmp_path / "transforms_small.json")
    named = load(tmp_path / "transforms_small.json")
    np.testing.assert_array_equal(named.train.depth, whole.train.depth)
    assert (named.name, named.train.names) == (whole.name, whole.train.names)


def test_what_is_seen_lies_in_reach(capture):
    """Depth is within near and far, and at most a hundredth of it outside the box."""
    _, _, expected, scene = capture
    for posed, view, number in all_views(scene):
        depth = expected.depth[number] / world_scale(scene)
        known = np.isfinite(depth)
        if posed.kind == "bounded" or posed.depth is not None:
            assert np.quantile(depth[known], 0.01) > posed.near
        assert depth[known].max() < posed.far
        if posed.depth is None:
            continue
        grid = pixel_grid(20, 24)
        rays = rays_of(posed.cameras, np.full((20, 24), view, np.int32), grid)
        ends = np.asarray(rays.origins) + depth[..., None] * np.asarray(rays.directions)
        points = ends[known]
        inside = np.all((points > posed.aabb[0] - 0.02) & (points < posed.aabb[1] + 0.02), axis=1)
        assert inside.mean() > 0.97


def test_every_eighth_view_is_held_out_unless_listed(capture):
    name, folder, _, scene = capture
    if name in HELD_OUT:
        assert scene.test.names == HELD_OUT[name]
    else:
        assert [number for posed, _, number in all_views(scene) if posed is scene.test] == [0, 8]
        assert any("every 8th view" in note for note in scene.notes)
        (folder / "test_list.txt").write_text(f"# held out\n{scene.train.names[2]}\n\n")
        assert load(folder).test.names == scene.train.names[2:3]
        (folder / "test_list.txt").unlink()
        assert load(folder, holdout=4).test.num_views == 3


def test_downscale_keeps_the_rays(capture):
    _, folder, _, scene = capture
    half = load(folder, downscale=2)
    assert half.train.images.shape[1:3] == (10, 12)
    view = np.zeros(6, np.int32)
    got = rays_of(half.train.cameras, view, PLACES / 2)
    want = rays_of(scene.train.cameras, view, PLACES)
    np.testing.assert_allclose(got.directions, want.directions, atol=1e-6)
    if scene.train.depth is not None:
        assert half.train.depth.shape == (scene.train.num_views, 10, 12)


def test_a_missing_image_is_left_out_and_counted(capture, tmp_path):
    name, folder, _, _ = capture
    if name == "llff":  # its rows have no names, so a missing image is an error there
        return
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    spare = next(iter(sorted(copy.rglob("*005*.png"), key=lambda p: "depth" in p.as_posix())))
    spare.unlink()
    short = load(copy)
    assert short.train.num_views + short.test.num_views == written.NUM_VIEWS - 1
    assert any("1 of 9" in note for note in short.notes)
    for path in copy.rglob("*.png"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=str(copy)):
        load(copy)


def test_a_truncated_image_ends_the_reading(capture, tmp_path):
    _, folder, _, _ = capture
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    spoiled = next(iter(sorted(copy.rglob("*004*.png"), key=lambda p: "depth" in p.as_posix())))
    spoiled.write_bytes(spoiled.read_bytes()[:200])
    with pytest.raises(ValueError, match="truncated") as caught:
        load(copy)
    assert str(spoiled) in str(caught.value)
