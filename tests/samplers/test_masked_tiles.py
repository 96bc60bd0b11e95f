"""Tiles with a mask: counting, drawing inside, and the samplers' probabilities on what is left."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from samplers import epochs, masked_tiles, soft_mining, spatial, stratified
from samplers.base import Feedback, check_mask
from samplers.masked_tiles import MaskedTiles
from samplers.pixels import index_from_pixels, pixel_indices
from samplers.registry import make_ray_sampler
from samplers.resampling import check_state, resample_state
from samplers.tiles import TileGrid
from tests.precision import count_products
from tests.samplers.family import compiled
from tests.statistics import assert_frequencies

GRID = TileGrid(num_views=2, rows=10, cols=13, tile=4)
SIZES = {"num_views": 2, "rows": 10, "cols": 13, "batch_size": 256}


def some_mask():
    mask = np.random.default_rng(0).random((2, 10, 13)) < 0.4
    mask[0, :4, :8] = False
    mask[1, 8:, 12:] = True
    return mask


@pytest.fixture(scope="module")
def tiles():
    return MaskedTiles(GRID, masked_tiles.allow(GRID, jnp.asarray(some_mask())))


def test_area_counts_the_allowed_pixels(tiles):
    mask = some_mask()
    view, row, col = np.nonzero(mask)
    number = (view * GRID.tile_rows + row // 4) * GRID.tile_cols + col // 4
    count = np.bincount(number, minlength=GRID.num_tiles)
    np.testing.assert_array_equal(tiles.areas(), count)
    np.testing.assert_array_equal(tiles.area(jnp.arange(GRID.num_tiles)), count)
    assert int(tiles.num_pixels) == mask.sum()
    np.testing.assert_array_equal(tiles.to_pixels(jnp.ones(GRID.num_tiles)), mask)


def test_patches_with_a_prior_leave_out_tiles_that_a_mask_cuts():
    """The prior once knew single pixels where patches know whole tiles."""
    images = np.random.default_rng(1).integers(0, 256, (1, 8, 8, 3)).astype(np.uint8)
    mask = np.ones((1, 8, 8), bool)
    mask[0, 0, 0] = False
    options = {"tile": 4, "patch": True, "prior": "edges", "prior_fraction": 0.5, "warmup_steps": 0}
    sampler = make_ray_sampler(
        "spatial", num_views=1, rows=8, cols=8, batch_size=512, options=options
    )
    state = sampler.init(jax.random.key(0), jnp.asarray(images), mask=jnp.asarray(mask))
    probs = np.asarray(sampler.probabilities(state))
    np.testing.assert_allclose(probs.sum(), 1.0, rtol=1e-5)
    assert np.all(probs[0, :4, :4] == 0)
    draw = sampler.sample(jax.random.key(1), state)
    assert np.all((np.asarray(draw.items.row) >= 4) | (np.asarray(draw.items.col) >= 4))


def test_masks_hold_true_and_false():
    """Bytes of a picture, 0 and 255, would count each pixel 255 times."""
    with pytest.raises(ValueError, match="true and false, got uint8"):
        check_mask(jnp.full((2, 10, 13), 255, jnp.uint8), 260)


@pytest.mark.parametrize("name", ["spatial", "multi_scale", "mixed", "top_k"])
def test_tiles_may_hold_more_pixels_than_an_int32_counts(name):
    sizes = {"num_views": 600, "rows": 2048, "cols": 2048, "batch_size": 64}
    options = {"tile": 128, "warmup_steps": 0}
    sampler = make_ray_sampler(name, **sizes, options=options)
    state = jax.jit(sampler.init)(jax.random.key(0))
    draw = jax.jit(sampler.sample)(jax.random.key(1), state)
    assert np.all(np.asarray(draw.items.view) < 600)
    if name != "top_k":
        np.testing.assert_allclose(draw.probs, 1 / (600 * 2048**2), rtol=1e-3)
        np.testing.assert_allclose(draw.weights, 1.0, rtol=1e-3)


def test_pixels_inside_are_the_allowed_ones_and_equally_likely(tiles):
    mask = some_mask()
    tile = jnp.repeat(jnp.flatnonzero(tiles.areas() > 0), 400)
    words = jax.random.bits(jax.random.key(1), (2, tile.size), jnp.uint32)
    pixels = tiles.pixel_inside(tile, words)
    np.testing.assert_array_equal(GRID.tile_of(pixels), tile)
    flat = np.asarray(index_from_pixels(pixels, 10, 13))
    counts = np.bincount(flat, minlength=mask.size)
    assert np.all(mask.reshape(-1)[flat])
    number = np.asarray(GRID.to_pixels(jnp.arange(GRID.num_tiles, dtype=jnp.float32)))
    number = number.reshape(-1).astype(int)
    per_tile = np.maximum(np.asarray(tiles.areas())[number], 1)
    probs = mask.reshape(-1) / per_tile
    assert_frequencies(counts, probs / probs.sum())


def test_accelerators_count_pixels_in_full_float32(tiles):
    tile, words = jnp.arange(4), jnp.zeros((2, 4), jnp.uint32)
    count, inexact = count_products(tiles.pixel_inside, tile, words)
    assert (count > 0, inexact) == (True, 0)


def test_any_tile_comes_as_often_as_it_has_pixels(tiles):
    words = jax.random.bits(jax.random.key(2), (6, 20000), jnp.uint32)
    tile = tiles.any_tile(words[:3], words[3:])
    areas = np.asarray(tiles.areas())
    assert_frequencies(np.bincount(np.asarray(tile), minlength=areas.size), areas / areas.sum())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("spatial", {"smoothing": True}),
        ("spatial", {"focus": 2.0, "forget_steps": 4}),
        ("mixed", {"rank_frequency": 3}),
        ("multi_scale", {"num_scales": 1}),
        ("multi_scale", {"num_scales": 2, "refine_steps": 20}),
        ("multi_scale", {"tile": 1, "num_scales": 3, "refine_steps": 20}),
        ("top_k", {"first_fraction": 0.3, "last_fraction": 0.3, "rank_frequency": 3}),
    ],
)
def test_probabilities_are_those_of_the_draws(name, options):
    mask = some_mask()
    options = {"tile": 4, "warmup_steps": 2, **options}
    sampler = compiled(make_ray_sampler(name, **SIZES, options=options))
    state = sampler.init(jax.random.key(0), mask=jnp.asarray(mask))
    loss = np.random.default_rng(1).uniform(0.1, 3.0, mask.shape).astype(np.float32)
    for seed in range(12):
        draw = sampler.sample(jax.random.key(seed), state)
        state = sampler.update(state, draw, Feedback(jnp.asarray(loss[tuple(draw.items)])))
    probs = np.asarray(sampler.probabilities(state), np.float64)
    np.testing.assert_allclose(probs.sum(), 1.0, rtol=1e-5)
    assert np.all((probs > 0) == mask)
    counts = np.zeros(mask.size)
    for seed in range(100, 180):
        draw = sampler.sample(jax.random.key(seed), state)
        flat = np.asarray(index_from_pixels(draw.items, 10, 13))
        np.testing.assert_allclose(draw.probs, probs.reshape(-1)[flat], rtol=1e-4)
        counts += np.bincount(flat, minlength=mask.size)
    assert_frequencies(counts, probs.reshape(-1))


def test_a_mask_of_ones_changes_no_probability():
    loss = np.random.default_rng(1).uniform(0.1, 3.0, (2, 10, 13)).astype(np.float32)
    sampler = compiled(spatial.make(spatial.SpatialConfig(**SIZES, tile=4, warmup_steps=0)))
    found = []
    for mask in (None, jnp.ones((2, 10, 13), bool)):
        state = sampler.init(jax.random.key(0), mask=mask)
        draw = sampler.sample(jax.random.key(1), sampler.init(jax.random.key(0)))
        state = sampler.update(state, draw, Feedback(jnp.asarray(loss[tuple(draw.items)])))
        found.append(sampler.probabilities(state))
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_patches_are_tiles_that_a_mask_allows_as_a_whole():
    config = spatial.SpatialConfig(num_views=2, rows=8, cols=12, batch_size=64, tile=4, patch=True)
    sampler = compiled(spatial.make(config))
    mask = np.ones((2, 8, 12), bool)
    mask[0, 3, 5] = mask[1, :4] = False
    state = sampler.init(jax.random.key(0), mask=jnp.asarray(mask))
    whole = mask.reshape(2, 2, 4, 3, 4).all(axis=(2, 4)).repeat(4, axis=1).repeat(4, axis=2)
    for seed in range(20):
        draw = sampler.sample(jax.random.key(seed), state)
        flat = np.asarray(index_from_pixels(draw.items, 8, 12))
        assert whole.reshape(-1)[flat].all()
        state = sampler.update(state, draw, Feedback(jnp.asarray(flat % 7, jnp.float32)))
    probs = np.asarray(sampler.probabilities(state))
    assert np.all((probs > 0) == whole)
    np.testing.assert_allclose(probs.sum(), 1.0, rtol=1e-5)
    with pytest.raises(ValueError, match="no whole tile of 4 x 4"):
        spatial.make(config).init(
            jax.random.key(0), mask=jnp.asarray(mask & (np.indices((8, 12))[1] % 4 > 0))
        )


@pytest.mark.parametrize("batch_size", [7, 100, 300])
def test_stratified_cuts_the_allowed_pixels_into_runs(batch_size):
    mask = some_mask()
    config = stratified.StratifiedConfig(
        num_views=2, rows=10, cols=13, batch_size=min(batch_size, 260), tile=4
    )
    sampler = compiled(stratified.make(config))
    state = sampler.init(jax.random.key(0), mask=jnp.asarray(mask))
    rank = np.full(mask.size, -1)
    rank[np.asarray(state.order)[: mask.sum()]] = np.arange(mask.sum())
    probs = np.asarray(sampler.probabilities(state), np.float64)
    assert np.all((probs > 0) == mask.reshape(-1))
    np.testing.assert_allclose(probs.sum(), 1.0, rtol=1e-5)
    edges = np.arange(config.batch_size + 1) * mask.sum() / config.batch_size
    for seed in range(20):
        draw = sampler.sample(jax.random.key(seed), state)
        flat = np.asarray(index_from_pixels(draw.items, 10, 13))
        np.testing.assert_allclose(draw.probs, probs[flat], rtol=1e-5)
        np.testing.assert_allclose(draw.weights, 1 / (mask.sum() * probs[flat]), rtol=1e-5)
        drawn = rank[flat]
        assert np.all(drawn >= 0)
        if config.batch_size <= mask.sum():  # one in each run, the longer runs first
            assert np.all(np.diff(drawn) > 0)
            assert np.all(np.abs(drawn - edges[:-1]) < 2 * mask.sum() / config.batch_size + 1)
        else:
            assert set(drawn) == set(range(mask.sum()))


def test_a_prior_that_sees_nothing_is_the_area():
    config = spatial.SpatialConfig(
        **SIZES, tile=4, warmup_steps=0, prior="edges", prior_fraction=0.5
    )
    sampler = compiled(spatial.make(config))
    mask = some_mask()
    flat = jnp.full((2, 10, 13, 3), 128, jnp.uint8)
    for allowed in (np.ones_like(mask), mask):
        state = sampler.init(jax.random.key(0), flat, mask=jnp.asarray(allowed))
        probs = np.asarray(sampler.probabilities(state))
        np.testing.assert_allclose(probs, allowed / allowed.sum(), rtol=1e-5)
        draw = sampler.sample(jax.random.key(1), state)
        assert len(np.unique(np.asarray(GRID.tile_of(draw.items)))) > GRID.num_tiles / 3


def test_a_masked_state_needs_the_mask_of_the_new_size():
    sampler = spatial.make(spatial.SpatialConfig(**SIZES, tile=4))
    state = sampler.init(jax.random.key(0), mask=jnp.asarray(some_mask()))
    with pytest.raises(ValueError, match="give the mask of the new size"):
        resample_state(sampler, state, sampler)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("spatial", {"focus": 2.0}),
        ("temporal", {}),
        ("mixed", {}),
        ("multi_scale", {"refine_steps": 0}),
        ("top_k", {"rank_frequency": 1, "first_fraction": 0.4, "last_fraction": 0.4}),
        ("error_weighted", {}),
    ],
)
def test_scores_are_carried_over_under_a_mask(name, options):
    shapes = {"old_shape": (2, 10, 13), "new_shape": (2, 20, 26)}
    tile = {} if name == "error_weighted" else {"tile": 4}
    old, new = (
        make_ray_sampler(
            name,
            num_views=2,
            rows=rows,
            cols=cols,
            batch_size=300,
            options=options | tile | {"warmup_steps": 0, "decay": 0.0},
        )
        for _, rows, cols in shapes.values()
    )
    mask = some_mask()
    large = mask.repeat(2, axis=1).repeat(2, axis=2)
    images = np.random.default_rng(0).integers(0, 256, (2, 10, 13, 3)).astype(np.uint8)
    data = [jnp.asarray(images)] if name == "temporal" else []
    new_data = [jnp.asarray(images.repeat(2, axis=1).repeat(2, axis=2))] if data else []
    state = old.init(jax.random.key(0), *data, mask=jnp.asarray(mask))
    sample, update = jax.jit(old.sample), jax.jit(old.update)
    for seed in range(8):
        draw = sample(jax.random.key(seed), state)
        left = pixel_indices(draw.items, 10, 13).col < 6
        state = update(state, draw, Feedback(jnp.where(left, 5.0, 0.5)))
    carried = resample_state(old, state, new, data=new_data, mask=jnp.asarray(large), **shapes)
    fresh = jax.eval_shape(
        lambda: new.init(jax.random.key(0), *new_data, mask=jnp.ones_like(large))
    )
    check_state(fresh, carried)
    assert int(carried.step) == 8
    probs = np.asarray(new.probabilities(carried)).reshape(2, 20, 26)
    np.testing.assert_array_equal(probs[~large], 0.0)
    np.testing.assert_allclose(probs.sum(), 1.0, rtol=1e-5)
    hard, easy = (
        probs[:, :, part][large[:, :, part]].mean() for part in (slice(0, 8), slice(20, 26))
    )
    assert hard > 1.5 * easy
    new.update(carried, new.sample(jax.random.key(1), carried), Feedback(jnp.ones(300)))


@pytest.mark.parametrize("batch_size", [7, 60])
def test_an_epoch_is_every_allowed_item_once(batch_size):
    mask = np.arange(50) % 3 == 0
    sampler = epochs.make(epochs.EpochsConfig(num_items=50, batch_size=min(batch_size, 50)))
    sampler = compiled(sampler)
    state = sampler.init(jax.random.key(0), mask=jnp.asarray(mask))
    drawn = []
    while len(drawn) < 170:
        draw = sampler.sample(jax.random.key(1), state)
        drawn += np.asarray(draw.items).tolist()
        state = sampler.update(state, draw, Feedback(jnp.ones(len(draw.items))))
        assert (int(state.epoch), int(state.position)) == divmod(len(drawn), 17)
    for part in np.asarray(drawn[:170]).reshape(10, 17):
        np.testing.assert_array_equal(np.sort(part), np.flatnonzero(mask))


def test_uniform_slots_of_soft_mining_are_uniform_over_what_is_allowed():
    mask = some_mask()
    config = soft_mining.SoftMiningConfig(**SIZES | {"batch_size": 500}, uniform_fraction=1.0)
    sampler = soft_mining.make(config)
    images = jnp.zeros((2, 10, 13, 3), jnp.uint8)
    state = sampler.init(jax.random.key(0), images, mask=jnp.asarray(mask))
    sample, counts = jax.jit(sampler.sample), np.zeros(mask.size)
    for seed in range(40):
        items = pixel_indices(sample(jax.random.key(seed), state).items, 10, 13)
        counts += np.bincount(index_from_pixels(items, 10, 13), minlength=mask.size)
    assert_frequencies(counts, mask.reshape(-1) / mask.sum())
