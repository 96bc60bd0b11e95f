"""Statistical assertions whose tolerance follows the sample size; nobody tunes them."""

import numpy as np
from scipy import stats


def assert_mean_close(samples, expected, *, sigmas=5.0, axis=0):
    """The mean over `axis` is within so many of its own standard errors of `expected`."""
    samples = np.asarray(samples, np.float64)
    n = samples.shape[axis]
    error = samples.std(axis=axis, ddof=1) / np.sqrt(n)
    gap = np.abs(samples.mean(axis=axis) - np.asarray(expected, np.float64))
    scale = np.abs(np.asarray(expected, np.float64)) + np.abs(samples).mean(axis=axis)
    worst = np.max(gap - sigmas * error - 1e-6 * scale)
    assert worst <= 0, f"mean off by {np.max(gap / np.maximum(error, 1e-300)):.1f} standard errors"


def assert_frequencies(counts, probs, *, p=1e-6, least=5.0):
    """Counts pass a chi-square test against probabilities; items of probability 0 have none.

    Items expected fewer than `least` times are pooled.
    """
    counts, probs = np.asarray(counts, np.float64), np.asarray(probs, np.float64)
    assert counts[probs <= 0].sum() == 0, "an item of probability 0 was drawn"
    expected = probs / probs.sum() * counts.sum()
    is_rare = (expected < least) & (probs > 0)
    observed = np.append(counts[~is_rare & (probs > 0)], counts[is_rare].sum())
    wanted = np.append(expected[~is_rare & (probs > 0)], expected[is_rare].sum())
    observed, wanted = observed[wanted > 0], wanted[wanted > 0]
    if observed.size < 2:
        return
    chi2 = np.sum((observed - wanted) ** 2 / wanted)
    value = stats.chi2.sf(chi2, observed.size - 1)
    assert value > p, f"chi-square {chi2:.1f} with {observed.size - 1} degrees: p = {value:.2g}"


def assert_uniform(values, *, p=1e-6):
    """Values pass a Kolmogorov-Smirnov test for the uniform distribution on [0, 1]."""
    value = stats.kstest(np.asarray(values, np.float64).ravel(), "uniform").pvalue
    assert value > p, f"not uniform: p = {value:.2g}"


def assert_frequencies_reject(counts, probs):
    """The chi-square test does tell these apart; guards the guard."""
    try:
        assert_frequencies(counts, probs)
    except AssertionError:
        return
    raise AssertionError("expected the chi-square test to reject")
