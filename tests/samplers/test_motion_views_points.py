"""What the motion, camera and point samplers promise beyond the conformance table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from samplers import depth_guided, failure_bins, motion_bins, survival, views
from samplers.base import Draw, Feedback
from samplers.depth_guided import DepthGuidedConfig, RayPoints, RayQuery
from samplers.failure_bins import FailureBinsConfig
from samplers.motion_bins import MotionTime
from samplers.registry import make_sampler
from samplers.views import ViewsConfig
from tests.statistics import assert_mean_close

CLIPS = (200, 130, 50)


def rows(clip, frame):
    n = len(frame)
    items = MotionTime(jnp.full(n, clip, jnp.int32), jnp.asarray(frame, jnp.int32))
    return Draw(items, jnp.full(n, 0.1), jnp.ones(n))


def motion(**settings):
    return failure_bins.make(FailureBinsConfig(clip_frames=CLIPS, batch_size=8, **settings))


def test_every_frame_lies_in_the_bin_that_lists_it():
    layout = motion_bins.cut_into_bins(CLIPS, 30.0)
    for clip, frames in enumerate(CLIPS):
        time = MotionTime(jnp.full(frames, clip), jnp.arange(frames))
        found = np.asarray(motion_bins.bin_of(layout, time))
        first, length = (np.asarray(layout[i])[found] for i in (1, 2))
        assert np.all((first <= np.arange(frames)) & (np.arange(frames) < first + length))
        assert np.all(np.asarray(layout.clip)[found] == clip)
    assert int(jnp.sum(layout.num_frames)) == sum(CLIPS)
    outside = motion_bins.bin_of(layout, MotionTime(jnp.asarray([0, 9]), jnp.asarray([-5, 999])))
    assert outside.tolist() == [0, layout.clip.shape[0] - 1]
    with pytest.raises(ValueError, match="at least one clip"):
        motion_bins.cut_into_bins((), 30.0)
    with pytest.raises(ValueError, match="needs frames"):
        motion_bins.cut_into_bins((0,), 30.0)


def test_failures_raise_their_bin_and_those_before_but_no_other_clip():
    sampler = motion(uniform_fraction=0.1, cap=None, stuck_share=1.0)
    state = sampler.init(jax.random.key(0))
    update = jax.jit(sampler.update)
    clip = np.repeat([0, 1], [200, 130])
    frame = np.concatenate([np.arange(200), np.arange(130)])
    items = MotionTime(jnp.asarray(clip, jnp.int32), jnp.asarray(frame, jnp.int32))
    draw = Draw(items, jnp.full(330, 0.1), jnp.ones(330))
    failed = jnp.asarray((clip == 1) & (frame == 60), jnp.float32)
    for _ in range(100):
        state = update(state, draw, Feedback(failed))
    probs = np.asarray(sampler.probabilities(state))
    layout = state.layout
    before = int(layout.first_bin_of[1])
    assert probs.argmax() == before + 1  # the bin of the failure
    assert probs[before] > 2 * probs[0]  # the one before it
    np.testing.assert_allclose(probs[:before], probs[0], rtol=1e-3)
    assert probs[before + 2] < 1.1 * probs[0]
    assert probs[0] < probs[-1] < probs[before + 1]  # never seen counts as average
    assert probs.min() >= 0.1 / probs.size * (1 - 1e-5)


def test_the_number_of_environments_does_not_move_the_distribution():
    sampler = motion()
    update = jax.jit(sampler.update)
    frame = np.random.default_rng(0).integers(0, 200, 64)
    failed = (np.random.default_rng(1).uniform(size=64) < 0.2).astype(np.float32)
    one = two = sampler.init(jax.random.key(0))
    for _ in range(5):
        one = update(one, rows(0, frame), Feedback(jnp.asarray(failed)))
        two = update(two, rows(0, np.tile(frame, 2)), Feedback(jnp.asarray(np.tile(failed, 2))))
    np.testing.assert_allclose(sampler.probabilities(one), sampler.probabilities(two), rtol=1e-5)


def test_statistics_of_devices_are_summed():
    sampler = failure_bins.make(
        FailureBinsConfig(clip_frames=CLIPS, batch_size=8, axis_name="devices")
    )
    single = motion()
    frame = np.arange(0, 128) % 90
    failed = jnp.asarray(frame % 7 == 0, jnp.float32)
    state = single.init(jax.random.key(0))
    whole = single.update(state, rows(0, frame), Feedback(failed))
    items = MotionTime(jnp.zeros((4, 32), jnp.int32), jnp.asarray(frame.reshape(4, 32)))
    draw = Draw(items, jnp.ones((4, 32)), jnp.ones((4, 32)))
    parts = jax.vmap(
        lambda draw, value: sampler.update(state, draw, Feedback(value)), axis_name="devices"
    )(draw, failed.reshape(4, 32))
    for lane in range(4):
        np.testing.assert_allclose(parts.failures[lane], whole.failures, rtol=1e-5)
        np.testing.assert_allclose(parts.exposure[lane], whole.exposure, rtol=1e-5)


@pytest.mark.parametrize("share", [0.02, 0.05])
def test_bins_that_always_fail_without_progress_get_their_share_of_the_steps(share):
    probs = {}
    for limit in (1.0, share):
        sampler = motion(
            stuck_share=limit, kernel_size=1, cap=None, uniform_fraction=0.0, trend_decay=0.9
        )
        update, state = jax.jit(sampler.update), sampler.init(jax.random.key(0))
        frame = np.arange(200)
        is_stuck = np.isin(motion_bins.bin_of(state.layout, rows(0, frame).items), (0, 2))
        failed = np.where(is_stuck, 0.3, 0.001)
        for _ in range(80):
            state = update(state, rows(0, frame), Feedback(jnp.asarray(failed, jnp.float32)))
        probs[limit] = np.asarray(sampler.probabilities(state))
    overall = jnp.sum(state.failures) / jnp.sum(state.exposure)
    per_pass = (state.failures + 0.02 * overall) / (state.exposure + 0.02)  # as in the docstring
    steps = probs[share] * np.asarray(survival.expected_frames(state.layout, per_pass))
    np.testing.assert_allclose(steps[[0, 2]].sum() / steps.sum(), share, rtol=0.02)
    assert probs[1.0][[0, 2]].sum() > probs[share][[0, 2]].sum() > share, "starts end soon"
    improving = state._replace(trend=state.trend / 2)
    np.testing.assert_allclose(sampler.probabilities(improving), probs[1.0], rtol=1e-5)


def test_when_every_bin_is_stuck_starts_are_uniform():
    sampler = motion(kernel_size=1)
    state = sampler.init(jax.random.key(0))
    clip, frame = np.repeat(np.arange(len(CLIPS)), CLIPS), np.concatenate([*map(np.arange, CLIPS)])
    items = MotionTime(jnp.asarray(clip, jnp.int32), jnp.asarray(frame, jnp.int32))
    draw = Draw(items, jnp.ones(frame.size), jnp.ones(frame.size))
    for _ in range(3):
        state = sampler.update(state, draw, Feedback(jnp.ones(frame.size)))
    probs = sampler.probabilities(state)
    np.testing.assert_allclose(probs, 1 / probs.size, rtol=1e-5)


def test_cap_and_override_and_masks_hold():
    sampler = motion(cap=2.0, uniform_fraction=0.1, kernel_size=1)
    num_bins = sampler.init(jax.random.key(0)).failures.shape[0]
    valid = jnp.ones(num_bins, bool).at[1].set(False)
    state = sampler.init(jax.random.key(0), valid)
    state = sampler.update(state, rows(0, [3] * 50), Feedback(jnp.ones(50)))
    probs = np.asarray(sampler.probabilities(state))
    np.testing.assert_allclose(probs.sum(), 1.0, rtol=1e-5)
    assert probs.max() <= 2.0 / (num_bins - 1) * (1 + 1e-5)
    assert probs[1] == 0
    fixed = failure_bins.with_override(state, jnp.eye(num_bins)[4])
    draw = jax.jit(sampler.sample)(jax.random.key(0), fixed)
    assert np.all(np.asarray(motion_bins.bin_of(state.layout, draw.items)) == 4)
    back = failure_bins.with_override(fixed, None)
    np.testing.assert_allclose(sampler.probabilities(back), probs)


def test_starts_fall_uniformly_inside_their_bin_and_look_back_stays_in_the_clip():
    layout = motion().init(jax.random.key(0)).layout
    for back in (0, 60):
        sampler = failure_bins.make(
            FailureBinsConfig(clip_frames=CLIPS, batch_size=8000, look_back_frames=back)
        )
        state = sampler.init(jax.random.key(0))
        state = failure_bins.with_override(state, jnp.eye(state.failures.shape[0])[1])
        frame = np.asarray(jax.jit(sampler.sample)(jax.random.key(1), state).items.frame)
        low, high = int(layout.first_frame[1]), int(layout.first_frame[1] + layout.num_frames[1])
        assert frame.max() < high
        assert frame.min() == max(0, low - back + 1 if back else low)
        if not back:
            assert_mean_close(frame, (low + high - 1) / 2)


def test_neither_look_back_nor_rounding_leads_into_a_forbidden_bin():
    for settings in ({"look_back_frames": 100}, {"is_edge_map": True}):
        config = FailureBinsConfig(
            clip_frames=CLIPS, batch_size=4000, frames_per_bin=13.0, **settings
        )
        sampler = failure_bins.make(config)
        layout = sampler.init(jax.random.key(0)).layout
        valid = jnp.arange(layout.clip.shape[0]) % 3 == 1
        state = failure_bins.init(config, jax.random.key(0), valid)
        items = sampler.sample(jax.random.key(1), state).items
        found = np.asarray(motion_bins.bin_of(layout, items))
        assert np.asarray(valid)[found].all()
        assert len(np.unique(found)) == int(jnp.sum(valid))


def test_textop_chooses_clips_by_their_rate_whatever_their_length():
    """p(clip) ~ rate^0.5 with a tenth for all alike, from the released program's rule by hand."""
    options = {"clip_frames": CLIPS, "batch_size": 8, "frames_per_bin": 10.0}
    sampler = make_sampler("textop", options)
    state = sampler.init(jax.random.key(0))
    failed = {0: 0.1, 1: 0.4, 2: 0.9}
    n = 1000
    for _ in range(60):
        for clip, share in failed.items():
            frames = np.linspace(0, CLIPS[clip] - 1, n).astype(int)
            value = jnp.asarray(np.arange(n) < share * n, jnp.float32)
            state = sampler.update(state, rows(clip, frames), Feedback(value))
    probs = np.asarray(sampler.probabilities(state))
    clips = np.asarray(state.layout.clip)
    found = np.array([probs[clips == clip].sum() for clip in range(3)])
    root = np.sqrt(list(failed.values()))
    np.testing.assert_allclose(found, 0.9 * root / root.sum() + 0.1 / 3, atol=0.02)


