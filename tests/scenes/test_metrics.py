import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from scenes import metrics

ssim = jax.jit(metrics.ssim)


def images(seed, noise):
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(0, 1, 40), np.linspace(0, 1, 33))
    target = np.stack([x, y, 0.5 + 0.5 * np.sin(20 * x * y)], axis=-1)
    return np.float32(np.clip(target + rng.normal(0, noise, target.shape), 0, 1)), np.float32(
        target
    )


@pytest.mark.parametrize("noise", [0.01, 0.2, 1.0])
def test_ssim_equals_scikit_image(noise):
    image, target = images(0, noise)
    expected = structural_similarity(
        np.float64(image),
        np.float64(target),
        channel_axis=-1,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert float(ssim(image, target)) == pytest.approx(expected, abs=2e-6)


def test_ssim_of_equal_images_is_one_also_where_flat():
    image, _ = images(1, 0.1)
    assert float(ssim(image, image)) == pytest.approx(1.0, abs=1e-6)
    flat = np.full((33, 40, 3), 0.7, np.float32)
    assert float(ssim(flat, flat)) == pytest.approx(1.0, abs=1e-6)


def test_ssim_refuses_images_smaller_than_its_window():
    with pytest.raises(ValueError, match="11 x 11"):
        metrics.ssim(jnp.zeros((10, 40, 3)), jnp.zeros((10, 40, 3)))


def test_psnr_equals_scikit_image():
    image, target = images(2, 0.05)
    expected = peak_signal_noise_ratio(np.float64(target), np.float64(image), data_range=1.0)
    assert float(metrics.psnr(image, target)) == pytest.approx(expected, abs=1e-4)
    assert float(metrics.psnr(image, image)) == np.inf


def test_masked_psnr_counts_the_masked_pixels_only():
    image, target = images(3, 0.05)
    mask = np.zeros(image.shape[:2], bool)
    mask[5:20, 7:30] = True
    expected = metrics.psnr(image[5:20, 7:30], target[5:20, 7:30])
    spoiled = np.where(mask[..., None], image, np.nan)
    assert float(metrics.psnr(spoiled, target, mask)) == pytest.approx(float(expected), abs=1e-4)
    assert np.isnan(float(metrics.psnr(image, target, np.zeros_like(mask))))


def test_depth_errors_ignore_unknown_depth():
    target = np.array([1.0, 2.0, np.nan, 4.0, 0.0], np.float32)
    depth = np.array([1.1, 2.0, 9.0, 6.0, 9.0], np.float32)
    errors = metrics.depth_errors(depth, target)
    assert float(errors.rmse) == pytest.approx(np.sqrt((0.01 + 4.0) / 3), abs=1e-6)
    assert float(errors.absolute_relative) == pytest.approx((0.1 + 0.5) / 3, abs=1e-6)
    assert float(errors.within_quarter) == pytest.approx(2 / 3, abs=1e-6)
    assert np.isnan(float(metrics.depth_errors(depth, np.full(5, np.nan, np.float32)).rmse))


def test_ssim_under_a_mask_looks_at_what_counts_only():
    random = np.random.default_rng(3)
    target = random.random((40, 50, 3)).astype(np.float32)
    image = np.clip(target + 0.2 * random.normal(size=target.shape), 0, 1).astype(np.float32)
    mask = np.zeros((40, 50), bool)
    mask[:, :25] = True
    spoiled = np.where(mask[..., None], image, random.random(image.shape).astype(np.float32))
    found = float(ssim(image, target, mask))
    assert float(ssim(spoiled, target, mask)) == pytest.approx(found, abs=1e-6)
    assert float(ssim(image, target, np.ones((40, 50), bool))) == pytest.approx(
        float(ssim(image, target)), abs=1e-6
    )
    # far from the mask's edge nothing is stood in for
    inner = float(ssim(image[:, :25], target[:, :25]))
    assert abs(found - inner) < 0.1
    assert np.isnan(float(ssim(image, target, np.zeros((40, 50), bool))))
