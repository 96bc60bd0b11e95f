"""Laws of the weight pyramid."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplers import pyramid, pyramid_write
from tests import oracles, strategies
from tests.statistics import assert_frequencies, assert_frequencies_reject
from tests.variants import variants

SIZES = [(1, 4), (5, 2), (37, 4), (300, 16), (1024, 8)]


def leaves_of(tree):
    return np.asarray(tree.leaves).reshape(-1)[: int(tree.num_items)]


@pytest.mark.parametrize(("size", "fan"), SIZES)
def test_sums_equal_the_float64_sum_of_leaves(size, fan):
    weights = np.random.default_rng(0).lognormal(size=size).astype(np.float32)
    tree = pyramid.build(jnp.asarray(weights), fan_out=fan)
    np.testing.assert_allclose(pyramid.total(tree), weights.astype(np.float64).sum(), rtol=1e-6)
    np.testing.assert_allclose(
        pyramid.probabilities(tree, size), oracles.mixture(weights, 0.0), rtol=2e-6
    )


@functools.cache
def compiled_draw(n):
    return jax.jit(lambda key, tree, share: pyramid.draw(key, tree, n, uniform_fraction=share))


@pytest.mark.parametrize(("size", "fan"), SIZES)
def test_draws_follow_the_weights(size, fan):
    weights = np.random.default_rng(1).lognormal(sigma=2.0, size=size).astype(np.float32)
    weights[::3] = 0.0 if size > 1 else 1.0
    tree = pyramid.build(jnp.asarray(weights), fan_out=fan)
    items, probs = compiled_draw(2**16)(jax.random.key(2), tree, 0.25)
    expected = oracles.mixture(weights, 0.25)
    assert_frequencies(np.bincount(items, minlength=size), expected)
    np.testing.assert_allclose(probs, expected[np.asarray(items)], rtol=5e-6)
    if size > 5:
        assert_frequencies_reject(np.bincount(items, minlength=size), np.full(size, 1 / size))


def test_frequencies_at_2_to_20_leaves():
    weights = np.ones(2**20, np.float32)
    weights[: 2**19] = 2.0
    tree = jax.jit(pyramid.build)(jnp.asarray(weights))
    items, _ = compiled_draw(2**20)(jax.random.key(3), tree, 0.0)
    items = np.asarray(items)
    assert_frequencies(np.bincount(items % 64, minlength=64), np.full(64, 1 / 64))
    assert_frequencies(np.bincount(items >> 19, minlength=2), [2 / 3, 1 / 3])
    assert_frequencies(np.bincount(items >> 10, minlength=2**10), weights.reshape(2**10, -1).sum(1))


@given(key=strategies.keys(), weights=strategies.weights(37))
def test_an_item_of_weight_zero_is_never_drawn(key, weights):
    tree = pyramid.build(jnp.asarray(weights), fan_out=4)
    items, probs = compiled_draw(64)(key, tree, 0.0)
    assert np.all(weights[np.asarray(items)] > 0)
    assert np.all(np.asarray(probs) > 0)


@pytest.mark.parametrize("bits", [0, 0xFFFFFFFF])
@pytest.mark.parametrize(("size", "fan"), SIZES)
def test_extreme_bits_select_the_first_and_the_last_item(size, fan, bits):
    tree = pyramid.build(jnp.full(size, 0.1), fan_out=fan)
    words = jnp.full((pyramid.num_words(tree), 1), bits, jnp.uint32)
    assert int(pyramid.descend(tree, words)[0]) == (size - 1 if bits else 0)


@pytest.mark.parametrize("weights", [[0.0] * 5, [np.nan, -1.0, -np.inf, 0.0, 1e-40]])
def test_nothing_to_go_on_means_uniform(weights):
    tree = pyramid.build(jnp.asarray(weights, jnp.float32), fan_out=2)
    items, probs = compiled_draw(2**12)(jax.random.key(0), tree, 0.0)
    assert_frequencies(np.bincount(items, minlength=5), np.full(5, 0.2))
    np.testing.assert_allclose(probs, 0.2)
    np.testing.assert_allclose(pyramid.probability(tree, jnp.arange(5)), 0.2)


@functools.cache
def compiled_write(rule, decay):
    def blend(old, new):
        return decay * old + (1.0 - decay) * new

    blend_fn = None if decay is None else blend
    return jax.jit(
        lambda tree, index, value, valid: pyramid_write.write(
            tree, index, value, valid=valid, duplicates=rule, blend_fn=blend_fn
        )
    )


@pytest.mark.parametrize("decay", [None, 0.75])
@pytest.mark.parametrize("rule", ["mean", "max", "sum", "last"])
@given(
    index=strategies.indices(9, 37),
    value=strategies.nasty(9).map(lambda v: np.where(np.abs(v) < 1e-30, 0, np.minimum(v, 1e18))),
    seed=st.integers(0, 99),
)
def test_writing_merges_duplicates_and_keeps_sums_right(rule, decay, index, value, seed):
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.5, 2.0, 37).astype(np.float32)
    index = np.where(rng.uniform(size=9) < 0.1, 99, index).astype(np.int32)
    valid = rng.uniform(size=9) < 0.8
    tree = pyramid.build(jnp.asarray(weights), fan_out=4)
    after = compiled_write(rule, decay)(tree, index, value.astype(np.float32), valid)
    expected = oracles.write_leaves(weights, index, value, valid, rule, decay)
    np.testing.assert_allclose(leaves_of(after), np.minimum(expected, 1e18), rtol=1e-5)
    rebuilt = pyramid.build(jnp.asarray(leaves_of(after)), fan_out=4)
    np.testing.assert_allclose(after.sums, rebuilt.sums, rtol=1e-5)


def test_small_and_large_batches_recompute_the_same_sums():
    weights = np.random.default_rng(3).uniform(0.5, 2.0, 300).astype(np.float32)
    tree = pyramid.build(jnp.ones(300), fan_out=4)
    index = jnp.arange(300, dtype=jnp.int32)
    write = compiled_write("mean", None)
    whole = write(tree, index, weights, np.ones(300, bool))
    for i in range(0, 300, 5):
        tree = write(tree, index[i : i + 5], weights[i : i + 5], np.ones(5, bool))
    np.testing.assert_array_equal(tree.leaves, whole.leaves)
    np.testing.assert_allclose(tree.sums, whole.sums, rtol=1e-6)


@variants
def test_permuting_a_batch_with_duplicates_changes_nothing(transform):
    tree = pyramid.build(jnp.ones(37), fan_out=4)
    rng = np.random.default_rng(0)
    index = jnp.asarray(rng.integers(0, 10, 64), jnp.int32)
    value = jnp.asarray(rng.uniform(size=64), jnp.float32)
    order = rng.permutation(64)
    write = transform(pyramid_write.write)
    first, second = write(tree, index, value), write(tree, index[order], value[order])
    np.testing.assert_allclose(first.leaves, second.leaves, rtol=1e-6)


def test_no_drift_after_4000_updates_with_decaying_losses():
    size, batch, steps = 2**12, 256, 4000

    def one(tree, step):
        key = jax.random.fold_in(jax.random.key(5), step)
        index, _ = pyramid.draw(key, tree, batch)
        loss = 0.1 * 10.0 ** (-3.0 * step / steps) * (1.0 + jnp.sin(index * 1.0) ** 2)
        return pyramid_write.write(tree, index, loss), None

    start = pyramid.build(jnp.full(size, 0.1))
    tree, _ = jax.jit(lambda t: jax.lax.scan(one, t, jnp.arange(steps)))(start)
    leaves = leaves_of(tree).astype(np.float64)
    np.testing.assert_allclose(pyramid.total(tree), leaves.sum(), rtol=1e-5)
    assert leaves.max() < 1e-2
    items, _ = compiled_draw(2**17)(jax.random.key(6), tree, 0.0)
    assert_frequencies(np.bincount(items, minlength=size), leaves / leaves.sum())


@pytest.mark.parametrize("leaf_format", ["float32", "uint8"])
def test_the_form_for_accelerators_draws_and_writes_the_same(monkeypatch, leaf_format):
    weights = jax.random.uniform(jax.random.key(0), (5000,))
    tree = pyramid.build(weights, fan_out=8, leaf_format=leaf_format)

    def step(tree, key):
        index, probs = pyramid.draw(key, tree, 300, uniform_fraction=0.1, method="stratified")
        return pyramid_write.write(tree, index, 0.5 + probs, duplicates="max"), index, probs

    looped = jax.jit(lambda tree, key: step(tree, key))(tree, jax.random.key(1))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    text = str(jax.make_jaxpr(lambda tree, key: step(tree, key))(tree, jax.random.key(1)))
    unrolled = jax.jit(lambda tree, key: step(tree, key))(tree, jax.random.key(1))
    assert "optimization_barrier" in text
    assert "scan" not in text
    jax.tree.map(np.testing.assert_array_equal, looped, unrolled)


@pytest.mark.parametrize("n", [64, 2**14])
def test_writing_a_donated_pyramid_copies_no_leaves(n):
    size = 2**16
    if n > 64 and jax.default_backend() != "cpu":
        pytest.skip("tables of zeros as large as the leaves are told apart in XLA:CPU's text only")

    def step(tree, key):
        index, probs = pyramid.draw(key, tree, n)
        return pyramid_write.write(tree, index, probs, blend_fn=lambda old, new: old + new), probs

    tree = jax.eval_shape(pyramid.build, jax.ShapeDtypeStruct((size,), jnp.float32))
    compiled = jax.jit(step, donate_argnums=0).lower(tree, jax.random.key(0)).compile()
    copies = [line for line in compiled.as_text().splitlines() if " copy(" in line]
    copies = [line for line in copies if "broadcast" not in line]  # a table of zeros, written once
    fan = tree.leaves.shape[1]
    large = [line for line in copies if f"[{size}]" in line or f"[{size // fan},{fan}]" in line]
    assert not large


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pyramid.build(jnp.ones(4), fan_out=1), "fan_out"),
        (lambda: pyramid.build(jnp.ones(0)), "at least one weight"),
        (
            lambda: pyramid_write.write(
                pyramid.build(jnp.ones(4)), jnp.zeros(1, jnp.int32), jnp.ones(1), duplicates="first"
            ),
            "duplicates must be",
        ),
    ],
)
def test_impossible_settings_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_what_a_draw_cannot_use_is_refused_by_name():
    draw, build = inspect.unwrap(pyramid.draw), inspect.unwrap(pyramid.build)  # as for users
    tree, key = pyramid.build(jnp.ones(9), fan_out=4), jax.random.key(0)
    with pytest.raises(ValueError, match="typed key"):
        draw(jax.random.PRNGKey(0), tree, 2)
    for share in (-0.5, 2.0):
        with pytest.raises(ValueError, match="uniform_fraction"):
            draw(key, tree, 2, uniform_fraction=share)
    with pytest.raises(ValueError, match="fan-out, got 8 and 4"):
        draw(key, tree, 2, prior=pyramid.build(jnp.ones(9), fan_out=8))
    with pytest.raises(ValueError, match=r"shape \(3, 3\)"):
        build(jnp.ones((3, 3)))


@pytest.mark.parametrize("num_items", [8, 5000])
def test_writes_take_numpy_arrays_and_merge_in_float32(num_items):
    write = inspect.unwrap(pyramid_write.write)  # untyped, as for users
    tree, index = pyramid.build(jnp.ones(num_items)), np.zeros(1000, np.int32)
    for rule in ("mean", "max", "last"):
        value = jnp.full(1000, 3.0, jnp.bfloat16)
        assert write(tree, index, value, duplicates=rule).leaves[0, 0] == 3.0
        after = write(tree, index, np.full(1000, 3.0), duplicates=rule)
        assert after.leaves[0, 0] == 3.0


def test_more_rows_than_leaves_can_number_are_told_apart(monkeypatch):
    monkeypatch.setattr(pyramid_write, "_MOST_ROW_NUMBERS", 8)
    tree, index = pyramid.build(jnp.ones(500)), jnp.asarray([3, 7, 3, 490, 12, 13, 14, 15, 16, 7])
    hashed = pyramid_write.write(tree, index, jnp.arange(10.0))
    monkeypatch.undo()
    plain = pyramid_write.write(tree, index, jnp.arange(10.0))
    np.testing.assert_array_equal(hashed.leaves, plain.leaves)
    assert float(plain.leaves.reshape(-1)[7]) == 5.0


def test_draws_work_on_each_device_of_a_mesh():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    tree = pyramid.build(jnp.arange(300.0))

    def one(keys):
        return pyramid.draw(keys[0], tree, 64)[0]

    split = jax.sharding.PartitionSpec("data")
    drawn = jax.jit(jax.shard_map(one, mesh=mesh, in_specs=split, out_specs=split))
    keys = jax.random.split(jax.random.key(3), 1)
    np.testing.assert_array_equal(drawn(keys), pyramid.draw(keys[0], tree, 64)[0])
