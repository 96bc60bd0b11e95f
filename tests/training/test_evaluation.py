"""The lattice is the picture's own pixels, and the numbers are the metrics room's."""

import json

import jax
import numpy as np
import pytest

from nerf import images
from nerf.images import RenderedImage
from samplers import Feedback, registry
from scenes import metrics
from scenes.cameras import make_cameras
from scenes.rays import camera_rays
from scenes.rotations import look_at
from training import nerf_outputs, nerf_setup, sampler_pictures
from training.nerf_evaluation import Evaluator, error_concentration, lattice_cameras, over
from training.run_folder import RunFolder

from .conftest import TINY


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_lattice_camera_sees_each_strideth_pixel(stride):
    pose = look_at(np.array([[1.0, -4.0, 2.0]]), np.zeros(3), np.array([0.0, 0.0, 1.0]))
    distortion = np.array([0.1, -0.05, 0.01, -0.01, 0, 0, 0, 0])
    cameras = make_cameras(pose, np.array([31.0, 29.0]), np.array([9.0, 7.5]), distortion)
    small = lattice_cameras(cameras, stride)
    row, col = np.mgrid[stride // 2 : 15 : stride, stride // 2 : 18 : stride].reshape(2, -1)[:, :12]
    large_xy = np.stack([col, row], axis=-1).astype(np.float32) + 0.5
    small_xy = large_xy * 0 + np.stack([col // stride, row // stride], axis=-1) + 0.5
    view = np.zeros(len(row), np.int32)
    rays = jax.jit(camera_rays)
    want = rays(cameras, view, large_xy)
    got = rays(small, view, small_xy.astype(np.float32))
    np.testing.assert_allclose(got.directions, want.directions, atol=2e-6)
    np.testing.assert_allclose(got.origins, want.origins)


def test_quick_psnr_of_every_pixel_is_the_full_one(shared):
    setup = nerf_setup.prepare(TINY, shared.scene)
    state = nerf_setup.first_state(setup)
    snapshot = images.snapshot(state)
    evaluator = shared.evaluator
    results = list(evaluator.every_view(snapshot))
    by_hand = [metrics.psnr(result.rendered.color, result.target) for result in results]
    np.testing.assert_allclose([result.psnr for result in results], by_hand, rtol=1e-5)
    # 2 views of 16 x 16 are 512 pixels, so a budget of 256 takes every second row and column
    assert evaluator.stride == 2
    subset = [
        metrics.psnr(result.rendered.color[1::2, 1::2], result.target[1::2, 1::2])
        for result in results
    ]
    np.testing.assert_allclose(evaluator.quick_psnr(snapshot), np.mean(subset), rtol=1e-4)
    _, held = evaluator.quick(snapshot)
    shares = [held[name] for name in sorted(held, key=float)]
    assert shares == sorted(shares)
    assert held["0.01"] > 0.01
    assert held["1"] == 1.0


def test_perfect_pictures_stay_finite(shared):
    from training.nerf_evaluation import _psnr

    picture = np.ones((4, 4, 3), np.float32)
    assert _psnr(picture, picture, None) == 100.0
    assert np.isnan(_psnr(picture, picture, np.zeros((4, 4), bool)))


def test_background_follows_the_data_and_the_flag(shared):
    config, scene = TINY.train, shared.scene
    assert config.background == "random"
    np.testing.assert_array_equal(nerf_setup.evaluation_background(config, scene), np.ones(3))
    opaque = scene._replace(train=scene.train._replace(images=scene.train.images[..., :3]))
    np.testing.assert_array_equal(nerf_setup.evaluation_background(config, opaque), np.zeros(3))
    image = np.array([[[255, 0, 0, 0], [0, 255, 0, 255]]], np.uint8)
    np.testing.assert_allclose(over(image, np.ones(3)), [[[1, 1, 1], [0, 1, 0]]])


def test_evaluator_masks_pixels_that_do_not_count(shared):
    masks = np.zeros(shared.scene.test.images.shape[:3], bool)
    masks[:, :8] = True
    scene = shared.scene._replace(test=shared.scene.test._replace(masks=masks))
    setup = nerf_setup.prepare(TINY, scene)
    evaluator = Evaluator(setup)
    evaluator.render = shared.evaluator.render
    snapshot = images.snapshot(jax.tree.map(np.asarray, nerf_setup.first_state(setup)))
    result = next(evaluator.every_view(snapshot))
    want = metrics.psnr(result.rendered.color[:8], result.target[:8])
    np.testing.assert_allclose(result.psnr, want, rtol=1e-5)
    assert result.squared_errors.size == masks[0].sum()
    np.testing.assert_allclose(-10 * np.log10(result.squared_errors.mean()), want, rtol=1e-5)


def test_a_view_that_a_mask_hides_whole_is_left_out_of_the_numbers(shared, tmp_path):
    masks = np.ones(shared.scene.test.images.shape[:3], bool)
    masks[0] = False
    scene = shared.scene._replace(test=shared.scene.test._replace(masks=masks))
    setup = nerf_setup.prepare(TINY, scene)
    evaluator = Evaluator(setup)
    evaluator.render = shared.evaluator.render
    snapshot = images.snapshot(jax.tree.map(np.asarray, nerf_setup.first_state(setup)))
    folder = RunFolder(tmp_path)
    folder.images.mkdir()
    seen = []

    def perceptual(color, target):
        seen.append(np.abs(color - target).max())
        return 0.0

    final, shown = nerf_outputs.evaluate_and_draw(setup, evaluator, snapshot, folder, perceptual)
    assert final["psnr_per_view"][0] is None
    assert final["psnr"] == pytest.approx(final["psnr_per_view"][1], abs=1e-3)
    assert "nothing to judge by" in shown[0].caption
    assert seen[0] == 0 < seen[1]  # a perceptual distance sees no masked pixel either
    json.dumps(final, allow_nan=False)


def _evaluated(shared, truth, depth, *, masks=None, opacity=1.0, scale=1.0):
    """Compares a rendered depth with the truth; lengths in the files are `scale` times ours."""
    posed = shared.scene.test._replace(masks=masks, depth=truth)
    world = np.diag([scale, scale, scale, 1.0])
    scene = shared.scene._replace(test=posed, world_from_scene=world)
    setup = nerf_setup.prepare(TINY, scene)
    evaluator = Evaluator(setup)
    rendered = RenderedImage(
        np.zeros((16, 16, 3), np.float32),
        opacity=np.full((16, 16), opacity, np.float32),
        depth=depth,
    )
    evaluator.render = lambda *_: rendered
    return setup, evaluator


def test_depth_error_leaves_out_what_masks_hide(shared):
    truth = np.full(shared.scene.test.images.shape[:3], 1.0, np.float32)
    masks = np.zeros(truth.shape, bool)
    masks[:, :8] = True
    truth[:, 8:] = 1e6
    depth = np.full((16, 16), 1.5, np.float32)
    _, evaluator = _evaluated(shared, truth, depth, masks=masks)
    view = next(evaluator.every_view(None))
    assert view.depth_rmse == pytest.approx(0.5)
    assert view.depth_relative == pytest.approx(0.5)
    assert view.depth_within_quarter == 0.0


def test_depth_errors_are_in_the_unit_of_the_data_and_count_what_is_not_seen(shared, tmp_path):
    """A hole is an error: half of the pixels are right, half are missing."""
    truth = np.full(shared.scene.test.images.shape[:3], 2.0, np.float32)
    truth[:, 0] = np.nan
    truth[0] = np.nan  # a view without any depth does not count
    depth = np.full((16, 16), 2.0, np.float32)
    depth[:, :8] = 0.0
    for opacity in (1.0, 0.1):
        setup, evaluator = _evaluated(shared, truth, depth, opacity=opacity, scale=300.0)
        blind, view = evaluator.every_view(None)
        assert blind.depth_rmse is blind.depth_relative is blind.depth_within_quarter is None
        assert view.depth_rmse == pytest.approx(300 * 2.0 / np.sqrt(2))
        assert view.depth_relative == pytest.approx(0.5)
        assert view.depth_within_quarter == pytest.approx(0.5)
    folder = RunFolder(tmp_path)
    folder.images.mkdir()
    final, _ = nerf_outputs.evaluate_and_draw(setup, evaluator, None, folder)
    assert final["depth_rmse"] == pytest.approx(300 * 2.0 / np.sqrt(2))
    assert (final["depth_relative"], final["depth_within_quarter"]) == (0.5, 0.5)


def test_a_return_to_uniform_draws_does_not_hide_what_was_preferred():
    sizes = {"num_views": 1, "rows": 16, "cols": 16}
    options = {"warmup_steps": 0, "decay": 0.0}
    sampler = registry.make_ray_sampler("error_map", **sizes, batch_size=256, options=options)
    state = sampler.plan(sampler.init(jax.random.key(0)), 4)
    for step in range(4):
        draw = sampler.sample(jax.random.key(step), state)
        state = sampler.update(state, draw, Feedback(value=1.0 + 3.0 * (draw.items.row < 8)))
    np.testing.assert_allclose(sampler.probabilities(state) * 256, 1.0, rtol=1e-5)
    shown = sampler_pictures.density(sampler, state, **sizes).relative
    assert shown[0, :8].min() > 1.3 > 0.7 > shown[0, 8:].max()


def test_worst_pixels_hold_what_they_hold():
    errors = np.ones(1000)
    assert error_concentration(errors)["0.1"] == pytest.approx(0.1)
    errors[37] = 1000.0
    shares = error_concentration(errors)
    assert shares["0.001"] == pytest.approx(1000 / 1999, abs=1e-4)
    assert shares["1"] == 1.0
    assert list(shares.values()) == sorted(shares.values())
    assert error_concentration(np.zeros(0))["1"] == 0.0
