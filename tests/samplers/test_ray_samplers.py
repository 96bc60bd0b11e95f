"""What single ray samplers promise beyond the conformance table."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from samplers import (
    corrections,
    epochs,
    multi_scale,
    priors,
    ranked_pool,
    soft_mining,
    spatial,
    stratified,
)
from samplers.base import Feedback, uniform_index
from samplers.mixed import MixedConfig, shares
from samplers.pixels import PixelIndex, index_from_pixels
from samplers.registry import make_ray_sampler
from samplers.tiles import TileGrid
from tests.statistics import assert_frequencies, assert_mean_close, assert_uniform

SIZES = {"num_views": 2, "rows": 20, "cols": 28, "batch_size": 128}
PIXELS = 2 * 20 * 28


def train(name, loss_map, steps=60, **options):
    """Trains on a fixed loss per pixel; gives sampler, state and compiled functions."""
    sampler = make_ray_sampler(name, **SIZES, options={"warmup_steps": 5, **options})
    loss_map = jnp.asarray(loss_map, jnp.float32)

    def one(state, step):
        draw = sampler.sample(jax.random.fold_in(jax.random.key(0), step), state)
        return sampler.update(state, draw, Feedback(loss_map[tuple(draw.items)])), None

    def run():
        return jax.lax.scan(one, sampler.init(jax.random.key(0)), jnp.arange(steps))[0]

    return sampler, jax.jit(run)(), jax.jit(sampler.sample)


def hot_corner(level=20.0):
    loss = np.full((2, 20, 28), 1.0)
    loss[1, :8, :8] = level
    return loss


def test_uniform_indices_have_no_favourite_at_any_size():
    top = jnp.full(1, 0xFFFFFFFF, jnp.uint32)
    for size in (1, 2, 3, 1000, 2**24 + 1, 2**31 - 1):
        assert int(uniform_index(top, top, size)[0]) == size - 1
        assert int(uniform_index(jnp.zeros_like(top), top, size)[0]) == 0
    words = jax.random.bits(jax.random.key(0), (2, 2**18), jnp.uint32)
    size = 1_900_000_000
    found = np.asarray(uniform_index(words[0], words[1], size), np.float64)
    assert_uniform((found + 0.5) / size)
    assert np.mean(found == size - 1) < 1e-4  # a clipped hash puts several percent there
    exact = [int(a) * 2**32 + int(b) for a, b in zip(words[0, :50], words[1, :50], strict=True)]
    np.testing.assert_array_equal(found[:50], [v * size >> 64 for v in exact])


@pytest.mark.parametrize("num_items", [1, 2, 7, 256, 1000])
def test_an_epoch_visits_every_item_once_and_the_next_in_another_order(num_items):
    place = jnp.arange(num_items, dtype=jnp.int32)
    seed = jnp.asarray([1, 2], jnp.uint32)
    orders = [
        np.asarray(epochs.permute(place, seed, jnp.full(num_items, epoch, jnp.int32), num_items))
        for epoch in range(3)
    ]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), place)
    assert num_items < 7 or np.any(orders[0] != orders[1])


def test_batches_of_epochs_join_without_gaps():
    sampler = epochs.make(epochs.EpochsConfig(num_items=50, batch_size=16))
    state = sampler.init(jax.random.key(0))
    sample, update = jax.jit(sampler.sample), jax.jit(sampler.update)
    drawn = []
    for _ in range(25):
        draw = sample(jax.random.key(1), state)
        drawn.append(np.asarray(draw.items))
        state = update(state, draw, Feedback(jnp.ones(16)))
    counts = [np.bincount(part, minlength=50) for part in np.concatenate(drawn).reshape(8, 50)]
    assert np.all(np.asarray(counts) == 1)
    assert int(state.epoch) == 8
    assert int(state.position) == 0


def test_epoch_orders_look_random():
    keys = jax.vmap(jax.random.key)(jnp.arange(200))
    seeds = jax.vmap(lambda key: jax.random.bits(key, (2,), jnp.uint32))(keys)
    place, epoch = jnp.arange(16, dtype=jnp.int32), jnp.zeros(16, jnp.int32)
    first = jax.jit(jax.vmap(lambda seed: epochs.permute(place, seed, epoch, 4096)))(seeds)
    assert_uniform((np.asarray(first) + 0.5) / 4096)


def test_stratified_takes_one_pixel_from_each_equal_run():
    config = stratified.StratifiedConfig(**SIZES, tile=4)
    order = jnp.arange(PIXELS, dtype=jnp.int32)
    pixels = stratified.pixel_in_tile_order(order, 20, 28, 4)
    flat = np.asarray(index_from_pixels(pixels, 20, 28))
    np.testing.assert_array_equal(np.sort(flat), order)
    draw = stratified.make(config).sample(
        jax.random.key(0), stratified.init(config, jax.random.key(0))
    )
    place = np.argsort(flat)[np.asarray(index_from_pixels(draw.items, 20, 28))]
    assert np.all(np.diff(place) > 0)
    assert np.all(np.diff(place) < 2 * PIXELS / 128 + 2)


def test_tiles_cover_the_images_once():
    grid = TileGrid(num_views=2, rows=7, cols=10, tile=4)
    view, row, col = np.indices((2, 7, 10)).reshape(3, -1)
    tile = np.asarray(grid.tile_of(PixelIndex(*map(jnp.asarray, (view, row, col)))))
    np.testing.assert_array_equal(np.bincount(tile), grid.areas())
    values = np.random.default_rng(0).normal(size=(2, 7, 10)).astype(np.float32)
    means = np.asarray(grid.mean_inside(jnp.asarray(values))).reshape(-1)
    sums = np.bincount(tile, weights=values.ravel())
    np.testing.assert_allclose(means, sums / np.bincount(tile), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(grid.to_pixels(jnp.asarray(means)).ravel(), means[tile])
    words = jax.random.bits(jax.random.key(0), (3, 14000), jnp.uint32)
    anywhere = grid.any_pixel(words)
    counts = np.bincount(np.asarray(index_from_pixels(anywhere, 7, 10)), minlength=140)
    assert_frequencies(counts, np.full(140, 1 / 140))


@pytest.mark.parametrize("options", [{}, {"smoothing": True, "draw_method": "systematic"}])
def test_spatial_finds_the_hot_corner_above_an_exact_floor(options):
    sampler, state, _ = train("spatial", hot_corner(), **options)
    probs = np.asarray(sampler.probabilities(state))
    np.testing.assert_allclose(probs.sum(), 1.0, rtol=1e-5)
    assert probs.min() >= 0.25 / PIXELS * (1 - 1e-5)
    assert probs[1, :8, :8].mean() > 4 / PIXELS
    assert probs[0].mean() < 1 / PIXELS
    outside = probs[1, :8, 8:16].mean()
    assert outside > 1.1 * probs[0].mean() if "smoothing" in options else outside < 1 / PIXELS


def test_patches_are_whole_tiles():
    config = spatial.SpatialConfig(**{**SIZES, "tile": 4, "warmup_steps": 0, "patch": True})
    sampler = spatial.make(config)
    state = jax.jit(sampler.init)(jax.random.key(0))
    draw = jax.jit(sampler.sample)(jax.random.key(1), state)
    row, col = (np.asarray(part).reshape(-1, 4, 4) for part in draw.items[1:])
    assert row.shape[0] == 8
    assert np.all(row - row[:, :1, :1] == np.arange(4)[None, :, None])
    assert np.all(col - col[:, :1, :1] == np.arange(4)[None, None, :])
    assert np.all(row[:, 0, 0] % 4 == 0)
    np.testing.assert_allclose(draw.probs, 1 / PIXELS, rtol=1e-5)
    after = jax.jit(sampler.update)(state, draw, Feedback(jnp.ones(128)))
    assert float(after.mean.weight) > 0


def test_spatial_forgets_towards_average():
    sampler, state, _ = train("spatial", hot_corner(), tile=4)
    config = spatial.SpatialConfig(**{**SIZES, "tile": 4, "forget_steps": 3, "warmup_steps": 5})
    before = np.asarray(spatial.tile_scores(config, state))
    forgetful = spatial.make(config)
    update, draw = jax.jit(forgetful.update), forgetful.sample(jax.random.key(0), state)
    ignored = Feedback(jnp.ones(128), valid=jnp.zeros(128, bool))
    for _ in range(12):
        state = update(state, draw, ignored)
    after = np.asarray(spatial.tile_scores(config, state))
    keep = (after - 1) / (before - 1)
    assert np.all(np.abs(after - 1) <= np.abs(before - 1))
    assert keep.max() - keep.min() < 1e-3
    assert keep.max() < 0.05
    assert sampler.config.forget_steps is None


def test_a_tile_that_once_had_no_loss_is_average_again_when_nobody_has_looked_for_long():
    sampler = make_ray_sampler(
        "spatial",
        num_views=1,
        rows=8,
        cols=8,
        batch_size=64,
        options={"tile": 4, "decay": 0.0, "focus": 2.0, "forget_steps": 10, "warmup_steps": 0},
    )
    state = sampler.init(jax.random.key(0))
    for number in range(3):
        draw = sampler.sample(jax.random.key(number), state)
        is_dark = (draw.items.row < 4) & (draw.items.col < 4)
        state = sampler.update(state, draw, Feedback(value=jnp.where(is_dark, 0.0, 1.0)))
    before = np.asarray(spatial.tile_scores(sampler.config, state))[0]
    assert before[0, 0] < 0.2
    draw = sampler.sample(jax.random.key(9), state)
    nothing = Feedback(value=jnp.zeros(64), valid=jnp.zeros(64, bool))
    for _ in range(200):
        state = sampler.update(state, draw, nothing)
    np.testing.assert_allclose(spatial.tile_scores(sampler.config, state), 1.0, rtol=0.05)


def test_progressive_goes_from_uniform_to_focused():
    for steps, is_uniform in ((5, True), (60, False)):
        sampler, state, _ = train("progressive", hot_corner(), steps=steps, ramp_steps=40)
        spread = np.ptp(np.asarray(sampler.probabilities(state))) * PIXELS
        assert (spread < 1e-4) == is_uniform


def test_multi_scale_moves_from_coarse_to_fine():
    config = multi_scale.MultiScaleConfig(
        **SIZES, tile=4, num_scales=2, refine_steps=10, warmup_steps=0
    )
    first, last = (multi_scale.scale_shares(config, jnp.asarray(step)) for step in (0, 10))
    np.testing.assert_allclose(first, [0.05, 0.95], rtol=1e-5)
    np.testing.assert_allclose(last, [0.95, 0.05], rtol=1e-5)
    grid = config.grid
    view, row, col = (jnp.asarray(part.ravel()) for part in np.indices((2, 20, 28)))
    leaf = np.asarray(multi_scale.tile_number(config, PixelIndex(view, row, col)))
    blocks = leaf >> 4
    for block in np.unique(blocks):
        inside = blocks == block
        assert np.unique(np.asarray(row)[inside] // 16).size == 1
        assert np.unique(np.asarray(col)[inside] // 16).size == 1
    assert np.unique(leaf).size == grid.num_tiles


def test_multi_scale_finds_the_hot_corner():
    sampler, state, _ = train("multi_scale", hot_corner(), tile=4, refine_steps=20)
    probs = np.asarray(sampler.probabilities(state))
    assert probs[1, :8, :8].mean() > 3 / PIXELS
    assert probs.min() >= 0.25 / PIXELS * (1 - 1e-5)


def test_shares_of_mixed_follow_the_errors():
    options = {"tile": 4, "rank_frequency": 5, "adapt_rate": 0.1}
    focused, state, _ = train("mixed", hot_corner(200.0), **options)
    even, flat_state, _ = train("mixed", np.ones((2, 20, 28)), **options)
    concentrated = np.asarray(shares(focused.config, state))
    flat = np.asarray(shares(even.config, flat_state))
    np.testing.assert_allclose(concentrated.sum(), 1.0, rtol=1e-5)
    assert min(concentrated.min(), flat.min()) >= 0.1 - 1e-6
    assert concentrated[2] < flat[2]
    with pytest.raises(ValueError, match="min_share"):
        MixedConfig(**SIZES, min_share=0.5)


def test_top_k_pools_the_hardest_tiles_and_curriculum_the_easiest():
    options = {"tile": 4, "rank_frequency": 5, "first_fraction": 4 / 70.01, "uniform_fraction": 0.2}
    sampler, state, sample = train("top_k", hot_corner(), last_fraction=4 / 70.01, **options)
    probs = np.asarray(sampler.probabilities(state)) * PIXELS
    assert np.all(probs[1, :8, :8] > 5)
    np.testing.assert_allclose(probs[0], 0.2, rtol=1e-4)
    np.testing.assert_allclose(sample(jax.random.key(0), state).weights, 1.0)
    sampler, state, _ = train("curriculum", hot_corner(), grow_steps=10000, **options)
    probs = np.asarray(sampler.probabilities(state)) * PIXELS
    np.testing.assert_allclose(probs[1, :8, :8], 0.2, rtol=1e-4)
    fractions = [ranked_pool.pool_fraction(sampler.config, jnp.asarray(s)) for s in (5, 10005)]
    np.testing.assert_allclose(fractions, [4 / 70.01, 1.0], rtol=1e-5)


def test_priors_see_edges_changes_boundaries_and_rare_classes():
    images = np.zeros((3, 8, 8, 3), np.uint8)
    images[:, :, 4:] = 255
    edges = np.asarray(priors.edge_strength(jnp.asarray(images)))
    np.testing.assert_allclose(edges[:, :, 3:5], 0.5, atol=1e-5)
    np.testing.assert_allclose(edges[:, :, :3], 0.0, atol=1e-6)
    images[2, 2, 2] = 255
    change = np.asarray(priors.frame_change(jnp.asarray(images)))
    assert change[2, 2, 2] == pytest.approx(1.0, abs=1e-5)
    assert change.sum() == pytest.approx(1.0, abs=1e-4)
    labels = jnp.asarray(images[..., 0] // 255, jnp.int32)
    boundary = np.asarray(priors.label_boundaries(labels))
    assert np.all(boundary[:, :, 3:5] == 1)
    assert np.all(boundary[:2, :, :3] == 0)
    balance = np.asarray(priors.class_balance(labels, 4))
    totals = [balance[np.asarray(labels) == c].sum() for c in (0, 1)]
    np.testing.assert_allclose(totals[0], totals[1], rtol=1e-5)
    assert np.all(np.asarray(priors.class_balance(labels - 5, 4)) == 0)
    grey = priors.luminance(jnp.full((1, 2, 2, 1), 255, jnp.uint8))
    np.testing.assert_allclose(grey, 1.0)


def langevin_chain(settings, steps=3000):
    """Runs slots in a loss that rises linearly along u, with restarts off."""
    config = soft_mining.SoftMiningConfig(
        num_views=1, rows=64, cols=64, batch_size=256, restart_fraction=0.0,
        uniform_fraction=0.0, **settings,
    )  # fmt: skip
    sampler = soft_mining.make(config)
    images = jnp.zeros((1, 64, 64, 3), jnp.uint8)

    def one(state, step):
        draw = sampler.sample(jax.random.fold_in(jax.random.key(3), step), state)
        loss = 0.2 + draw.items.uv[:, 0]
        grad = jnp.stack([jnp.ones(256), jnp.zeros(256)], axis=1)
        state = sampler.update(state, draw, Feedback(loss, grad=grad))
        return state, jnp.mean(draw.items.uv[:, 0])

    start = sampler.init(jax.random.key(0), images)
    _, means = jax.jit(lambda s: jax.lax.scan(one, s, jnp.arange(steps)))(start)
    return np.asarray(means)[500:]


def test_the_corrected_chain_reaches_the_density_it_promises():
    # Density ∝ 0.2 + u on [0, 1] has mean (0.1 + 1/3) / 0.7 = 0.6190.
    means = langevin_chain({"concentration": 1.0, "noise_pixels": 3.0})
    assert_mean_close(means.reshape(25, 100).mean(axis=1), 0.6190, sigmas=6)


def test_the_released_chain_is_nearly_a_random_walk():
    config = soft_mining.SoftMiningConfig(
        num_views=100, rows=800, cols=800, batch_size=4100, is_released=True
    )
    np.testing.assert_allclose(soft_mining.stationary_exponent(config), 0.0305, rtol=2e-3)
    corrected = soft_mining.SoftMiningConfig(num_views=1, rows=8, cols=8, batch_size=4)
    assert soft_mining.stationary_exponent(corrected) == (1.0, 1.0)


def test_the_lowest_losses_respawn_on_edges():
    n, num_views, side = 8192, 2, 16
    config = soft_mining.SoftMiningConfig(
        num_views=num_views, rows=side, cols=side, batch_size=n,
        concentration=0.0, noise_pixels=0.0, restart_fraction=0.5, uniform_fraction=0.0,
    )  # fmt: skip
    sampler = soft_mining.make(config)
    images = np.zeros((num_views, side, side, 3), np.uint8)
    images[0, :, 5:] = 255  # one upright edge
    images[1, 9:] = 90  # one level edge, fainter
    state = sampler.init(jax.random.key(0), jnp.asarray(images))
    draw = sampler.sample(jax.random.key(1), state)
    losses = jnp.linspace(0.1, 1.0, n)
    state = sampler.update(state, draw, Feedback(losses, grad=jnp.zeros((n, 2))))
    again = sampler.sample(jax.random.key(2), state).items
    kept = np.asarray(losses > losses[n // 2])
    np.testing.assert_allclose(again.uv[kept], draw.items.uv[kept], atol=1e-6)
    np.testing.assert_array_equal(again.view[kept], draw.items.view[kept])
    strength = np.clip(np.asarray(priors.edge_strength(jnp.asarray(images))), 1e-5, 1.0)
    tiles = strength.reshape(num_views, 4, 4, 4, 4).mean(axis=(2, 4)).reshape(num_views, 16)
    expected = tiles / tiles.sum(axis=1, keepdims=True) / num_views
    col, row = np.asarray(again.uv)[~kept].T * 4
    found = np.zeros((num_views, 16))
    tile = np.minimum(row.astype(int), 3) * 4 + np.minimum(col.astype(int), 3)
    np.add.at(found, (np.asarray(again.view)[~kept], tile), 1)
    count = int((~kept).sum())
    spread = np.sqrt(count * expected * (1 - expected)) + 1
    assert np.all(np.abs(found - count * expected) < 5 * spread)
    assert found[0, [1, 5, 9, 13]].sum() > 0.45 * count  # nearly all of the first view's


def test_released_slots_stay_in_their_image_and_corrected_ones_move():
    images = jnp.asarray(np.random.default_rng(0).integers(0, 255, (4, 16, 16, 3)), jnp.uint8)
    stays = {}
    for is_released in (True, False):
        config = soft_mining.SoftMiningConfig(
            num_views=4, rows=16, cols=16, batch_size=64, is_released=is_released
        )
        sampler = soft_mining.make(config)
        state = sampler.init(jax.random.key(0), images)
        sample, update = jax.jit(sampler.sample), jax.jit(sampler.update)
        first = np.asarray(state.view)
        for step in range(10):
            draw = sample(jax.random.key(step), state)
            feedback = Feedback(jnp.linspace(0.1, 1, 64), grad=jnp.ones((64, 2)))
            state = update(state, draw, feedback)
        stays[is_released] = np.mean(np.asarray(state.view) == first)
        assert np.all((np.asarray(state.uv) >= 0) & (np.asarray(state.uv) <= 1))
    assert stays[True] == 1
    assert stays[False] < 0.7
    with pytest.raises(ValueError, match=r"needs Feedback\.grad"):
        sampler.update(state, draw, Feedback(jnp.ones(64)))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("spatial", {"uniform_fraction": 0.0}, "uniform_fraction"),
        ("spatial", {"prior": "edges"}, "prior"),
        ("spatial", {"tile": 0}, "tile"),
        ("spatial", {"patch": True, "tile": 8}, "patches of 8 x 8"),
        ("spatial", {"draw_method": "sobol"}, "draw_method"),
        ("spatial", {"forget_steps": 0}, "forget_steps"),
        ("spatial", {"prior": "change", "prior_fraction": 0.9}, "prior_fraction"),
        ("stratified", {"tile": 0}, "tile"),
        ("mixed", {"pool_fraction": 0.0}, "pool_fraction"),
        ("top_k", {"first_fraction": 0.0}, "first_fraction"),
        ("top_k", {"correction": 1.0, "uniform_fraction": 0.0}, "correction needs"),
        ("edges", {"kind": "corners"}, "kind must be"),
        ("edges", {"leaf_format": "int4"}, "leaf format"),
        ("multi_scale", {"num_scales": 0}, "num_scales"),
        ("soft_mining", {"softness": 2.0}, "softness"),
        ("error_map", {"decay": "0,9"}, "decay must be a number, got '0,9'"),
        ("error_map", {"tile": 8.5}, "tile must be a whole number, got 8.5"),
        ("error_map", {"smoothing": 1}, "smoothing must be true or false, got 1"),
        ("error_map", {"decay": None}, "decay must be a number, got None"),
        ("error_map", {"handback_from": "half"}, "handback_from must be a number or none"),
        ("edges", {"kind": 3}, "kind must be a word"),
    ],
)
def test_impossible_settings_are_refused(name, options, message):
    def attempt():
        sampler = make_ray_sampler(name, **SIZES, options=options)
        sampler.init(jax.random.key(0), jnp.zeros((2, 20, 28, 3), jnp.uint8))

    with pytest.raises(ValueError, match=message):
        attempt()


@pytest.mark.parametrize("name", ["edges", "temporal", "soft_mining"])
def test_images_of_another_size_are_refused(name):
    sampler = make_ray_sampler(name, **SIZES)
    with pytest.raises(ValueError, match="20, 28"):
        sampler.init(jax.random.key(0), jnp.zeros((2, 8, 8, 3), jnp.uint8))
    with pytest.raises(ValueError, match="at most num_items"):
        epochs.EpochsConfig(num_items=3, batch_size=4)
    with pytest.raises(ValueError, match="needs a slot"):
        soft_mining.SoftMiningConfig(num_views=5, rows=4, cols=4, batch_size=4, is_released=True)


def test_a_donated_train_step_copies_no_tile_weights():
    sampler = make_ray_sampler("spatial", num_views=16, rows=256, cols=256, batch_size=64)

    def step(state, key):
        draw = sampler.sample(key, state)
        return sampler.update(state, draw, Feedback(draw.probs)), draw.weights

    state = jax.eval_shape(sampler.init, jax.random.key(0))
    compiled = jax.jit(step, donate_argnums=0).lower(state, jax.random.key(0)).compile()
    blocks, fan = state.weights.leaves.shape
    sizes = (f"[{blocks * fan}]", f"[{blocks},{fan}]", f"[{state.weights.sums.shape[0]}]")
    lines = [line for line in compiled.as_text().splitlines() if " copy(" in line]
    assert not [line for line in lines if any(size in line for size in sizes)]


def test_soft_mining_weighs_by_the_errors_its_draw_meets():
    # E_q of w f tends to E_q of f / error as the exponent tends to 1: hard places count less
    config = soft_mining.SoftMiningConfig(
        num_views=1, rows=8, cols=8, batch_size=4, softness=0.8, softness_steps=100
    )
    sampler = soft_mining.make(config)
    state = sampler.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3), jnp.uint8))
    draw = sampler.sample(jax.random.key(1), state)
    errors = jnp.array([0.01, 0.02, 0.02, 0.04])
    np.testing.assert_allclose(sampler.reweigh(state, draw, errors), 1.0)  # the ramp starts at 0
    half = state._replace(step=jnp.int32(50))
    weights = sampler.reweigh(half, draw, errors)
    np.testing.assert_allclose(weights[1] / weights[3], 2**0.5, rtol=1e-5)
    late = sampler.reweigh(state._replace(step=jnp.int32(90)), draw, errors)
    np.testing.assert_allclose(late[1] / late[3], 2**0.8, rtol=1e-5)  # and stops at the softness
    np.testing.assert_allclose(jnp.mean(weights), 1.0, rtol=1e-6)
    released = soft_mining.make(dataclasses.replace(config, is_released=True))
    published = corrections.soft_mining_weights(errors, exponent=0.5)
    np.testing.assert_allclose(released.reweigh(half, draw, errors), published, rtol=1e-6)
