"""Compact leaves, masks, stratified draws, sweeps and draws without replacement."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import samplers
from samplers import codecs, draws, pyramid, pyramid_write, without_replacement
from tests import oracles, strategies
from tests.statistics import assert_frequencies, assert_mean_close, assert_uniform

N = 300
WEIGHTS = np.random.default_rng(0).lognormal(size=N).astype(np.float32)


@functools.cache
def compiled_draw(n, method="multinomial", has_prior=False):
    def draw(key, tree, share, prior):
        return pyramid.draw(
            key, tree, n, uniform_fraction=share, method=method, prior=prior if has_prior else None
        )

    return jax.jit(draw)


@pytest.mark.parametrize(("leaf_format", "step"), [("bfloat16", 2**-8), ("uint8", 0.05)])
@given(weights=strategies.positive(16))
def test_compact_leaves_are_close_and_zero_stays_zero(leaf_format, step, weights):
    dtype = codecs.leaf_dtype(leaf_format)
    weights = np.append(weights, 0).astype(np.float32)
    stored = codecs.decode(codecs.encode(jnp.asarray(weights), dtype))
    np.testing.assert_allclose(stored, weights, rtol=step)
    assert stored[-1] == 0
    again = codecs.encode(stored, dtype)
    np.testing.assert_array_equal(codecs.decode(again), stored)


@pytest.mark.parametrize("leaf_format", ["bfloat16", "uint8"])
@pytest.mark.parametrize("is_swept", [False, True])
def test_averages_in_compact_leaves_do_not_stall(leaf_format, is_swept):
    """A value that was rounded back once was rounded back for ever."""
    tree = pyramid.build(jnp.full(64, 2.0), leaf_format=leaf_format)
    index = jnp.arange(64, dtype=jnp.int32)

    def towards_one(old, _):
        return 0.99 * old + 0.01

    def step(carry, _):
        tree, position = carry
        if is_swept:
            return pyramid_write.sweep(tree, position, 64, towards_one), None
        return (
            pyramid_write.write(tree, index, jnp.ones(64), blend_fn=towards_one),
            position,
        ), None

    start = (tree, jnp.zeros((), jnp.int32))
    (tree, _), _ = jax.jit(lambda start: jax.lax.scan(step, start, length=1500))(start)
    np.testing.assert_allclose(np.mean(pyramid.leaf_weights(tree, 64)), 1.0, atol=0.03)


@pytest.mark.parametrize("leaf_format", ["bfloat16", "uint8"])
def test_stochastic_rounding_is_right_on_average(leaf_format):
    dtype = codecs.leaf_dtype(leaf_format)
    index = jnp.arange(20000, dtype=jnp.int32)
    stored = codecs.decode(codecs.encode(jnp.full(20000, 1.03), dtype, index))
    assert len(np.unique(stored)) == 2
    assert_mean_close(stored, 1.03)
    with pytest.raises(ValueError, match="leaf format"):
        codecs.leaf_dtype("int4")


@pytest.mark.parametrize("leaf_format", ["bfloat16", "uint8"])
def test_compact_pyramids_draw_by_what_they_store_and_write_like_float32(leaf_format):
    tree = pyramid.build(jnp.asarray(WEIGHTS), leaf_format=leaf_format)
    stored = np.asarray(pyramid.leaf_weights(tree, N), np.float64)
    items, probs = compiled_draw(2**15)(jax.random.key(1), tree, 0.1, tree)
    expected = oracles.mixture(stored, 0.1)
    assert_frequencies(np.bincount(items, minlength=N), expected)
    np.testing.assert_allclose(probs, expected[np.asarray(items)], rtol=1e-5)
    rng = np.random.default_rng(2)
    index = rng.integers(0, 40, 64).astype(np.int32)
    value = rng.uniform(0.5, 2.0, 64).astype(np.float32)
    after = jax.jit(pyramid_write.write)(tree, index, value)
    wanted = oracles.write_leaves(stored, index, value, np.ones(64, bool), "mean")
    found = np.asarray(pyramid.leaf_weights(after, N))
    np.testing.assert_allclose(found, wanted, rtol=0.1)
    np.testing.assert_array_equal(found[40:], stored[40:])
    np.testing.assert_allclose(pyramid.total(after), found.astype(np.float64).sum(), rtol=1e-6)


@given(index=strategies.indices(48, 16), stride=st.sampled_from([1, 3, 2**12, 2**16]))
def test_compact_writes_find_all_rows_of_an_item_however_the_items_lie(index, stride):
    num_items = 15 * 2**16 + 1
    after = compiled_counts(num_items)(jnp.asarray(index * stride, jnp.int32))
    counts = np.bincount(index * stride, minlength=num_items)
    np.testing.assert_array_equal(after, counts)


@functools.cache
def compiled_counts(num_items):
    def counts(index):
        tree = pyramid.build(jnp.zeros(num_items), leaf_format="bfloat16")
        ones = jnp.ones(index.shape)
        tree = pyramid_write.write(tree, index, ones, duplicates="sum")
        return pyramid.leaf_weights(tree, num_items)

    return jax.jit(counts)


@pytest.mark.parametrize("method", ["stratified", "systematic"])
def test_even_draws_have_the_same_expected_counts_and_spread_less(method):
    tree = pyramid.build(jnp.asarray(WEIGHTS))
    counts = np.zeros(N)
    spread = []
    for seed in range(150):
        items, _ = compiled_draw(256, method)(jax.random.key(seed), tree, 0.0, tree)
        counts += np.bincount(items, minlength=N)
        spread.append(np.sum(np.asarray(items) < 160))
    expected = WEIGHTS / WEIGHTS.sum()
    error = np.sqrt(256 * 150 * expected) + 1e-9
    assert np.max(np.abs(counts - 256 * 150 * expected) / error) < 6
    assert np.ptp(spread) <= 12  # multinomial: about 45


@pytest.mark.parametrize("method", ["stratified", "systematic"])
def test_even_draws_with_a_uniform_share_and_a_mask_follow_the_mixture(method):
    mask = np.arange(N) % 3 != 0
    prior = pyramid.build(jnp.asarray(mask, jnp.float32), leaf_format="uint8")
    tree = pyramid.build(jnp.asarray(WEIGHTS * mask))
    for has_prior, flat in ((True, mask / mask.sum()), (False, np.full(N, 1 / N))):
        expected = 0.7 * (WEIGHTS * mask) / (WEIGHTS * mask).sum() + 0.3 * flat
        draw = compiled_draw(2**13, method, has_prior)
        counts = np.zeros(N)
        for seed in range(8):
            items, probs = draw(jax.random.key(seed), tree, 0.3, prior)
            counts += np.bincount(items, minlength=N)
            np.testing.assert_allclose(probs, expected[np.asarray(items)], rtol=1e-5)
        assert not has_prior or not counts[~mask].any()
        error = np.sqrt(8 * 2**13 * expected) + 1e-9
        assert np.max(np.abs(counts - 8 * 2**13 * expected) / error) < 5


@pytest.mark.parametrize("method", ["stratified", "systematic"])
def test_even_draws_from_a_large_set_have_no_favourite_residues(method):
    size = 2**24
    tree = jax.jit(lambda: pyramid.build(jnp.where(jnp.arange(size) < size // 2, 2.0, 1.0)))()
    items = np.asarray(compiled_draw(2**18, method)(jax.random.key(4), tree, 0.0, tree)[0])
    for classes in (8, 64, 1024):
        assert_frequencies(np.bincount(items % classes, minlength=classes), np.full(classes, 1.0))
    assert abs(np.sum(items < size // 2) - 2**18 * 2 / 3) < 2


@given(key=strategies.keys())
def test_systematic_words_hit_every_interval_once(key):
    words = jax.random.bits(key, (12,), jnp.uint32)
    for method in ("stratified", "systematic"):
        spread = np.asarray(pyramid.spread_words(words, method), np.float64) / 2**32
        np.testing.assert_array_equal(np.floor(spread * 12), np.arange(12))
    with pytest.raises(ValueError, match="method"):
        pyramid.spread_words(words, "sobol")


def test_masked_items_are_never_drawn_even_by_the_uniform_share():
    mask = np.arange(N) % 3 != 0
    prior = pyramid.build(jnp.asarray(mask, jnp.float32), leaf_format="uint8")
    for weights in (WEIGHTS * mask, np.zeros(N, np.float32)):
        tree = pyramid.build(jnp.asarray(weights))
        draw = compiled_draw(2**14, "multinomial", True)
        items, probs = draw(jax.random.key(2), tree, 0.5, prior)
        flat = mask / mask.sum()
        share = weights / weights.sum() if weights.sum() else flat
        expected = 0.5 * share + 0.5 * flat
        assert_frequencies(np.bincount(items, minlength=N), expected)
        np.testing.assert_allclose(probs, expected[np.asarray(items)], rtol=1e-5)


@pytest.mark.parametrize("size", [5, 37, 300, 1500])
def test_a_full_sweep_changes_every_leaf_once(size):
    weights = np.random.default_rng(1).uniform(0.5, 2.0, size).astype(np.float32)
    weights[1] = 0.0
    tree = pyramid.build(jnp.asarray(weights), fan_out=4)
    blocks = tree.leaves.shape[0]
    part = max(1, blocks // 3)
    sweep = jax.jit(
        lambda tree, at: pyramid_write.sweep(tree, at, part, lambda old, item: old + 1.0 + item)
    )
    position, calls = jnp.zeros((), jnp.int32), 0
    while True:
        tree, position = sweep(tree, position)
        calls += 1
        if int(position) == 0:
            break
    assert calls == -(-blocks // part)
    expected = np.where(weights > 0, weights + 1.0 + np.arange(size), 0.0)
    np.testing.assert_allclose(pyramid.leaf_weights(tree, size), expected, rtol=1e-6)
    rebuilt = pyramid.build(jnp.asarray(expected, jnp.float32), fan_out=4)
    np.testing.assert_allclose(tree.sums, rebuilt.sums, rtol=1e-5)


@pytest.mark.parametrize("leaf_format", ["float32", "bfloat16", "uint8"])
@pytest.mark.parametrize("size", [3, 37, 1500])
def test_maxima_stay_exact_through_writes_that_raise_and_lower_the_largest(size, leaf_format):
    rng = np.random.default_rng(4)
    build = functools.partial(pyramid.build, fan_out=4, leaf_format=leaf_format)
    tree = build(jnp.asarray(rng.uniform(0.5, 2.0, size).astype(np.float32)), has_maxima=True)
    write = jax.jit(pyramid_write.write)
    for step in range(8):
        index = rng.integers(size, size=16).astype(np.int32)
        value = rng.uniform(0.5, 2.0, 16).astype(np.float32) * (4.0 if step % 2 else 0.25)
        index[0] = int(np.argmax(pyramid.leaf_weights(tree, size)))  # the largest is overwritten
        tree = write(tree, jnp.asarray(index), jnp.asarray(value))
        leaves = np.asarray(pyramid.leaf_weights(tree, size))
        np.testing.assert_allclose(pyramid.max_weight(tree), leaves.max(), rtol=1e-6)
        without = pyramid.build(jnp.asarray(leaves), fan_out=4, has_maxima=True)
        np.testing.assert_allclose(tree.maxima, without.maxima, rtol=1e-6)
        np.testing.assert_allclose(tree.sums, without.sums, rtol=1e-5)


@given(weights=strategies.weights(37), index=strategies.indices(16, 37), value=strategies.nasty(16))
def test_the_largest_weight_is_that_of_all_leaves_whatever_is_written(weights, index, value):
    with_maxima, without = (
        compiled_write_and_max(has)(jnp.asarray(weights), jnp.asarray(index), jnp.asarray(value))
        for has in (True, False)
    )
    jax.tree.map(np.testing.assert_array_equal, with_maxima[1:], without[1:])
    assert float(with_maxima[0]) == float(without[0]) == float(np.max(without[1]))


@functools.cache
def compiled_write_and_max(has_maxima):
    def write(weights, index, value):
        tree = pyramid.build(weights, fan_out=4, has_maxima=has_maxima)
        tree = pyramid_write.write(tree, index, value)
        return pyramid.max_weight(tree), tree.leaves, tree.sums

    return jax.jit(write)


def test_masked_items_and_padding_do_not_count_as_largest_and_sweeps_keep_maxima():
    weights = np.where(np.arange(300) % 3, WEIGHTS, 0.0).astype(np.float32)
    tree = pyramid.build(jnp.asarray(weights), fan_out=4, has_maxima=True)
    sweep = jax.jit(lambda tree, at: pyramid_write.sweep(tree, at, 20, lambda old, item: 0.5 * old))
    position = jnp.zeros((), jnp.int32)
    for _ in range(6):
        tree, position = sweep(tree, position)
        assert float(pyramid.max_weight(tree)) == np.max(pyramid.leaf_weights(tree, 300))
    np.testing.assert_array_equal(tree.maxima, build_maxima(pyramid.leaf_weights(tree, 300)))
    empty = pyramid.build(jnp.zeros(300), has_maxima=True)
    assert float(pyramid.max_weight(empty)) == 0.0
    assert pyramid.build(jnp.asarray(WEIGHTS)).maxima is None


def build_maxima(weights):
    return pyramid.build(weights, fan_out=4, has_maxima=True).maxima


def test_the_largest_weight_of_a_large_pyramid_reads_one_block():
    tree = jax.eval_shape(
        functools.partial(pyramid.build, has_maxima=True), jax.ShapeDtypeStruct((2**20,), "float32")
    )
    cost = jax.jit(pyramid.max_weight).lower(tree).compile().cost_analysis()
    assert cost["flops"] < 100


def test_draws_without_replacement_follow_the_successive_law():
    weights = np.array([4.0, 3.0, 2.0, 1.0, 0.0, 0.5], np.float32)
    tree = pyramid.build(jnp.asarray(weights), fan_out=2)
    keys = jax.random.split(jax.random.key(3), 20000)
    draw = jax.jit(jax.vmap(lambda key: without_replacement.draw_distinct(key, tree, 2)))(keys)
    pairs = np.asarray(draw.items)
    assert np.all(pairs[:, 0] != pairs[:, 1])
    p = weights.astype(np.float64) / weights.sum()
    expected = p[:, None] * p[None] / (1 - p[:, None])
    np.fill_diagonal(expected, 0.0)
    counts = np.bincount(pairs[:, 0] * 6 + pairs[:, 1], minlength=36)
    assert_frequencies(counts, expected.ravel())
    values = np.array([1.0, -2.0, 3.0, 5.0, 9.0, -4.0])
    estimate = np.sum(values[pairs] / np.asarray(draw.inclusion, np.float64), axis=1)
    # The estimator reaches every item of positive weight; item 4 has none.
    assert_mean_close(estimate, values[weights > 0].sum())


def test_what_is_missing_without_replacement_is_marked():
    weights = jnp.zeros(40).at[jnp.asarray([3, 17])].set(1.0)
    draw = without_replacement.draw_distinct(jax.random.key(0), pyramid.build(weights), 5)
    assert sorted(draw.items.tolist()) == [-1, -1, -1, 3, 17]
    assert draw.valid.tolist() == [True, True, False, False, False]
    np.testing.assert_allclose(draw.inclusion, 1.0)


def test_large_draws_without_replacement_repeat_nothing():
    draw = jax.jit(lambda key: without_replacement.draw_distinct(key, tree, 200))
    tree = pyramid.build(jnp.asarray(WEIGHTS))
    items = np.asarray(draw(jax.random.key(1)).items)
    assert np.unique(items).size == 200
    everything = without_replacement.draw_distinct(jax.random.key(1), tree, N)
    assert np.unique(np.asarray(everything.items)).size == N


def test_choice_is_like_numpy():
    weights = jnp.asarray([0.0, 1.0, 3.0, 0.5]) * 1e25
    choose = jax.jit(samplers.choice, static_argnums=2, static_argnames="replace")
    items = choose(jax.random.key(0), weights, 20000)
    assert_frequencies(np.bincount(items, minlength=4), np.asarray(weights) / 4.5e25)
    distinct = samplers.choice(jax.random.key(0), weights, 3, replace=False)
    assert sorted(distinct.tolist()) == [1, 2, 3]


@pytest.mark.parametrize(
    ("weights", "n", "replace", "message"),
    [
        ([1.0, -1.0], 1, True, "not negative"),
        ([1.0, np.nan], 1, True, "finite"),
        ([0.0, 0.0], 1, True, "needs 1 positive"),
        ([1.0, 0.0], 2, False, "needs 2 positive"),
        ([1.0, 1.0], 3, False, "3 different items out of 2"),
    ],
)
def test_choice_refuses_what_numpy_refuses(weights, n, replace, message):
    with pytest.raises(ValueError, match=message):
        samplers.choice(jax.random.key(0), jnp.asarray(weights), n, replace=replace)


@pytest.mark.parametrize("bad", [np.inf, np.nan, -1.0])
@pytest.mark.parametrize("replace", [True, False])
def test_choice_inside_jit_leaves_out_what_is_no_weight(bad, replace):
    choose = jax.jit(samplers.choice, static_argnums=2, static_argnames="replace")
    n = 3000 if replace else 3
    items = np.asarray(choose(jax.random.key(0), jnp.asarray([1.0, bad, 1.0, 2.0]), n))
    assert np.all(items != 1)
    if replace:
        assert_frequencies(np.bincount(items, minlength=4), np.array([0.25, 0.0, 0.25, 0.5]))


def test_choice_takes_typed_keys_and_lists():
    choose = inspect.unwrap(samplers.choice)  # untyped, as for users
    with pytest.raises(ValueError, match="typed key"):
        choose(jax.random.PRNGKey(0), jnp.ones(3), 2)
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        choose(jax.random.key(0), jnp.ones((2, 2)), 2)


@given(probs=strategies.probabilities(37), u=strategies.finite(9, 0.0, 1.0))
def test_inverting_a_cumulative_sum_agrees_with_numpy(probs, u):
    found = draws.invert_cdf(jnp.asarray(probs), jnp.asarray(np.minimum(u, 0.9999)))
    assert np.all(probs[np.asarray(found)] > 0)
    edges = np.cumsum(probs.astype(np.float64)) / probs.astype(np.float64).sum()
    near_edge = np.min(np.abs(np.minimum(u, 0.9999)[:, None] - edges[None]), axis=1) < 1e-5
    expected = np.searchsorted(edges, np.minimum(u, 0.9999), side="right")
    np.testing.assert_array_equal(np.asarray(found)[~near_edge], expected[~near_edge])


def test_small_draws_are_exact_for_large_sets_and_all_methods():
    probs = jnp.asarray(np.append(WEIGHTS, WEIGHTS))
    for method in ("multinomial", "stratified", "systematic"):
        items = draws.draw_items(jax.random.key(5), probs, 2**14, method=method)
        assert_frequencies(np.bincount(items, minlength=2 * N), np.asarray(probs))
    with pytest.raises(ValueError, match="method"):
        draws.draw_items(jax.random.key(5), probs, 4, method="alias")
    assert_uniform(draws.stratified_positions(jax.random.uniform(jax.random.key(0), (500,))))
    items, _ = draws.draw_distinct(jax.random.key(0), jnp.asarray([0.5, 0.0, 0.5]), 3)
    assert sorted(items.tolist()) == [-1, 0, 2]
    with pytest.raises(ValueError, match="cannot draw 4"):
        draws.draw_distinct(jax.random.key(0), jnp.ones(3), 4)


@pytest.mark.slow
@pytest.mark.parametrize("power", [24, 26])
def test_every_residue_class_and_both_halves_are_reached(power):
    size = 2**power
    tree = jax.jit(lambda: pyramid.build(jnp.ones(size)))()
    items = np.concatenate(
        [compiled_draw(2**20)(jax.random.key(seed), tree, 0.0, tree)[0] for seed in range(2)]
    )
    for classes in (2, 8, 64, 1024):
        assert_frequencies(np.bincount(items % classes, minlength=classes), np.full(classes, 1.0))
    assert_frequencies(np.bincount(items >> (power - 10)), np.full(1024, 1.0))
    index = jnp.arange(size // 2, dtype=jnp.int32)
    halves = jax.jit(lambda tree: pyramid_write.write(tree, index, jnp.full(size // 2, 2.0)))(tree)
    items, _ = compiled_draw(2**20)(jax.random.key(9), halves, 0.0, tree)
    assert_frequencies(np.bincount(np.asarray(items) >> (power - 1)), [2 / 3, 1 / 3])
