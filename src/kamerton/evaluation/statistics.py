"""Paired statistics: intervals and tests for variants that answered the same items.

Every metric here is a function of sums over items: an item contributes a row of numbers, its
features, and `finish` turns their sums into the metric. Resampling items is then one matrix
product for all variants together, and swapping two variants' answers is another. Where items come
in groups that are not independent, the caller passes one row per group (`sum_groups`).

Letters: n rows, K features, R resamples, V variants.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtr, ndtri

from kamerton.core.seeds import derive_seed

__all__ = [
    "Finish",
    "Floats",
    "Interval",
    "McNemar",
    "bootstrap",
    "bootstrap_interval",
    "mcnemar",
    "paired_interval",
    "permutation_p",
    "sum_groups",
    "wilson",
]

Floats = NDArray[np.float64]

Finish = Callable[[Floats], Floats]
"""Turns sums of features, [..., K], into values of the metric, [...]."""

_NUMBERS_PER_CHUNK = 4_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, `low` <= `high`."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class McNemar:
    """How two variants disagree on items that each gets right or wrong.

    Attributes:
        only_a: Items that only the first gets right.
        only_b: Items that only the second gets right.
        p_value: Exact two-sided mid-p, in (0, 1].
    """

    only_a: int
    only_b: int
    p_value: float


def wilson(successes: int, n: int, confidence_level: float = 0.95) -> Interval:
    """Bound a share by Wilson's score interval, without continuity correction.

    Args:
        successes: 0 to n.
        n: At least 1.
        confidence_level: Coverage in (0, 1).

    Returns:
        An interval in [0, 1] that contains successes / n (E. B. Wilson, 1927).
    """
    assert n > 0
    assert 0 <= successes <= n
    z = _quantile(confidence_level)
    share = successes / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # Rounding must not push an end past the share itself at 0 and at n.
    low = min(max((centre - half) / scale, 0.0), share)
    high = max(min((centre + half) / scale, 1.0), share)
    return Interval(0.0 if successes == 0 else low, 1.0 if successes == n else high)


def mcnemar(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> McNemar:
    """Test whether two variants are right equally often, on the same items.

    The exact conditional test with the mid-p correction: half the probability of the observed
    split is left out, which makes it less timid than the exact test (Fagerland et al., 2013).

    Args:
        a: Whether the first is right, [n].
        b: Whether the second is right, [n].

    Returns:
        The disagreements and the p-value; 1 when they never disagree.
    """
    only_a = int(np.sum(a & ~b))
    only_b = int(np.sum(b & ~a))
    num, fewer = only_a + only_b, min(only_a, only_b)
    if num == 0:
        return McNemar(0, 0, 1.0)
    # Both tails, 2 P(X <= fewer), less the whole probability of the observed split.
    p_value = bdtr(fewer, num, 0.5) + (bdtr(fewer - 1, num, 0.5) if fewer else 0.0)
    return McNemar(only_a, only_b, min(float(p_value), 1.0))


def paired_interval(only_a: int, only_b: int, n: int, confidence_level: float = 0.95) -> Interval:
    """Bound the difference of two shares measured on the same items.

    Wald's interval with one imagined item added to each kind of disagreement (Bonett and Price,
    2012). Unlike a bootstrap it stays honest when the variants never disagree.

    Args:
        only_a: Items that only the first gets right.
        only_b: Items that only the second gets right.
        n: All items.
        confidence_level: Coverage in (0, 1).

    Returns:
        An interval in [-1, 1] for the first share minus the second, containing the observed one.
    """
    first, second = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    centre, observed = first - second, (only_a - only_b) / n
    half = _quantile(confidence_level) * math.sqrt((first + second - centre**2) / (n + 2))
    return Interval(min(max(centre - half, -1.0), observed), max(min(centre + half, 1.0), observed))


def sum_groups(features: Floats, groups: Sequence[Hashable]) -> Floats:
    """Add up the rows of each group, since whole groups are resampled.

    Args:
        features: [n, K].
        groups: One key per row, n of them.

    Returns:
        One row per group in order of first appearance, [groups, K].
    """
    positions: dict[Hashable, int] = {}
    index = [positions.setdefault(group, len(positions)) for group in groups]
    sums = np.zeros((len(positions), features.shape[1]))
    np.add.at(sums, index, features)
    return sums


def bootstrap(features: Sequence[Floats], finish: Finish, resamples: int, seed: int) -> Floats:
    """Draw rows with replacement, the same draws for every variant.

    Args:
        features: Per variant [n, K], with n >= 1.
        finish: Makes the metric.
        resamples: How many draws, R.
        seed: Fixes the draws.

    Returns:
        The metric of every resample and variant, [R, V]. Differences of columns are paired.
    """
    rng = np.random.default_rng(derive_seed(seed, "bootstrap"))
    n, width = features[0].shape
    joined = np.concatenate(features, axis=1)
    parts = []
    for size in _chunks(resamples, n):
        draws = rng.integers(n, size=(size, n)) + np.arange(size)[:, None] * n
        weights = np.bincount(draws.ravel(), minlength=size * n).reshape(size, n)
        sums = weights.astype(np.float64) @ joined
        parts.append(finish(sums.reshape(size, len(features), width)))
    return np.concatenate(parts)


def bootstrap_interval(
    samples: Floats, estimate: float, confidence_level: float = 0.95
) -> Interval:
    """Make an interval of resampled values: bias-corrected percentiles (Efron, 1981).

    Known gap: macro-F1 over many classes with fewer than ten items each is estimated too low, and
    its 95 % interval then contains the truth in about 85 of 100 cases.

    Args:
        samples: Values of the resamples, [R]; NaN where the metric was undefined.
        estimate: The value on the real items.
        confidence_level: Coverage in (0, 1).

    Returns:
        The interval, widened where needed to contain the estimate.
    """
    samples = samples[~np.isnan(samples)]
    if not len(samples):
        return Interval(estimate, estimate)
    # Ties count half, so that a coarse metric is not taken for a biased one.
    below = np.mean(samples < estimate - 1e-12) + np.mean(np.abs(samples - estimate) <= 1e-12) / 2
    margin = 1 / (2 * len(samples))
    bias = float(ndtri(np.clip(below, margin, 1 - margin)))
    z = _quantile(confidence_level)
    low, high = np.quantile(samples, [ndtr(2 * bias - z), ndtr(2 * bias + z)])
    return Interval(min(float(low), estimate), max(float(high), estimate))


def permutation_p(a: Floats, b: Floats, finish: Finish, resamples: int, seed: int) -> float:
    """Test whether two variants differ, by swapping their answers to random items.

    For a mean this is the sign-flip test of the paired differences.

    Args:
        a: The first variant's features, [n, K].
        b: The second variant's, for the same items.
        finish: Makes the metric.
        resamples: How many random swaps, R.
        seed: Fixes the swaps.

    Returns:
        Two-sided p-value in (0, 1]: the share of swaps, the real one counted among them, with a
        difference at least as large.
    """
    rng = np.random.default_rng(derive_seed(seed, "swaps"))
    change = b - a
    # Rows on which both agree swap to themselves.
    change = change[np.any(change != 0, axis=1)]
    total_a, total_b = a.sum(axis=0), b.sum(axis=0)
    observed = abs(float(finish(total_a) - finish(total_b)))
    if not len(change):
        return 1.0
    as_large = 1
    for size in _chunks(resamples, len(change)):
        swaps = rng.integers(2, size=(size, len(change))).astype(np.float64) @ change
        differences = np.abs(finish(total_a + swaps) - finish(total_b - swaps))
        as_large += int(np.sum(differences >= observed - 1e-12))
    return as_large / (resamples + 1)


def _quantile(confidence_level: float) -> float:
    assert 0 < confidence_level < 1
    return float(ndtri((1 + confidence_level) / 2))


def _chunks(resamples: int, n: int) -> list[int]:
    """Split resamples so that a chunk's weights take some tens of megabytes."""
    most = max(1, _NUMBERS_PER_CHUNK // n)
    whole, rest = divmod(resamples, most)
    return [most] * whole + ([rest] if rest else [])
