"""Images in metres: batching, sub-pixels, plans with room, and the gradient report."""

import dataclasses
import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scenes.cameras import make_cameras
from scenes.rotations import look_at
from voxels.block_map import exposed_faces, origin
from voxels.gradient_report import cell_visibility, gradient_report
from voxels.grid import InitialLogits, grid_from_map, harden, temper, uniform_grid
from voxels.palette import daylight, lit_colors, terrain_palette
from voxels.procedural import WorldConfig, make_world, orbit_cameras
from voxels.rendering.images import (
    RenderConfig,
    grid_rays,
    material_image,
    render,
    render_cells,
    render_views,
)
from voxels.rendering.planning import march_backend, plan, render_planned, round_up, seen_cells

WORLD = WorldConfig(shape=(8, 7, 6), scale=1.5)
CONFIG = RenderConfig(rows=20, cols=28, shape=WORLD.shape, scale=WORLD.scale)
CAMERAS = jax.tree.map(jnp.asarray, orbit_cameras(WORLD, 3, 20, 28))
LIT, SKY = lit_colors(terrain_palette(), daylight()), jnp.asarray(daylight().sky)


def world_parameters(occupancy=1.5):
    initial = InitialLogits(occupancy=occupancy)
    return temper(grid_from_map(make_world(WORLD, 0), initial), 1.0)


@functools.partial(jax.jit, static_argnums=0)
def draw(config, logits, probs, view):
    return render(config, logits, probs, LIT, SKY, CAMERAS, view)


def test_rays_are_those_of_the_scene_room_in_cell_units():
    from scenes.rays import view_rays

    rays = grid_rays(CONFIG, CAMERAS, 1)
    expected = view_rays(CAMERAS, 1, 20, 28)
    np.testing.assert_allclose(rays.directions, expected.directions, atol=1e-6)
    corner = np.array([-6.0, 0.0, -4.5])
    np.testing.assert_allclose(rays.eye * 1.5 + corner, expected.origins[0, 0], rtol=1e-5)
    bent = grid_rays(dataclasses.replace(CONFIG, has_distortion=True), CAMERAS, 1)
    np.testing.assert_allclose(bent.directions, rays.directions, atol=1e-6)


def test_views_in_a_batch_are_the_views_alone_on_every_kind_of_device():
    logits, probs = world_parameters()
    for device in ("cpu", "gpu"):
        config = dataclasses.replace(CONFIG, device=device)
        views = jnp.arange(3)
        program = jax.jit(functools.partial(render_views, config))
        batch = program(logits, probs, LIT, SKY, CAMERAS, views)
        for view in range(3):
            one = draw(CONFIG, logits, probs, view)
            np.testing.assert_allclose(batch.color[view], one.color, atol=2e-6)
            np.testing.assert_allclose(batch.normal[view], one.normal, atol=2e-5)


@pytest.mark.parametrize(
    "change", [{}, {"near": 2.0}, {"is_eye_cell_skipped": True}, {"alpha": "beer"}]
)
@pytest.mark.parametrize("is_inside", [True, False])
def test_walls_hide_what_they_hide_in_both_backends(change, is_inside):
    """Cells inside solid ground may be left out only where their walls are between them and the
    eye, and hide whatever crosses them."""
    logits = jnp.full((9, 9, 9), 20.0)
    kinds = jnp.eye(LIT.shape[0])
    probs = jnp.broadcast_to(kinds[0], (9, 9, 9, len(kinds))).at[4, 4, 4].set(kinds[3])
    if not is_inside:  # a plus, whose middle is walled in
        logits, arms = jnp.full((9, 9, 9), -20.0), np.eye(3, dtype=int)
        for offset in (np.zeros(3, int), *arms, *-arms):
            logits = logits.at[tuple(4 + offset)].set(20.0)
    place = np.array([0.3, 4.6, 0.2]) if is_inside else np.array([6.0, 8.0, 7.0])
    pose = look_at(place, np.array([0.0, 4.5, 0.0]), np.array([0.0, 1.0, 0.0]))
    cameras = make_cameras(pose[None], np.array([30.0, 30.0]), np.array([20.0, 16.0]))
    march = RenderConfig(rows=32, cols=40, shape=(9, 9, 9), **change)
    splat = dataclasses.replace(march, backend="splat", max_cells=729, max_pairs=8192)
    one, other = (render(config, logits, probs, LIT, SKY, cameras, 0) for config in (march, splat))
    assert int(other.overflow) == 0
    np.testing.assert_allclose(other.color, one.color, atol=2e-5)
    np.testing.assert_allclose(other.distance, one.distance, rtol=1e-4, atol=1e-4)


