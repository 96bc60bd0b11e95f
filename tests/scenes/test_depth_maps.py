import jax
import numpy as np
import pytest
from PIL import Image

from scenes.cameras import make_cameras, pixel_directions
from scenes.formats import depth_maps as dm
from scenes.rays import camera_rays, pixel_grid


def test_integers_are_millimetres_and_floats_units():
    stored = np.array([[0, 1500, 65535, 2]], np.uint16)
    np.testing.assert_allclose(dm.depth_of(stored), [[np.nan, 1.5, np.nan, 0.002]], rtol=1e-6)
    floats = np.array([[0.0, 1.5, np.inf, np.nan, -1.0, 1e10]], np.float32)
    expected = [[np.nan, 1.5, np.nan, np.nan, np.nan, np.nan]]
    np.testing.assert_allclose(dm.depth_of(floats), expected)
    np.testing.assert_allclose(dm.depth_of(floats, 2.0)[0, 1], 3.0)
    np.testing.assert_allclose(dm.depth_of(stored, 0.25)[0, 1], 375.0)


def test_depth_is_resized_without_averaging(tmp_path):
    stored = np.array([[1000, 0], [0, 3000]], np.uint16)
    path = tmp_path / "d.png"
    Image.fromarray(stored).save(path)
    got = dm.read_depth(path, 4, 4)
    np.testing.assert_allclose(got[:2, :2], 1.0)
    np.testing.assert_allclose(got[2:, 2:], 3.0)
    assert np.isnan(got[:2, 2:]).all()


@pytest.mark.parametrize("bright", [1, 200])
def test_masks_are_true_where_bright(tmp_path, bright):
    path = tmp_path / "m.png"
    Image.fromarray(np.array([[0, bright], [bright, 0]], np.uint8)).save(path)
    np.testing.assert_array_equal(dm.read_mask(path, 2, 2), [[False, True], [True, False]])


def test_unreadable_depth_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        dm.read_depth(tmp_path / "gone.png", 2, 2)
    with pytest.raises(ValueError, match=r"d\.exr: EXR"):
        dm.read_depth(tmp_path / "d.exr", 2, 2)


@pytest.mark.parametrize("lens", [np.zeros(8), [0.1, -0.05, 0.001, 0.002, 0, 0, 0, 0]])
def test_a_wall_has_equal_planar_depth_and_longer_rays_at_its_rim(lens):
    """Points at planar depth 2 along each pixel's own ray are all on the plane z = -2."""
    lenses = np.stack([np.zeros(8), np.asarray(lens)])
    cameras = make_cameras(
        np.tile(np.eye(4), (2, 1, 1)), np.array([9.0, 11.0]), np.array([6.5, 5.0]), lenses
    )
    distance = dm.distance_from_planar(np.full((2, 10, 14), 2.0, np.float32), cameras)
    grid = np.broadcast_to(pixel_grid(10, 14), (2, 10, 14, 2))
    view = np.broadcast_to(np.arange(2, dtype=np.int32)[:, None, None], (2, 10, 14))
    rays = jax.jit(camera_rays)(cameras, view, grid)
    points = np.asarray(rays.directions) * distance[..., None]
    np.testing.assert_allclose(points[..., 2], -2.0, rtol=1e-5)
    assert distance[0, 0, 0] > distance[0, 5, 6] >= 2.0
    lengths = np.linalg.norm(jax.jit(pixel_directions)(cameras, view, grid), axis=-1)
    np.testing.assert_allclose(dm.ray_lengths(cameras, 10, 14), lengths, rtol=1e-6)
