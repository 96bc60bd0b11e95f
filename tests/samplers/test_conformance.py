"""Every registered sampler keeps the same laws; registering one is enough to test it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from samplers.base import Feedback, check_key
from samplers.pixels import PixelCoord, pixel_indices
from samplers.registry import ENTRIES, make_ray_sampler, make_sampler, names
from tests import strategies
from tests.samplers.family import (
    BATCH,
    COLS,
    PIXELS,
    ROWS,
    VIEWS,
    data_for,
    feedback_for,
    flat_index,
    made,
    query_for,
    trained,
)
from tests.statistics import assert_frequencies, assert_mean_close
from tests.variants import assert_same_shapes, counted

each_sampler = pytest.mark.parametrize("name", names())
each_with_probabilities = pytest.mark.parametrize(
    "name", [name for name in names() if ENTRIES[name].is_exact and ENTRIES[name].kind != "points"]
)


@each_sampler
def test_state_keeps_its_structure(name):
    _, state, _, _ = made(name)
    assert_same_shapes(state, trained(name)[1])


@each_sampler
def test_first_state_made_outside_jit_can_be_donated(name):
    state = made(name)[0].init(jax.random.key(0), *data_for(name))
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state) if leaf.size]
    assert len(set(buffers)) == len(buffers), "donating a buffer twice is an error"


@each_sampler
def test_config_is_hashable_and_frozen(name):
    config = made(name)[0].config
    assert hash(config) == hash(type(config)(**vars(config)))
    with pytest.raises(AttributeError):
        config.batch_size = 3


@each_sampler
def test_draws_are_valid_and_finite(name):
    _, state, sample, _ = trained(name)
    draw = sample(jax.random.key(3), state, *query_for(name))
    kind = ENTRIES[name].kind
    if kind == "rays":
        pixels = pixel_indices(draw.items, ROWS, COLS)
        for part, size in zip(pixels, (VIEWS, ROWS, COLS), strict=True):
            assert np.all((np.asarray(part) >= 0) & (np.asarray(part) < size))
    elif kind == "motion":
        frames = np.asarray(state.layout.frames_of)[np.asarray(draw.items.clip)]
        assert np.all((np.asarray(draw.items.frame) >= 0) & (draw.items.frame < frames))
    elif kind == "points":
        assert np.all(np.diff(np.asarray(draw.items.t), axis=1) >= 0)
    assert np.all(np.asarray(draw.probs) > 0)
    assert np.all(np.isfinite(draw.weights))
    assert np.all(np.asarray(draw.weights) > 0)


@each_sampler
def test_same_key_same_draw_another_key_another_draw(name):
    _, state, sample, _ = trained(name)
    first = sample(jax.random.key(3), state, *query_for(name))
    again = sample(jax.random.key(3), state, *query_for(name))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    other = sample(jax.random.key(4), state, *query_for(name))
    is_same = all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(first.items), jax.tree.leaves(other.items), strict=True)
    )
    assert is_same == (name == "uniform_epochs")


@each_with_probabilities
def test_probabilities_sum_to_one_and_agree_with_draws(name):
    sampler, state, sample, _ = trained(name)
    probs = np.asarray(sampler.probabilities(state), np.float64).reshape(-1)
    np.testing.assert_allclose(probs.sum(), 1.0, rtol=1e-5)
    counts = np.zeros(probs.size)
    is_start_exact = not getattr(sampler.config, "is_edge_map", False)
    is_moved_back = getattr(sampler.config, "look_back_frames", 0) > 0
    for seed in range(200):
        draw = sample(jax.random.key(seed), state)
        index = flat_index(name, draw.items)
        counts += np.bincount(index, minlength=probs.size)
        if is_start_exact and not is_moved_back:
            np.testing.assert_allclose(draw.probs, probs[index], rtol=1e-4)
    is_independent = name not in ("uniform_epochs", "stratified", "views_rounds", "views_farthest")
    if is_independent and is_start_exact and not is_moved_back:
        assert_frequencies(counts, probs)


@each_with_probabilities
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_losses_all_alike_and_zero_too_mean_uniform(name, value):
    sampler, state, sample, update = made(name)
    if ENTRIES[name].needs or name in ("sonic", "textop"):
        return  # data say more than the losses; rules of others, where a visit says something
    if name == "stratified":
        return  # never listens to losses, and its strata differ by a pixel
    value = 0.0 if ENTRIES[name].kind == "motion" else value
    for seed in range(4):
        draw = sample(jax.random.key(seed), state)
        state = update(state, draw, feedback_for(draw, np.full(BATCH, value, np.float32)))
    if ENTRIES[name].kind == "views":
        state = state._replace(last=jnp.full_like(state.last, state.step))
    probs = np.asarray(sampler.probabilities(state), np.float64).reshape(-1)
    np.testing.assert_allclose(probs, 1 / probs.size, rtol=1e-4)


@pytest.mark.parametrize(
    "name", [n for n in names() if hasattr(made(n)[0].config, "uniform_fraction")]
)
def test_no_item_falls_below_the_floor_whatever_the_losses(name):
    sampler, state, sample, update = made(name)
    if not ENTRIES[name].is_exact:
        return  # the floor is a share of the slots
    if ENTRIES[name].preset.get("method") in ("rounds", "farthest"):
        return  # every view comes once per round
    for seed in range(6):
        draw = sample(jax.random.key(seed), state)
        value = np.zeros(BATCH, np.float32)
        value[: BATCH // 8] = 1.0 if ENTRIES[name].kind == "motion" else 1e12
        state = update(state, draw, feedback_for(draw, value))
    probs = np.asarray(sampler.probabilities(state), np.float64).reshape(-1)
    floor = sampler.config.uniform_fraction / probs.size
    assert probs.min() >= floor * (1 - 1e-5)


@pytest.mark.parametrize("name", [n for n in names("rays") if ENTRIES[n].is_unbiased])
def test_weighted_gradient_is_unbiased(name):
    _, state, sample, _ = trained(name)
    features = np.random.default_rng(0).normal(size=(PIXELS, 2))
    residual = features @ [0.3, -0.2] - np.sin(3.0 * features[:, 0]) - (features[:, 1] > 1)
    gradient = 2.0 * residual[:, None] * features
    estimates = []
    for seed in range(500):
        if name == "uniform_epochs":
            state = state._replace(epoch=jnp.asarray(seed, jnp.int32))
        draw = sample(jax.random.key(seed), state)
        index = flat_index(name, draw.items)
        estimates.append(np.mean(np.asarray(draw.weights)[:, None] * gradient[index], axis=0))
    assert_mean_close(np.stack(estimates), gradient.mean(axis=0))


@each_sampler
def test_vmapped_scan_is_traced_once(name):
    sampler, state, _, _ = made(name)

    def steps(state, key):
        def one(state, step):
            key_step = jax.random.fold_in(key, step)
            draw = sampler.sample(key_step, state, *query_for(name))
            loss = 0.5 + 0.5 * jnp.sin(jnp.arange(BATCH) * 1.0)
            return sampler.update(state, draw, feedback_for(draw, loss)), draw.weights

        return jax.lax.scan(one, state, jnp.arange(3))

    wrapped = counted(jax.vmap(steps))
    states = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), state)
    compiled = jax.jit(wrapped)
    for seed in range(2):
        compiled.lower(states, jax.random.split(jax.random.key(seed), 2))
    assert wrapped.count == 1


@each_sampler
@settings(max_examples=5)
@given(value=strategies.nasty(BATCH))
def test_any_feedback_leaves_weights_finite(name, value):
    sampler, state, sample, update = trained(name)
    draw = sample(jax.random.key(11), state, *query_for(name))
    after = update(state, draw, feedback_for(draw, value))
    for path, leaf in jax.tree_util.tree_leaves_with_path(sampler.plan(after, 100)):
        is_depth_prior = ENTRIES[name].kind == "points"
        if jnp.issubdtype(leaf.dtype, jnp.floating) and not is_depth_prior:
            assert np.all(np.isfinite(leaf)), jax.tree_util.keystr(path)
    draw = sample(jax.random.key(12), after, *query_for(name))
    assert np.all(np.isfinite(draw.weights))
    assert np.all(np.asarray(draw.probs) > 0)


@each_sampler
def test_rows_marked_invalid_teach_nothing(name):
    _, state, sample, update = trained(name)
    draw = sample(jax.random.key(13), state, *query_for(name))
    none = jnp.zeros(BATCH, bool)
    one = update(state, draw, feedback_for(draw, np.linspace(0, 1, BATCH, dtype=np.float32), none))
    other = update(state, draw, feedback_for(draw, np.ones(BATCH, np.float32), none))
    jax.tree.map(np.testing.assert_array_equal, one, other)


@each_sampler
def test_permuting_a_batch_does_not_change_the_state(name):
    _, state, sample, update = trained(name)
    if ENTRIES[name].kind == "points" or isinstance(
        sample(jax.random.key(0), state, *query_for(name)).items, PixelCoord
    ):
        return  # rows are rays or slots, not a set
    draw = sample(jax.random.key(14), state)
    value = np.random.default_rng(0).uniform(0.1, 1.0, BATCH).astype(np.float32)
    order = np.random.default_rng(1).permutation(BATCH)
    shuffled = jax.tree.map(lambda leaf: leaf[order], draw)
    one = update(state, draw, feedback_for(draw, value))
    other = update(state, shuffled, feedback_for(shuffled, value[order]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), one, other)


@pytest.mark.parametrize("name", names("rays"))
def test_masked_items_are_never_drawn_and_the_rest_is_unbiased(name):
    sampler, _, sample, update = made(name)
    mask = np.random.default_rng(2).random((VIEWS, ROWS, COLS)) < 0.3
    mask[:, ROWS // 2 :, : COLS // 2] = False  # some tiles have no pixel left
    data = data_for(name)
    state = sampler.init(jax.random.key(0), *data, mask=jnp.asarray(mask))
    allowed, loss = mask.reshape(-1), np.random.default_rng(3).uniform(0.1, 2.0, PIXELS)
    estimates = []
    for seed in range(200):
        if name == "uniform_epochs":
            state = state._replace(epoch=jnp.asarray(seed, jnp.int32))
        draw = sample(jax.random.key(seed), state)
        index = flat_index(name, draw.items)
        assert np.all(allowed[index])
        estimates.append(np.mean(np.asarray(draw.weights) * loss[index]))
        if seed < 20:  # then the state stays, so that the estimates are independent
            state = update(state, draw, feedback_for(draw, loss[index].astype(np.float32)))
    if ENTRIES[name].is_exact:
        probs = np.asarray(sampler.probabilities(state), np.float64).reshape(-1)
        np.testing.assert_array_equal(probs[~allowed], 0.0)
        np.testing.assert_allclose(probs.sum(), 1.0, rtol=1e-5)
    if ENTRIES[name].is_unbiased:
        assert_mean_close(np.array(estimates)[:, None], loss[allowed].mean()[None])


@pytest.mark.parametrize("name", names("rays"))
def test_masks_of_another_size_or_forbidding_all_are_refused(name):
    sampler, data = made(name)[0], data_for(name)
    with pytest.raises(ValueError, match="must have"):
        sampler.init(jax.random.key(0), *data, mask=jnp.ones(3, bool))
    with pytest.raises(ValueError, match="forbids every item"):
        sampler.init(jax.random.key(0), *data, mask=jnp.zeros(PIXELS, bool))


def test_samplers_that_know_no_masks_refuse_them():
    with pytest.raises(ValueError, match="takes no mask"):
        made("views")[0].init(jax.random.key(0), mask=jnp.ones(70, bool))


@pytest.mark.slow
@each_sampler
def test_compiled_equals_eager(name):
    sampler, state, sample, update = trained(name)
    first = sample(jax.random.key(3), state, *query_for(name))
    feedback = feedback_for(first, np.linspace(0.1, 1.0, BATCH, dtype=np.float32))
    with jax.disable_jit():
        eager = sampler.sample(jax.random.key(3), state, *query_for(name))
        after = sampler.update(state, first, feedback)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), first, eager)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7),
        update(state, first, feedback),
        after,
    )


def test_unknown_names_and_options_are_refused_with_the_known_ones():
    sizes = {"num_views": 2, "rows": 4, "cols": 4, "batch_size": 4}
    with pytest.raises(ValueError, match="error_weighted"):
        make_ray_sampler("nonsense", **sizes)
    with pytest.raises(ValueError, match=r"uniform_fraction=0\.25"):
        make_ray_sampler("error_weighted", **sizes, options={"lambda": 3})
    with pytest.raises(ValueError, match="fewer than 2"):
        make_ray_sampler("uniform", num_views=2**20, rows=2**7, cols=2**7, batch_size=4)
    with pytest.raises(ValueError, match="at least one pixel"):
        make_ray_sampler("uniform", num_views=0, rows=4, cols=4, batch_size=4)
    with pytest.raises(ValueError, match="samples views, not rays"):
        make_ray_sampler("views", **sizes)
    with pytest.raises(ValueError, match="needs num_views, batch_size"):
        make_sampler("views", {})
    with pytest.raises(ValueError, match="no setting decoy"):
        make_sampler("views", {"decoy": 1})


def test_old_style_keys_and_many_keys_are_refused():
    """By ourselves, since the checks of the tests' type annotations are not there for users."""
    check_key(jax.random.key(0))
    for wrong in (jax.random.PRNGKey(0), 0, jax.random.split(jax.random.key(0))):
        with pytest.raises(ValueError, match=r"needs (a typed|one) key"):
            check_key(wrong)
    _, state, _, _ = made("uniform")
    with pytest.raises(Exception, match=r"[Tt]ype"):
        made("uniform")[0].sample(jax.random.PRNGKey(0), state)