def test_sub_pixel_rays_average_to_the_pixel():
    logits, probs = world_parameters()
    fine = dataclasses.replace(CONFIG, samples=2)
    big = dataclasses.replace(CONFIG, rows=40, cols=56)
    doubled = CAMERAS._replace(focal=CAMERAS.focal * 2, principal=CAMERAS.principal * 2)
    image = draw(fine, logits, probs, 0)
    program = jax.jit(functools.partial(render, big))
    large = program(logits, probs, LIT, SKY, doubled, 0)
    averaged = np.asarray(large.color).reshape(20, 2, 28, 2, 3).mean((1, 3))
    np.testing.assert_allclose(image.color, averaged, atol=1e-6)


def test_nothing_there_shows_the_sky_at_infinity():
    logits = jnp.full(WORLD.shape, -1e4)
    image = draw(CONFIG, logits, jnp.full((*WORLD.shape, 7), 1 / 7), 0)
    np.testing.assert_allclose(image.color, np.broadcast_to(SKY, image.color.shape), atol=1e-6)
    assert np.isinf(image.distance).all()
    assert np.isinf(image.median).all()
    assert not np.asarray(image.normal).any()


def test_a_threshold_empties_cells_alike_in_both_backends():
    config = dataclasses.replace(CONFIG, threshold=0.2)
    logits, probs = world_parameters()
    logits = logits - 0.5 * jnp.linspace(0, 1, logits.size).reshape(logits.shape)
    cleared = jnp.where(jax.nn.sigmoid(logits) > 0.2, logits, -1e4)
    splat = dataclasses.replace(config, backend="splat", max_cells=400, max_pairs=4000)
    expected = draw(CONFIG, cleared, probs, 0)
    for chosen in (config, splat):
        image = draw(chosen, logits, probs, 0)
        assert int(image.overflow) == 0
        np.testing.assert_allclose(image.color, expected.color, atol=2e-6)


def test_what_does_not_fit_is_reported_and_drawn_again_with_room():
    logits, probs = world_parameters(30.0)
    small = dataclasses.replace(CONFIG, backend="splat", max_cells=64, max_pairs=64)
    reported = draw(small, logits, probs, 0)
    assert int(reported.overflow) > 0
    image, config = render_planned(small, logits, probs, LIT, SKY, CAMERAS, 0)
    assert int(image.overflow) == 0
    assert config.max_cells > 64
    np.testing.assert_allclose(image.color, draw(CONFIG, logits, probs, 0).color, atol=2e-6)


@pytest.mark.parametrize("is_skipped", [False, True])
def test_listed_blocks_show_what_the_whole_map_shows_also_from_inside_the_ground(is_skipped):
    config = dataclasses.replace(CONFIG, alpha="hard", is_eye_cell_skipped=is_skipped)
    block_map = make_world(WORLD, 0)
    buried = np.argwhere(
        (block_map.materials > 0) & ~exposed_faces(block_map.materials).any(axis=-1)
    )[0]
    inside = np.array(CAMERAS.camera_to_world)
    inside[0, :3, 3] = origin(WORLD.shape, WORLD.scale) + (buried + 0.4) * WORLD.scale
    cameras = CAMERAS._replace(camera_to_world=jnp.asarray(inside))
    flat = seen_cells(config, block_map, cameras, [0, 1])
    assert len(np.unique(flat[flat < block_map.materials.size])) < block_map.num_blocks
    logits, probs = harden(grid_from_map(block_map, InitialLogits(occupancy=5.0, material=20.0)))
    number = np.append(block_map.materials.reshape(-1), 0)[flat]
    listed = (
        jnp.asarray(flat),
        jnp.where(number > 0, 5.0, -5.0),
        jax.nn.one_hot(number - 1, len(block_map.names)),
    )
    for view in (0, 1):
        whole = render(config, logits, probs, LIT, SKY, cameras, view)
        image = render_cells(config, *listed, LIT, SKY, cameras, view)
        for name in ("color", "alpha", "distance", "normal"):
            np.testing.assert_array_equal(getattr(image, name), getattr(whole, name), name)
    with pytest.raises(ValueError, match="hard"):
        render_cells(CONFIG, *listed, LIT, SKY, cameras, 0)


def test_shares_and_visibility_are_right_where_splatting_would_find_no_room():
    logits, probs = world_parameters(30.0)
    small = dataclasses.replace(CONFIG, backend="splat", max_cells=64, max_pairs=64)
    for measure in (
        lambda config, logits: material_image(config, logits, probs, CAMERAS, 0),
        lambda config, logits: cell_visibility(config, logits, CAMERAS, 0),
    ):
        one, other = (
            jax.jit(functools.partial(measure, config))(logits) for config in (CONFIG, small)
        )
        assert float(one.max()) > 0.5
        np.testing.assert_allclose(other, one, atol=2e-6)