def test_masks_and_overrides_of_another_size_are_refused():
    sampler = motion(frames_per_bin=10.0)
    state = sampler.init(jax.random.key(0))
    bins = state.valid.shape[0]
    for wrong in (jnp.ones(bins + 1, bool), jnp.zeros(bins, bool)):
        with pytest.raises(ValueError, match=r"the mask (must have|forbids every)"):
            failure_bins.init(sampler.config, jax.random.key(0), wrong)
    with pytest.raises(ValueError, match=f"needs {bins} numbers"):
        failure_bins.with_override(state, jnp.ones(bins + 1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip_frames": ()}, "clip"),
        ({"frames_per_bin": 0.0}, "bin length"),
        ({"statistic": "ema"}, "statistic"),
        ({"kernel_size": 0}, "kernel_size"),
        ({"kernel_edge": "wrap"}, "kernel_edge"),
        ({"cap": 0.5}, "cap"),
        ({"uniform_fraction": -0.1}, "uniform_fraction"),
    ],
)
def test_impossible_motion_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        FailureBinsConfig(**{"clip_frames": CLIPS, "batch_size": 8, **settings})


def test_rounds_show_every_view_once_before_any_twice():
    centres = jnp.asarray(np.random.default_rng(0).normal(size=(10, 3)), jnp.float32)
    for method in ("rounds", "farthest"):
        sampler = views.make(ViewsConfig(num_views=10, batch_size=4, method=method))
        state = sampler.init(jax.random.key(0), centres)
        sample, update = jax.jit(sampler.sample), jax.jit(sampler.update)
        for step in range(25):
            draw = sample(jax.random.key(step), state)
            state = update(state, draw, Feedback(jnp.ones(4)))
            assert np.ptp(np.asarray(state.visits)) <= 1
        assert np.all(np.asarray(state.visits) == 10)


