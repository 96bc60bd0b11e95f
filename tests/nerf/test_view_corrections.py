"""Corrections of single views: nothing at the start, blind to what all views share, and learned."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nerf import train_step, view_corrections
from nerf.spaces import SceneBounds
from nerf.view_corrections import CorrectionConfig
from nerf.volume_rendering import RenderedRays
from scenes import posed_images
from scenes.rays import Rays

from .conftest import TINY

BOTH = CorrectionConfig(colors=True, poses=True)
BOUNDS = SceneBounds(
    aabb=jnp.array([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]), near=jnp.array(0.0), far=jnp.array(9.0)
)
VIEW = jnp.array([0, 1, 2, 2])


@pytest.fixture
def rays():
    keys = jax.random.split(jax.random.key(0))
    directions = jax.random.normal(keys[0], (4, 3))
    return Rays(
        origins=jax.random.normal(keys[1], (4, 3)),
        directions=directions / jnp.linalg.norm(directions, axis=1, keepdims=True),
    )


@pytest.fixture
def rendered():
    values = jax.random.uniform(jax.random.key(3), (4, 3))
    return RenderedRays(color=values, opacity=jnp.linspace(0.2, 1.0, 4), depth=jnp.ones(4))


def test_no_correction_changes_nothing(rays, rendered):
    params = view_corrections.init(BOTH, 3)
    moved = view_corrections.move_rays(BOTH, params, VIEW, rays, BOUNDS)
    np.testing.assert_array_equal(moved.directions, rays.directions)
    np.testing.assert_array_equal(moved.origins, rays.origins)
    shown = view_corrections.recolor(BOTH, params, VIEW, rendered)
    np.testing.assert_array_equal(shown.color, rendered.color)
    assert float(view_corrections.penalty(BOTH, params)) == 0.0
    assert view_corrections.init(CorrectionConfig(), 3) == {}


def test_what_all_views_share_is_left_to_the_field(rays, rendered):
    start = view_corrections.init(BOTH, 3)
    shared = jax.tree.map(lambda leaf: leaf + 0.1, start)
    for params in (shared, start):
        moved = view_corrections.move_rays(BOTH, params, VIEW, rays, BOUNDS)
        np.testing.assert_allclose(moved.origins, rays.origins, atol=1e-7)
        shown = view_corrections.recolor(BOTH, params, VIEW, rendered)
        np.testing.assert_allclose(shown.color, rendered.color, atol=1e-7)


def test_rotations_are_scipys_and_smooth_at_zero():
    vectors = np.random.default_rng(0).normal(size=(5, 3))
    turns = np.random.default_rng(1).normal(size=(5, 3)) * np.array([[1e-5, 1e-3, 1e-2, 1, 3]]).T
    expected = Rotation.from_rotvec(turns).apply(vectors)
    with jax.enable_x64():
        found = view_corrections.rotate(jnp.asarray(turns), jnp.asarray(vectors))
        np.testing.assert_allclose(found, expected, atol=1e-12)
        slope = jax.jacobian(lambda r: view_corrections.rotate(r, jnp.asarray(vectors[0])))(
            jnp.zeros(3)
        )
    x, y, z = vectors[0]
    np.testing.assert_allclose(slope, [[0, z, -y], [-z, 0, x], [y, -x, 0]], atol=1e-12)


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="color_rate must be positive"):
        CorrectionConfig(color_rate=0.0)
    with pytest.raises(ValueError, match="color_decay must not be negative"):
        CorrectionConfig(color_decay=-1.0)
    with pytest.raises(ValueError, match="number of views"):
        view_corrections.init(BOTH, 0)


@pytest.mark.slow  # two compilations
def test_learns_the_exposure_and_the_pose_of_each_view(scene, data, sampler, run_key):
    rng = np.random.default_rng(0)
    train = scene.train
    gains = rng.uniform(0.3, 1.0, train.num_views)
    images = train.images.astype(np.float32)
    images[..., :3] *= gains[:, None, None, None]
    poses = np.array(train.cameras.camera_to_world)
    shifts = rng.normal(scale=0.06, size=(train.num_views, 3)).astype(np.float32)
    poses[:, :3, 3] += shifts
    wrong = posed_images.to_device(
        train._replace(
            images=np.round(images).astype(np.uint8),
            cameras=train.cameras._replace(camera_to_world=poses),
        )
    )
    last = {}
    fast = dataclasses.replace(BOTH, color_rate=1.0, pose_rate=0.1)
    for corrections in (CorrectionConfig(), fast):
        config = dataclasses.replace(TINY, corrections=corrections)
        state = train_step.init_state(
            config, jax.random.key(0), sampler, image_shape=train.images.shape[:3]
        )
        step = train_step.make_train_step(config, sampler)
        errors = []
        for _ in range(config.num_steps):
            state, metrics = step(state, data._replace(pixels=wrong), run_key)
            errors.append(float(metrics.mse))
        last[corrections.is_used] = np.mean(errors[-20:])
    assert last[True] < 0.85 * last[False]
    learned = state.params["views"]
    diagonal = np.einsum("vii->v", np.asarray(learned["colors"])[:, :, :3])
    assert np.corrcoef(diagonal, gains)[0, 1] > 0.8
    size = np.max(train.aabb[1] - train.aabb[0])
    moved = -size * np.asarray(learned["poses"])[:, :3]
    assert np.corrcoef(moved.ravel(), (shifts - shifts.mean(0)).ravel())[0, 1] > 0.4
