"""What a comparison says: values per sampler, paired differences, and a plain verdict.

A curve is a list of [step, seconds, value]; between its points it is a straight line.

The verdict is that of the 95 % interval of the paired mean difference by Student's t. Beside it
stand a bootstrap interval of the same mean and an exact sign test; with few seeds the bootstrap is
too narrow (three seeds have only ten different resamples) and the sign test cannot be small (three
seeds: 0.25 at least), which is why neither decides.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

_RESAMPLES = 10_000

Curve = Sequence[Sequence[float]]


class Spread(NamedTuple):
    """Mean and standard deviation over seeds."""

    mean: float
    deviation: float | None
    """None for fewer than two values."""
    count: int

    def text(self, digits: int = 2) -> str:
        """Mean, and the deviation when there is one."""
        if not self.count:
            return "not reached"
        spread = "" if self.deviation is None else f" ± {self.deviation:.{digits}f}"
        return f"{self.mean:,.{digits}f}{spread}"


class Verdict(NamedTuple):
    """How a sampler did against the baseline, seed by seed."""

    difference: Spread
    outcome: str
    """"better", "worse", "no clear difference" or "one seed"."""
    interval: tuple[float, float] | None = None
    """95 % interval of the mean difference by Student's t; None for one seed."""
    bootstrap: tuple[float, float] | None = None
    """95 % bootstrap interval of the mean difference; None for one seed."""
    sign_test: float | None = None
    """Two-sided p of the signs; None for one seed."""


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation."""
    if not values:
        return Spread(float("nan"), None, 0)
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Spread(mean, None, len(values))
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return Spread(mean, math.sqrt(variance), len(values))


def crossing(curve: Curve, target: float, *, axis: int) -> float | None:
    """Where a curve first reaches `target`: in steps (axis 0) or seconds (axis 1).

    Returns None when it never does. A curve that starts above the target reached it at its first
    point at the latest, so that point is the answer.
    """
    for index, point in enumerate(curve):
        if point[2] >= target:
            if index == 0:
                return float(point[axis])
            before = curve[index - 1]
            share = (target - before[2]) / (point[2] - before[2])
            return float(before[axis] + share * (point[axis] - before[axis]))
    return None


def value_at(curve: Curve, place: float, *, axis: int) -> float:
    """A curve's value at a step (axis 0) or second (axis 1); constant beyond its ends."""
    if place <= curve[0][axis]:
        return float(curve[0][2])
    for before, after in itertools.pairwise(curve):
        if place <= after[axis]:
            share = (place - before[axis]) / max(after[axis] - before[axis], 1e-12)
            return float(before[2] + share * (after[2] - before[2]))
    return float(curve[-1][2])


def mean_height(curve: Curve, *, end: float) -> float:
    """Mean of a curve over its steps from its first point to step `end`."""
    places = [point[0] for point in curve if point[0] < end] + [end]
    heights = [value_at(curve, place, axis=0) for place in places]
    if places[-1] <= places[0]:
        return heights[0]
    return float(np.trapezoid(heights, places) / (places[-1] - places[0]))


def common_target(curves: Sequence[Curve], *, step: float = 0.1) -> float:
    """The highest multiple of `step` that every curve reaches."""
    reached = min(max(point[2] for point in curve) for curve in curves)
    return round(math.floor(reached / step + 1e-9) * step, 6)


def judge(values: Sequence[float], baseline: Sequence[float]) -> Verdict:
    """Compares paired values, larger is better."""
    differences = [a - b for a, b in zip(values, baseline, strict=True)]
    difference = spread(differences)
    if difference.deviation is None:
        return Verdict(difference, "one seed")
    degrees = difference.count - 1
    quantile = float(special.stdtrit(degrees, 0.975))
    margin = quantile * difference.deviation / math.sqrt(difference.count)
    outcome = "no clear difference"
    if difference.mean > margin:
        outcome = "better"
    elif difference.mean < -margin:
        outcome = "worse"
    return Verdict(
        difference,
        outcome,
        interval=(difference.mean - margin, difference.mean + margin),
        bootstrap=bootstrap_interval(differences),
        sign_test=sign_test(differences),
    )


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean; always the same for the same values."""
    chosen = np.random.default_rng(0).integers(0, len(values), (_RESAMPLES, len(values)))
    low, high = np.quantile(np.asarray(values)[chosen].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def sign_test(differences: Sequence[float]) -> float:
    """Two-sided exact probability of signs at least this uneven by chance; ties are left out."""
    ups, downs = (sum(sign * value > 0 for value in differences) for sign in (1, -1))
    count = ups + downs
    tail = sum(math.comb(count, k) for k in range(min(ups, downs) + 1)) / 2**count
    return min(1.0, 2.0 * tail)


def shown(verdict: Verdict, *, scale: float, digits: int) -> str:
    """Gives a difference, times `scale`, and its interval as a cell of a table."""
    text = f"{scale * verdict.difference.mean:+.{digits}f}"
    if verdict.interval is None:
        return text
    low, high = (scale * end for end in verdict.interval)
    return f"{text} ({low:+.{digits}f} to {high:+.{digits}f})"


def sentence(
    name: str,
    baseline: str,
    verdict: Verdict,
    what: str,
    *,
    unit: str = "dB",
    scale: float = 1.0,
    digits: int = 2,
) -> str:
    """Says a verdict in words; differences are multiplied by `scale` and followed by `unit`."""
    gain = f"{scale * verdict.difference.mean:+.{digits}f} {unit}".rstrip()
    if verdict.interval is None:
        return (
            f"{name} against {baseline}, {what}: {gain}. One seed only, so how much of this is "
            "chance is unknown; use --seeds 3 or more."
        )
    words = {
        "better": f"{name} is better than {baseline}",
        "worse": f"{name} is worse than {baseline}",
        "no clear difference": f"{name} and {baseline} do not differ clearly",
    }[verdict.outcome]
    low, high = (scale * end for end in verdict.interval)
    return (
        f"{words}, {what}: {gain} over {verdict.difference.count} paired seeds "
        f"(95 % interval {low:+.{digits}f} to {high:+.{digits}f})."
    )