def test_farthest_points_spread_out():
    centres = np.zeros((12, 3), np.float32)
    centres[:9, 0] = np.arange(9) * 0.01
    centres[9:, 0] = (5.0, 10.0, 15.0)
    sampler = views.make(ViewsConfig(num_views=12, batch_size=4, method="farthest"))
    draw = sampler.sample(jax.random.key(0), sampler.init(jax.random.key(0), jnp.asarray(centres)))
    assert {9, 10, 11} <= set(draw.items.tolist())
    with pytest.raises(ValueError, match="camera centres"):
        sampler.init(jax.random.key(0))
    with pytest.raises(ValueError, match="needs 12 camera centres"):
        sampler.init(jax.random.key(0), jnp.zeros((3, 3)))
    with pytest.raises(ValueError, match="without replacement"):
        ViewsConfig(num_views=3, batch_size=4, method="rounds")
    with pytest.raises(ValueError, match="method must be"):
        ViewsConfig(num_views=3, batch_size=2, method="sequential")


def test_independent_views_prefer_loss_and_stale_and_stay_unbiased():
    losses = np.linspace(0.5, 4.0, 16).astype(np.float32)
    sampler = views.make(ViewsConfig(num_views=16, batch_size=4, loss_exponent=1.0))
    state = sampler.init(jax.random.key(0))
    sample, update = jax.jit(sampler.sample), jax.jit(sampler.update)
    for step in range(60):
        draw = sample(jax.random.key(step), state)
        state = update(state, draw, Feedback(jnp.asarray(losses)[draw.items]))
    even = state._replace(last=jnp.zeros(16, jnp.int32))
    probs = np.asarray(sampler.probabilities(even))
    assert probs[12:].mean() > 1.5 * probs[:4].mean()
    stale = even._replace(last=even.last.at[0].set(-10000))
    assert float(sampler.probabilities(stale)[0]) > 2 * probs[0]
    # the gradient of a model's squared error over all views, and the loss itself
    features = np.random.default_rng(0).normal(size=(16, 2))
    gradient = 2.0 * (features @ [0.3, -0.2] - losses)[:, None] * features
    wanted = np.concatenate([gradient, losses[:, None]], axis=1)
    estimates = [
        np.mean(np.asarray(draw.weights)[:, None] * wanted[np.asarray(draw.items)], axis=0)
        for draw in (sample(jax.random.key(seed), state) for seed in range(800))
    ]
    assert_mean_close(np.stack(estimates), wanted.mean(axis=0))


