import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nerf.ray_batches import RayBatches
from scenes.backgrounds import premultiply
from scenes.cameras import project


@pytest.fixture(scope="module")
def batches(scene):
    return RayBatches(
        scene.train, rays_per_batch=256, options={"warmup_steps": 0, "uniform_fraction": 0.2}
    )


def test_a_batch_is_what_the_images_hold(batches, scene):
    batch = next(batches)
    stored = scene.train.images.reshape(-1, scene.train.images.shape[-1])[np.asarray(batch.index)]
    np.testing.assert_allclose(batch.colors, premultiply(jnp.asarray(stored))[:, :3], atol=1e-6)
    depth = scene.train.depth.reshape(-1)[np.asarray(batch.index)]
    np.testing.assert_array_equal(batch.depth, depth)
    view = np.asarray(batch.index) // (32 * 32)
    points = np.asarray(batch.origins) + 2.0 * np.asarray(batch.directions)
    xy, _ = project(scene.train.cameras, view, points)
    pixel = np.asarray(batch.index) % (32 * 32)
    np.testing.assert_allclose(xy, np.stack([pixel % 32, pixel // 32], -1) + 0.5, atol=1e-2)


def test_pixels_with_errors_come_up_more_often_and_weights_undo_it(scene):
    batches = RayBatches(scene.train, rays_per_batch=512, options={"warmup_steps": 0})
    num_pixels = scene.train.num_views * 32 * 32
    for _ in range(40):
        batch = next(batches)
        batches.update_error_map(np.where(np.asarray(batch.index) < num_pixels // 4, 1.0, 0.01))
    chances = batches.error_map().reshape(-1)
    np.testing.assert_allclose(chances.mean(), 1.0, rtol=1e-4)
    assert chances[: num_pixels // 4].mean() > 2 * chances[num_pixels // 4 :].mean()
    batch = next(batches)
    weights = np.asarray(batch.weights, np.float64)
    np.testing.assert_allclose(weights * chances[np.asarray(batch.index)], 1.0, rtol=1e-3)


def test_batches_are_uniform_at_the_end_of_a_training_whose_length_is_known(scene):
    options = {"warmup_steps": 0, "handback_over": 0.0}
    for length, is_uniform in ((None, False), (8, True)):
        batches = RayBatches(
            scene.train,
            sampler="error_map",
            rays_per_batch=64,
            options=options,
            num_batches=length,
        )
        for batch in itertools.islice(batches, 6):
            batches.update_error_map(jnp.where(batch.index % 1024 < 256, 4.0, 1.0))
        chances = np.asarray(next(batches).draw.probs)
        assert (np.ptp(chances) < 1e-6 * chances.mean()) == is_uniform


def test_errors_may_come_from_pytorch(batches):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    batch = next(batches)
    weights = torch.from_dlpack(batch.weights)
    errors = torch.ones_like(weights, requires_grad=True) * 2.0
    batches.update_error_map(errors)
    assert np.isfinite(batches.error_map()).all()


def test_an_older_batch_can_be_told_about(scene):
    batches = RayBatches(scene.train, rays_per_batch=64, options={"warmup_steps": 0})
    first, _ = next(batches), next(batches)
    errors = np.full(64, 5.0)
    errors[1:] = 0.0
    before = batches.error_map().reshape(-1)[np.asarray(first.index)]
    batches.update_error_map(errors, batch=first)
    after = batches.error_map().reshape(-1)[np.asarray(first.index)]
    assert after[0] > before[0]


def test_the_same_seed_gives_the_same_batches(scene):
    one, other, third = (
        np.asarray(next(RayBatches(scene.train, rays_per_batch=64, seed=seed)).index)
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one, other)
    assert (one != third).any()


def test_wrong_use_is_refused(scene, batches):
    with pytest.raises(ValueError, match="comes after a batch"):
        RayBatches(scene.train, rays_per_batch=64).update_error_map(np.ones(64))
    next(batches)
    with pytest.raises(ValueError, match="one error per ray"):
        batches.update_error_map(np.ones(3))
    with pytest.raises(ValueError, match="moves its pixels"):
        RayBatches(scene.train, sampler="soft_mining", rays_per_batch=64)
    with pytest.raises(ValueError, match="needs labels"):
        RayBatches(scene.train, sampler="semantic", rays_per_batch=64)


@pytest.mark.parametrize("sampler", ["spatial", "uniform_epochs", "uniform"])
def test_masked_pixels_are_never_drawn(scene, sampler):
    masks = np.zeros(scene.train.images.shape[:3], bool)
    masks[:, ::2] = True
    batches = RayBatches(scene.train._replace(masks=masks), sampler=sampler, rays_per_batch=256)
    batch = next(batches)
    assert np.all(masks.reshape(-1)[np.asarray(batch.index)])


def _learn(batches, count):
    """Draws some batches and tells errors that differ by pixel and by batch."""
    drawn = []
    for number in range(count):
        batch = next(batches)
        batches.update_error_map(1.0 + (np.asarray(batch.index) * (3 + number)) % 11)
        drawn.append(batch)
    return drawn


@pytest.mark.parametrize("sampler", ["error_weighted", "error_map", "uniform_epochs", "temporal"])
def test_restored_batches_go_on_bit_for_bit(scene, sampler, tmp_path):
    settings = {"sampler": sampler, "rays_per_batch": 64, "num_batches": 12}
    undisturbed = RayBatches(scene.train, seed=5, **settings)
    _learn(undisturbed, 5)
    np.savez(tmp_path / "state.npz", **undisturbed.state())
    restored = RayBatches(scene.train, seed=6, **settings)
    _learn(restored, 2)  # what is restored does not depend on what was there
    with np.load(tmp_path / "state.npz") as file:
        restored.restore(file)
    with pytest.raises(ValueError, match="comes after a batch"):
        restored.update_error_map(np.ones(64))
    for got, want in zip(_learn(restored, 5), _learn(undisturbed, 5), strict=True):
        for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
    for name, leaf in undisturbed.state().items():
        np.testing.assert_array_equal(restored.state()[name], leaf)


def test_a_restored_state_is_the_callers_no_more(scene):
    batches = RayBatches(scene.train, rays_per_batch=64)
    tree = {name: leaf.copy() for name, leaf in batches.state().items()}
    batches.restore(tree)
    tree["sampler.weights.leaves"][:] = np.nan
    assert np.isfinite(batches.error_map()).all()


def test_a_state_that_does_not_fit_is_refused_by_the_leaf(scene, batches):
    before = batches.state()
    leaves = "sampler.weights.leaves"
    for change, message in (
        ({leaves: before[leaves][1:]}, r"state sampler\.weights\.leaves must be float32 of shape"),
        ({"sampler.step": np.float32(1)}, r"state sampler\.step must be int32 .* got float32"),
        ({"key": np.zeros(3, np.uint32)}, r"state key must be uint32 of shape \(2,\)"),
        ({"count": np.int64(-1)}, "state count must not be negative"),
        ({"more": np.zeros(1)}, "state more is unknown"),
    ):
        with pytest.raises(ValueError, match=message):
            batches.restore(before | change)
    with pytest.raises(ValueError, match="state key is missing"):
        batches.restore({name: leaf for name, leaf in before.items() if name != "key"})
    for name, leaf in batches.state().items():
        np.testing.assert_array_equal(leaf, before[name])
