"""Corrections of single views: nothing at the start, blind to what all views share, and learned."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nerf import fields, train_step, view_corrections
from nerf.spaces import SceneBounds
from nerf.view_corrections import CorrectionConfig
from nerf.volume_rendering import RenderedRays
from scenes import posed_images
from scenes.rays import Rays

from .conftest import TINY

ALL = CorrectionConfig(colors=True, appearance=True, poses=True)
BOUNDS = SceneBounds(
    aabb=jnp.array([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]), near=jnp.array(0.0), far=jnp.array(9.0)
)
VIEW = jnp.array([0, 1, 2, 2])
WIDTH = TINY.field.hidden_width


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
    params = view_corrections.init(ALL, 3, WIDTH)
    moved = view_corrections.move_rays(ALL, params, VIEW, rays, BOUNDS)
    np.testing.assert_array_equal(moved.directions, rays.directions)
    np.testing.assert_array_equal(moved.origins, rays.origins)
    shown = view_corrections.recolor(ALL, params, VIEW, rendered)
    np.testing.assert_array_equal(shown.color, rendered.color)
    np.testing.assert_array_equal(view_corrections.color_bias(ALL, params, VIEW), 0.0)
    assert float(view_corrections.penalty(ALL, params)) == 0.0
    assert view_corrections.color_bias(CorrectionConfig(), params, VIEW) is None
    assert view_corrections.init(CorrectionConfig(), 3, WIDTH) == {}


def test_what_all_views_share_is_left_to_the_field(rays, rendered):
    start = view_corrections.init(ALL, 3, WIDTH)
    shared = jax.tree.map(lambda leaf: leaf + 0.1, start)
    for params in (shared, start):
        moved = view_corrections.move_rays(ALL, params, VIEW, rays, BOUNDS)
        np.testing.assert_allclose(moved.origins, rays.origins, atol=1e-7)
        shown = view_corrections.recolor(ALL, params, VIEW, rendered)
        np.testing.assert_allclose(shown.color, rendered.color, atol=1e-7)
        bias = view_corrections.color_bias(ALL, params, VIEW)
        np.testing.assert_allclose(bias, 0.0, atol=1e-7)


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
    with pytest.raises(ValueError, match="appearance_rate must be positive"):
        CorrectionConfig(appearance_rate=0.0)
    with pytest.raises(ValueError, match="number of views"):
        view_corrections.init(ALL, 0, WIDTH)


def _trained(corrections, sampler, data, run_key):
    """The state after a run, and the mean error of its last steps."""
    config = dataclasses.replace(TINY, corrections=corrections)
    shape = data.pixels.images.shape[:3]
    state = train_step.init_state(config, jax.random.key(0), sampler, image_shape=shape)
    step = train_step.make_train_step(config, sampler)
    errors = []
    for _ in range(config.num_steps):
        state, metrics = step(state, data, run_key)
        errors.append(float(metrics.mse))
    return state, np.mean(errors[-20:])


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
    fast = CorrectionConfig(colors=True, poses=True, color_rate=1.0, pose_rate=0.1)
    for corrections in (CorrectionConfig(), fast):
        state, last[corrections.is_used] = _trained(
            corrections, sampler, data._replace(pixels=wrong), run_key
        )
    assert last[True] < 0.85 * last[False]
    learned = state.params["views"]
    diagonal = np.einsum("vii->v", np.asarray(learned["colors"])[:, :, :3])
    assert np.corrcoef(diagonal, gains)[0, 1] > 0.8
    size = np.max(train.aabb[1] - train.aabb[0])
    moved = -size * np.asarray(learned["poses"])[:, :3]
    assert np.corrcoef(moved.ravel(), (shifts - shifts.mean(0)).ravel())[0, 1] > 0.4


def test_a_code_changes_the_colour_of_a_point_and_not_its_density():
    params = fields.init(TINY.field, jax.random.key(0))
    unit, directions = jax.random.uniform(jax.random.key(1), (2, 5, 3))
    plain = fields.evaluate(TINY.field, params, unit, directions)
    none = fields.evaluate(TINY.field, params, unit, directions, jnp.zeros((5, WIDTH)))
    np.testing.assert_array_equal(plain.color, none.color)
    bias = jax.random.normal(jax.random.key(2), (5, WIDTH))
    other = fields.evaluate(TINY.field, params, unit, directions, bias)
    np.testing.assert_array_equal(other.density, plain.density)
    assert np.abs(np.asarray(other.color - plain.color)).max() > 0.01
    # the rows of a bias are those of the points
    turned = fields.evaluate(TINY.field, params, unit[::-1], directions[::-1], bias[::-1])
    np.testing.assert_allclose(turned.color[::-1], other.color, atol=1e-6)


@pytest.mark.slow  # two compilations
def test_learns_what_changes_from_photograph_to_photograph(scene, data, sampler, run_key):
    # in half of the photographs reddish things turn blue and others stay as they are
    train = scene.train
    images = train.images.copy()
    lit = np.arange(train.num_views) % 2 == 0
    is_turned = lit[:, None, None] & (images[..., 0] > images[..., 2])
    images[is_turned, :3] = images[is_turned, 2::-1]
    wrong = posed_images.to_device(train._replace(images=images))
    last = {}
    for name in ("none", "appearance"):
        chosen = {} if name == "none" else {"appearance": True, "appearance_rate": 1.0}
        state, last[name] = _trained(
            CorrectionConfig(**chosen), sampler, data._replace(pixels=wrong), run_key
        )
    assert last["appearance"] < 0.85 * last["none"]
    codes = np.asarray(state.params["views"]["appearance"])
    apart = codes[lit].mean(0) - codes[~lit].mean(0)
    within = np.concatenate([codes[lit] - codes[lit].mean(0), codes[~lit] - codes[~lit].mean(0)])
    assert np.linalg.norm(apart) > 2 * np.sqrt(np.mean(np.sum(within**2, axis=1)))