def test_views_seen_seldom_are_preferred_when_asked():
    settings = {"num_views": 4, "batch_size": 2, "loss_exponent": 0.0, "staleness_exponent": 0.0}
    visits = jnp.asarray([0, 1, 3, 7], jnp.int32)
    for exponent in (0.0, 1.0, 2.0):
        sampler = views.make(ViewsConfig(**settings, coverage_exponent=exponent))
        state = sampler.init(jax.random.key(0))._replace(visits=visits)
        share = (1.0 + np.asarray(visits)) ** -exponent
        expected = 0.8 * share / share.sum() + 0.2 / 4
        np.testing.assert_allclose(sampler.probabilities(state), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="coverage_exponent"):
        ViewsConfig(**settings, coverage_exponent=-1.0)


@pytest.mark.parametrize("shape", ["normal", "interval"])
def test_points_are_unbiased_for_the_mean_along_the_ray(shape):
    config = DepthGuidedConfig(num_samples=8, shape=shape)
    sampler = depth_guided.make(config)
    depth = jnp.asarray([2.0, 1.05, 5.9, jnp.nan, -3.0, 40.0, 3.0])
    sigma = jnp.asarray([0.3, 0.5, 0.5, 0.3, 0.3, 0.3, 1e-9])
    state = sampler.init(jax.random.key(0), depth, sigma)
    query = RayQuery(jnp.arange(7), jnp.full(7, 1.0), jnp.full(7, 6.0))

    def loss(model, t):  # of a small model along the ray, and its gradient by the model
        return (model[0] * jnp.cos(t) + model[1] * t - jnp.sin(3.0 * t)) ** 2

    by_model = jax.vmap(jax.vmap(jax.value_and_grad(loss), (None, 0)), (None, 0))
    model = jnp.asarray([0.7, -0.2])

    def estimate(key):
        draw = sampler.sample(key, state, query)
        value, slope = by_model(model, draw.items.t)
        every = jnp.concatenate([value[..., None], slope], axis=-1)
        return jnp.mean(draw.weights[..., None] * every, axis=1)

    keys = jax.random.split(jax.random.key(1), 4000)
    t = np.linspace(1, 6, 200001)
    residual = 0.7 * np.cos(t) - 0.2 * t - np.sin(3 * t)
    every = np.stack([residual**2, 2 * residual * np.cos(t), 2 * residual * t])
    exact = np.trapezoid(every, t) / 5
    assert_mean_close(jax.jit(jax.vmap(estimate))(keys), np.tile(exact, (7, 1)))
    draw = sampler.sample(jax.random.key(2), state, query)
    assert float(jnp.max(draw.weights)) <= 2.0 * (1 + 1e-4)
    np.testing.assert_allclose(draw.weights[3:6], 1.0, rtol=1e-5)
    assert np.mean(np.abs(np.asarray(draw.items.t[0]) - 2.0) < 1.0) >= 0.5