@each_sampler
def test_feedback_of_other_rows_is_refused(name):
    """A single number would be spread over all rows, and another draw's feedback counted."""
    sampler, state, sample, _ = made(name)
    draw = sample(jax.random.key(1), state, *query_for(name))
    shape = draw.probs.shape
    for wrong in (jnp.ones(()), jnp.ones((1,)), jnp.ones((shape[0] + 1, *shape[1:]))):
        with pytest.raises(ValueError, match=r"feedback\.value must have one entry per row"):
            sampler.update(state, draw, Feedback(wrong))
    valid = jnp.ones((shape[0] + 1,), bool)
    with pytest.raises(ValueError, match=r"feedback\.valid must have one entry per row"):
        sampler.update(state, draw, Feedback(jnp.ones(shape), valid=valid))


def test_a_mask_of_turned_images_is_refused():
    sampler = make_ray_sampler("uniform", num_views=2, rows=6, cols=4, batch_size=8)
    sampler.init(jax.random.key(0), mask=jnp.ones((2, 6, 4), bool))
    sampler.init(jax.random.key(0), mask=jnp.ones(48, bool))
    with pytest.raises(ValueError, match=r"\(2, 6, 4\) or be flat, got \(2, 4, 6\)"):
        sampler.init(jax.random.key(0), mask=jnp.ones((2, 4, 6), bool))
