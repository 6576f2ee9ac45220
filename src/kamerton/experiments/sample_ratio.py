"""Do the arms get the share of units that they should? A test that may be looked at every day.

When a 50/50 experiment has 40/60 of the units, something loses units of one arm (a crash, a
timeout, a cache, a bot), and the units that are left are not comparable. The effect is then hidden,
however good it looks. A chi-square test looked at daily alarms falsely too often; this one is valid
at every look.

`kamerton experiment report` calls `check_sample_ratio(daily, shares)` with the new units per day
and arm (`count_new_units` makes them of exposures) and hides every effect where `fired` is true.

Source: Lindon and Malek, "Anytime-valid inference for multinomial count data" (2022, arXiv
2011.03567): the Bayes factor of a Dirichlet-multinomial, whose prior is centred at the planned
shares w with concentration c, against the multinomial with exactly those shares. Over counts n_k
with sum n it is

    B = [Gamma(c) / Gamma(c + n)] * product of Gamma(c w_k + n_k) / Gamma(c w_k) / w_k^n_k

and p = the running minimum of 1 / B. Taking the days one after another, with the posterior of one
day as the prior of the next, gives the same B as all days together.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from kamerton.experiments.outcomes import Floats, first_arms

__all__ = [
    "ALARM",
    "SampleRatio",
    "check_sample_ratio",
    "concentration_for",
    "count_new_units",
    "p_values_by_day",
]

ALARM = 0.01
"""The alarm goes off below this p-value: at most one false alarm in 100 experiments."""

_SMALL, _LARGE = (500.0, 200.0), (25_000.0, 10_000.0)


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """What the test of the arms' shares found.

    Attributes:
        p_value: The smallest p-value up to today, in (0, 1].
        fired: Whether it ever was below the alarm. It then stays so.
        counts: Units per arm.
        expected: Units per arm that the planned shares foretell; of a stopped arm, what it has.
        concentration: Of the prior.
    """

    p_value: float
    fired: bool
    counts: tuple[int, ...]
    expected: tuple[float, ...]
    concentration: float


def concentration_for(units_per_day: float) -> float:
    """Choose how small the deviations are that the test looks for.

    With little traffic only large deviations can be seen at all, and a prior that waits for small
    ones finds them late: at 50 units a day half of all 60/40 splits are seen by day 34 with
    GrowthBook's concentration of 10,000, and by day 8 with 200.

    Args:
        units_per_day: New units a day, all arms together; from the plan, not from the counts that
            are tested.

    Returns:
        200 up to 500 units a day, then in proportion to the traffic up to 10,000.
    """
    (low, least), (high, most) = _SMALL, _LARGE
    return float(np.interp(units_per_day, [low, high], [least, most]))


def check_sample_ratio(
    daily: ArrayLike,
    shares: Sequence[float],
    *,
    stopped: Collection[int] = (),
    concentration: float = 200.0,
    alarm: float = ALARM,
) -> SampleRatio:
    """Test whether the arms got their planned shares of new units.

    Args:
        daily: New units per day and arm, [days, K].
        shares: Planned shares or weights of the arms, each above 0; they need not sum to 1.
        stopped: Places of arms that get no units any more. The others are tested among
            themselves: whatever comes to them has their shares.
        concentration: From `concentration_for`.
        alarm: The p-value below which the alarm goes off.

    Returns:
        The test's state after the last day.
    """
    counts = np.asarray(daily, np.float64).reshape(-1, len(shares))
    tested = [place for place in range(len(shares)) if place not in stopped]
    planned = np.asarray(shares, np.float64)[tested]
    planned = planned / planned.sum()
    among, total = counts[:, tested], counts.sum(axis=0)
    lowest = float(p_values_by_day(among, planned.tolist(), concentration).min(initial=1.0))
    expected = total.copy()
    expected[tested] = planned * among.sum()
    return SampleRatio(
        lowest,
        lowest < alarm,
        tuple(int(count) for count in total),
        tuple(float(value) for value in expected),
        concentration,
    )


def p_values_by_day(daily: Floats, shares: Sequence[float], concentration: float) -> Floats:
    """Follow the p-value through the days.

    Args:
        daily: New units per day and arm, [..., days, K].
        shares: Planned shares or weights of the arms, [K].
        concentration: Of the prior.

    Returns:
        The p-value after each day, [..., days], not yet its running minimum.
    """
    planned = np.asarray(shares, np.float64) / sum(shares)
    prior, counts = concentration * planned, np.cumsum(daily, axis=-2)
    seen = counts.sum(axis=-1)
    log_factor = gammaln(concentration) - gammaln(concentration + seen)
    log_factor += (gammaln(prior + counts) - gammaln(prior) - counts * np.log(planned)).sum(axis=-1)
    p_values: Floats = np.exp(np.minimum(-log_factor, 0.0))
    return p_values


def count_new_units(
    units: Sequence[str] | NDArray[Any],
    arms: Sequence[str] | NDArray[Any],
    days: Sequence[int],
    names: Sequence[str],
) -> Floats:
    """Count the units that were seen for the first time, per day and arm.

    Args:
        units: The unit of each exposure, [r].
        arms: Its arm, [r]. A unit seen in two arms counts in the earlier one.
        days: Its day as a number, [r].
        names: All arms, [K].

    Returns:
        Counts from the first day to the last, [days, K], days without new units among them.
    """
    if not len(days):
        return np.zeros((0, len(names)))
    when, which = first_arms(units, arms, days)
    counts = np.zeros((int(np.max(days)) - int(when.min()) + 1, len(names)))
    for place, name in enumerate(names):
        counts[:, place] = np.bincount(when[which == name] - when.min(), minlength=len(counts))
    return counts