def test_rendered_depth_moves_the_prior_when_asked():
    sampler = depth_guided.make(DepthGuidedConfig(num_samples=4, decay=0.5))
    state = sampler.init(jax.random.key(0), jnp.asarray([2.0, jnp.nan, 3.0]), jnp.ones(3))
    draw = Draw(RayPoints(jnp.arange(3), jnp.ones((3, 4))), jnp.ones((3, 4)), jnp.ones((3, 4)))
    after = sampler.update(state, draw, Feedback(jnp.asarray([4.0, 5.0, jnp.nan])))
    np.testing.assert_allclose(after.depth, [3.0, 5.0, 3.0])
    frozen = depth_guided.make(DepthGuidedConfig(num_samples=4))
    same = frozen.update(state, draw, Feedback(jnp.ones(3)))
    np.testing.assert_array_equal(same.depth, state.depth)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"guided_fraction": 1.0}, "below 1"),
        ({"shape": "gauss"}, "shape"),
        ({"min_sigma": 0.0}, "min_sigma"),
        ({"num_samples": 0}, "num_samples"),
    ],
)
def test_impossible_point_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DepthGuidedConfig(**{"num_samples": 4, **settings})


def test_weights_of_starts_are_relative_to_the_bins_that_may_be_started_in():
    sampler = make_sampler(
        "failure_bins", {"clip_frames": (200,), "batch_size": 64, "correction": 1.0}
    )
    valid = jnp.array([True, True, False, False])
    draw = sampler.sample(jax.random.key(1), sampler.init(jax.random.key(0), valid))
    np.testing.assert_allclose(draw.weights, 1.0, rtol=1e-5)


def test_a_depth_of_which_nothing_is_known_guides_nothing():
    sampler = make_sampler("depth_guided", {"num_samples": 16})
    state = sampler.init(jax.random.key(0), jnp.full(4, 4.0), jnp.full(4, jnp.inf))
    query = RayQuery(jnp.arange(4, dtype=jnp.int32), jnp.full(4, 2.0), jnp.full(4, 6.0))
    draw = sampler.sample(jax.random.key(1), state, query)
    np.testing.assert_allclose(draw.probs, 0.25, rtol=1e-5)


@pytest.mark.parametrize("name", ["views_farthest", "depth_guided", "failure_bins"])
def test_what_the_caller_gives_is_not_donated_with_the_state(name):
    given = {
        "views_farthest": [jnp.zeros((70, 3))],
        "depth_guided": [jnp.ones(4), jnp.ones(4)],
        "failure_bins": [jnp.ones(13, bool)],
    }[name]
    sizes = {
        "views_farthest": {"num_views": 70, "batch_size": 4},
        "depth_guided": {"num_samples": 4},
        "failure_bins": {"clip_frames": (650,), "batch_size": 4},
    }[name]
    state = make_sampler(name, sizes).init(jax.random.key(0), *given)
    jax.jit(lambda state: jax.tree.map(lambda leaf: leaf, state), donate_argnums=0)(state)
    assert not any(array.is_deleted() for array in given)
