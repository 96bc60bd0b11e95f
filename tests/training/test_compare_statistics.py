"""The numbers a comparison rests on, against closed forms."""

import math
import statistics as reference

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training import compare_statistics as statistics

_CURVE = [[10, 1.0, 10.0], [20, 2.5, 20.0], [40, 6.0, 18.0], [80, 9.0, 30.0]]
_NUMBERS = st.lists(st.floats(-50, 50), min_size=2, max_size=6)


@given(_NUMBERS)
def test_spread_is_mean_and_sample_deviation(values):
    found = statistics.spread(values)
    assert found.mean == pytest.approx(reference.fmean(values), abs=1e-9)
    assert found.deviation == pytest.approx(reference.stdev(values), abs=1e-6)


def test_spread_of_one_has_no_deviation_and_of_none_no_value():
    assert statistics.spread([3.0]) == statistics.Spread(3.0, None, 1)
    assert statistics.spread([]).text() == "not reached"
    assert math.isnan(statistics.spread([]).mean)


@pytest.mark.parametrize(
    ("target", "steps", "seconds"),
    [
        (5.0, 10.0, 1.0),
        (15.0, 15.0, 1.75),
        (20.0, 20.0, 2.5),
        (24.0, 60.0, 7.5),
        (31.0, None, None),
    ],
)
def test_crossing_interpolates_the_first_time(target, steps, seconds):
    assert statistics.crossing(_CURVE, target, axis=0) == steps
    assert statistics.crossing(_CURVE, target, axis=1) == seconds


@given(st.floats(10.0, 30.0))
def test_value_at_the_crossing_is_the_target(target):
    place = statistics.crossing(_CURVE, target, axis=1)
    assert place is not None
    assert statistics.value_at(_CURVE, place, axis=1) == pytest.approx(target, abs=1e-6)


def test_value_at_is_constant_beyond_the_ends():
    assert statistics.value_at(_CURVE, 0.0, axis=1) == 10.0
    assert statistics.value_at(_CURVE, 99.0, axis=1) == 30.0


def test_common_target_is_reached_by_all():
    other = [[10, 1.0, 9.0], [80, 9.0, 25.37]]
    assert statistics.common_target([_CURVE, other]) == 25.3


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ([2.0, 2.1, 1.9], "better"),
        ([-2.0, -2.1, -1.9], "worse"),
        ([2.0, -2.1, 0.3], "no clear difference"),
        ([5.0], "one seed"),
    ],
)
def test_verdicts_are_plain(values, outcome):
    verdict = statistics.judge([10.0 + value for value in values], [10.0] * len(values))
    assert verdict.outcome == outcome
    text = statistics.sentence("new", "old", verdict, "at equal rays")
    words = {
        "better": "new is better than old",
        "worse": "new is worse than old",
        "no clear difference": "do not differ clearly",
        "one seed": "One seed only",
    }
    assert words[outcome] in text


@given(_NUMBERS, _NUMBERS)
def test_judging_is_antisymmetric(a, b):
    size = min(len(a), len(b))
    a, b = a[:size], b[:size]
    mirror = {"better": "worse", "worse": "better"}
    there, back = statistics.judge(a, b).outcome, statistics.judge(b, a).outcome
    assert back == mirror.get(there, there)


def test_mean_height_is_the_integral_over_steps():
    # trapezoids by hand: (10 + 20) / 2 * 10 + (20 + 18) / 2 * 20 over 30 steps
    assert statistics.mean_height(_CURVE, end=40) == pytest.approx((150 + 380) / 30)
    assert statistics.mean_height(_CURVE, end=30) == pytest.approx((150 + 195) / 20)
    assert statistics.mean_height(_CURVE[:1], end=10) == 10.0


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12))
def test_the_sign_test_is_scipys(signs):
    scipy_stats = pytest.importorskip("scipy.stats")
    count = sum(sign != 0 for sign in signs)
    expected = 1.0
    if count:
        expected = scipy_stats.binomtest(sum(sign > 0 for sign in signs), count).pvalue
    assert statistics.sign_test([float(sign) for sign in signs]) == pytest.approx(expected)


def test_for_three_seeds_the_bootstrap_is_too_narrow_and_t_is_not():
    rng, count = np.random.default_rng(0), 400
    verdicts = [statistics.judge(rng.normal(size=3), np.zeros(3)) for _ in range(count)]
    covered = [
        np.mean([low <= 0.0 <= high for low, high in intervals])
        for intervals in zip(*((v.interval, v.bootstrap) for v in verdicts), strict=True)
    ]
    # within four standard errors: 0.95 for Student's t, three of four for the bootstrap
    assert covered[0] == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / count))
    assert covered[1] == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / count))


def test_the_bootstrap_agrees_with_scipys():
    scipy_stats = pytest.importorskip("scipy.stats")
    values = [0.3, 1.2, -0.4, 0.9, 2.0, 0.1]
    low, high = statistics.bootstrap_interval(values)
    found = scipy_stats.bootstrap(
        (values,), np.mean, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert low == pytest.approx(found.low, abs=0.05)
    assert high == pytest.approx(found.high, abs=0.05)