def test_a_gradient_report_says_what_found_no_room():
    grid = grid_from_map(make_world(WORLD, 0))
    small = dataclasses.replace(CONFIG, backend="splat", max_cells=64, max_pairs=64)
    report = jax.jit(functools.partial(gradient_report, small))(
        jax.random.key(0), grid, LIT, SKY, CAMERAS, 0
    )
    assert int(report.overflow) > 0
    assert not bool(report.is_differentiable)


def test_plans_march_through_fog_and_splat_few_cells():
    fog = jnp.zeros(WORLD.shape)
    march = "numba" if importlib.util.find_spec("numba") else "march"
    assert plan(CONFIG, fog, CAMERAS, [0, 1]).backend == march_backend() == march
    assert march_backend("gpu") == march_backend("tpu") == "march"
    lone = jnp.full(WORLD.shape, -1e4).at[3, 3, 3].set(9.0)
    large = dataclasses.replace(CONFIG, rows=160, cols=224, device="cpu")
    scaled = CAMERAS._replace(focal=CAMERAS.focal * 8, principal=CAMERAS.principal * 8)
    chosen = plan(large, lone, scaled, [0, 1, 2])
    assert chosen.backend == "splat"
    assert chosen.max_pairs < 500
    from_eye = dataclasses.replace(large, near=0.0)
    assert plan(from_eye, lone, scaled, [0, 1, 2]) == dataclasses.replace(from_eye, backend=march)
    hard = dataclasses.replace(CONFIG, alpha="hard")
    assert plan(hard, fog, CAMERAS, [0]) == hard
    on_gpu = dataclasses.replace(large, device="gpu")
    assert plan(on_gpu, lone, scaled, [0, 1, 2]).backend == "march"
    assert round_up(0) == 64


def test_visibility_sums_to_alpha():
    logits, probs = world_parameters()
    seen = jax.jit(functools.partial(cell_visibility, CONFIG))(logits, CAMERAS, 0)
    np.testing.assert_allclose(seen.sum(), draw(CONFIG, logits, probs, 0).alpha.sum(), rtol=1e-5)
    assert float(seen.min()) >= 0


def test_gradients_of_a_soft_world_are_healthy_and_of_an_empty_one_are_not():
    report = jax.jit(
        lambda grid: gradient_report(CONFIG, jax.random.key(0), grid, LIT, SKY, CAMERAS, 0)
    )
    healthy = report(grid_from_map(make_world(WORLD, 0)))
    assert bool(healthy.is_differentiable)
    assert int(healthy.overflow) == 0
    assert float(healthy.material_coverage) > 0.99
    assert float(healthy.agreement_error) < 0.02
    assert 0.9 < float(healthy.score) <= 1.0
    share, norm = float(healthy.legacy_block_share), float(healthy.legacy_norm)
    size = min(1.0, norm / 100) if norm < 100 else max(0.0, 1 - (norm - 100) / 1000)
    np.testing.assert_allclose(healthy.gradient_health_score, 0.5 * share + 0.5 * size, rtol=1e-4)
    assert float(healthy.agreement_error) == max(
        float(healthy.occupancy_agreement_error), float(healthy.material_agreement_error)
    )
    fog = report(uniform_grid(WORLD.shape, 7, occupancy_logit=-2.0))
    assert float(fog.legacy_block_share) > 0.99
    broken = report(uniform_grid(WORLD.shape, 7, occupancy_logit=float("nan")))
    assert int(broken.num_nan) > 0
    assert float(broken.score) == 0.0
    empty = report(uniform_grid(WORLD.shape, 7, occupancy_logit=-1e4))
    assert not bool(empty.is_differentiable)
    assert float(empty.gradient_health_score) == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 0}, "positive"),
        ({"scale": 0.0}, "scale"),
        ({"threshold": 0.9}, "threshold"),
        ({"backend": "splat"}, "max_cells"),
        ({"backend": "splat", "near": 0.0}, "near > 0"),
        ({"backend": "splat", "has_distortion": True}, "pinhole"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)


@pytest.mark.parametrize(("field", "word"), [("backend", "foo"), ("device", "cuda")])
def test_words_that_are_no_backend_or_device_are_refused(field, word):
    config = dataclasses.replace(CONFIG)
    object.__setattr__(config, field, word)  # past the tests' check of types, which users lack
    with pytest.raises(ValueError, match=f'{field} is .*got "{word}"'):
        config.__post_init__()


def test_a_grid_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="config is for"):
        draw(CONFIG, jnp.zeros((2, 2, 2)), jnp.zeros((2, 2, 2, 7)), 0)
