"""What a comparison says: values per sampler, paired differences, and a plain verdict.

A curve is a list of [step, seconds, PSNR]; between its points it is a straight line.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

# two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom
_T95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)
_T95_LARGE = 2.0

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
    """A curve's PSNR at a step (axis 0) or second (axis 1); constant beyond its ends."""
    if place <= curve[0][axis]:
        return float(curve[0][2])
    for before, after in itertools.pairwise(curve):
        if place <= after[axis]:
            share = (place - before[axis]) / max(after[axis] - before[axis], 1e-12)
            return float(before[2] + share * (after[2] - before[2]))
    return float(curve[-1][2])


def common_target(curves: Sequence[Curve]) -> float:
    """The highest PSNR, to a tenth of a dB, that every curve reaches."""
    return math.floor(min(max(point[2] for point in curve) for curve in curves) * 10.0) / 10.0


def judge(values: Sequence[float], baseline: Sequence[float]) -> Verdict:
    """Compares paired values, larger is better, by the 95 % interval of the mean difference."""
    difference = spread([a - b for a, b in zip(values, baseline, strict=True)])
    if difference.deviation is None:
        return Verdict(difference, "one seed")
    degrees = difference.count - 1
    quantile = _T95[degrees - 1] if degrees <= len(_T95) else _T95_LARGE
    margin = quantile * difference.deviation / math.sqrt(difference.count)
    if difference.mean > margin:
        return Verdict(difference, "better")
    if difference.mean < -margin:
        return Verdict(difference, "worse")
    return Verdict(difference, "no clear difference")


def sentence(
    name: str, baseline: str, verdict: Verdict, what: str, *, unit: str = " dB", scale: float = 1.0
) -> str:
    """Says a verdict in words; the difference is multiplied by `scale` and followed by `unit`."""
    gain = f"{scale * verdict.difference.mean:+.2f}{unit}"
    if verdict.outcome == "one seed":
        return (
            f"{name} against {baseline}, {what}: {gain}. One seed only, so how much of this is "
            "chance is unknown; use --seeds 3 or more."
        )
    words = {
        "better": f"{name} is better than {baseline}",
        "worse": f"{name} is worse than {baseline}",
        "no clear difference": f"{name} and {baseline} do not differ clearly",
    }[verdict.outcome]
    return f"{words}, {what}: {gain} over {verdict.difference.count} paired seeds (95 % interval)."
