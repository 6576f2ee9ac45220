"""The difference of two arms with its standard error, computed by unit.

`compare(control, treated)` is what `kamerton experiment report` calls for each metric and arm. Its
standard error treats units as independent, not requests. The delta method does so for a ratio of
sums R = sum(Y) / sum(N):

    Var(R) = Var(Y - R N) / (n mean(N)^2) = (Var(Y) + R^2 Var(N) - 2 R Cov(Y, N)) / (n mean(N)^2)

(Deng, Knoblich and Lu, 2018, arXiv 1803.06336, section 3.1). Where something was known of the units
before the experiment, CUPED takes away what it foretells: R - theta (mean(X) - mean of X over both
arms), with theta = Cov / Var over both arms (Deng, Xu, Kohavi and Walker, 2013).

How many standard errors an interval is wide is decided elsewhere: in `sequential`, since somebody
looks at the numbers every day.
"""

import math
from dataclasses import dataclass

import numpy as np

from kamerton.experiments.outcomes import ArmOutcomes, Floats

__all__ = ["Effect", "Interval", "compare"]


_ROUNDING = 1e-12
"""A standard error below this part of the values comes of rounding sums of equal numbers."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, `low` <= `high`; an end may be infinite."""

    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Tell whether a value lies outside."""
        return value < self.low or value > self.high


@dataclass(frozen=True, slots=True)
class Effect:
    """How a metric differs between an arm and the control.

    Attributes:
        arm: The arm's name.
        control: The control's name.
        value: The metric of the arm, after CUPED where that was used.
        control_value: The metric of the control.
        difference: `value` less `control_value`.
        standard_error: Of the difference, in the metric's own unit.
        log_ratio_error: Standard error of log(value / control_value); None unless both are
            above 0.
        units: Units of the control and of the arm.
        requests: Their requests.
        explained: Share of the variance that CUPED took away, 0 to 1.
        is_exact: Whether the difference is known without error: all units of an arm have the same
            value, and that is no chance.
    """

    arm: str
    control: str
    value: float
    control_value: float
    difference: float
    standard_error: float
    log_ratio_error: float | None
    units: tuple[int, int]
    requests: tuple[int, int]
    explained: float = 0.0
    is_exact: bool = False

    @property
    def relative(self) -> float | None:
        """The difference as a share of the control's value; None unless both are above 0."""
        return self.value / self.control_value - 1 if self.log_ratio_error is not None else None

    @property
    def statistic(self) -> float:
        """The difference in standard errors; 0 where the standard error is 0."""
        return self.difference / self.standard_error if self.standard_error > 0 else 0.0

    def interval(self, multiplier: float) -> Interval:
        """Bound the difference.

        Args:
            multiplier: Half the width in standard errors, from `sequential`; may be infinite.

        Returns:
            The interval. Where all units are the same, it is one number if that is no chance; else
            it is endless, as they bound nothing.
        """
        if self.is_exact and not math.isinf(multiplier):
            return Interval(self.difference, self.difference)
        if math.isinf(multiplier) or not self.standard_error > 0:
            return Interval(-math.inf, math.inf)
        half = multiplier * self.standard_error
        return Interval(self.difference - half, self.difference + half)

    def relative_interval(self, multiplier: float) -> Interval | None:
        """Bound the relative difference, on the scale of logarithms: never below -1.

        Args:
            multiplier: Half the width in standard errors, from `sequential`; may be infinite.

        Returns:
            The interval, or None where there is no relative difference.
        """
        relative, error = self.relative, self.log_ratio_error
        if relative is None or error is None:
            return None
        if self.is_exact and not math.isinf(multiplier):
            return Interval(relative, relative)
        if math.isinf(multiplier) or not error > 0:
            return Interval(-1.0, math.inf)
        # 700 is as far as an exponential goes in floating point.
        factor = math.exp(min(multiplier * error, 700.0))
        return Interval((1 + relative) / factor - 1, (1 + relative) * factor - 1)


def compare(
    control: ArmOutcomes,
    treated: ArmOutcomes,
    *,
    bounds: tuple[float, float] | None = None,
    determined: bool = False,
) -> Effect:
    """Compare an arm with the control.

    Args:
        control: The control's outcomes, of at least two units.
        treated: The arm's outcomes, of at least two units.
        bounds: The lowest and highest possible outcome, such as (0, 1) for yes or no. Two imagined
            units per arm, one at each end, then count towards the standard error alone, so that 50
            units without a single failure are not taken as proof that there never is one (after
            Agresti and Caffo, 2000).
        determined: Whether outcomes follow from a rule, as costs do from prices: when all units of
            an arm have the same value, the next ones have it too.

    Returns:
        The effect, arm less control; with CUPED where both arms have a covariate that varies.
    """
    assert control.num_units > 1
    assert treated.num_units > 1
    plain = (control.value, treated.value)
    residuals = (control.residuals, treated.residuals)
    shifts, adjusted = _cuped(control, treated, residuals)
    values = (plain[0] - shifts[0], plain[1] - shifts[1])
    variances = [
        _variance_of_value(row, value, bounds) for row, value in zip(adjusted, plain, strict=True)
    ]
    before = sum(_variance_of_value(row, 0.0, None) for row in residuals)
    after = sum(_variance_of_value(row, 0.0, None) for row in adjusted)
    error, difference, log_error = math.sqrt(sum(variances)), values[1] - values[0], None
    if min(values) > 0:
        log_error = math.sqrt(variances[0] / values[0] ** 2 + variances[1] / values[1] ** 2)
    rounding = _ROUNDING * max(map(abs, values))
    if error <= rounding:
        error, log_error = 0.0, None if log_error is None else 0.0
        difference = 0.0 if abs(difference) <= rounding else difference
    return Effect(
        treated.name,
        control.name,
        values[1],
        values[0],
        difference,
        error,
        log_error,
        (control.num_units, treated.num_units),
        (control.num_requests, treated.num_requests),
        max(0.0, 1 - after / before) if before > 0 else 0.0,
        determined and error == 0,
    )


def _cuped(
    control: ArmOutcomes, treated: ArmOutcomes, residuals: tuple[Floats, Floats]
) -> tuple[tuple[float, float], tuple[Floats, Floats]]:
    """Give what is taken from both values, and the residuals after it."""
    if control.covariate is None or treated.covariate is None:
        return (0.0, 0.0), residuals
    first, joined = control.num_units, np.concatenate([control.covariate, treated.covariate])
    known = ~np.isnan(joined)
    centre = float(joined[known].mean()) if known.any() else 0.0
    # A unit without history says nothing: it stands at the centre.
    x = np.where(known, joined - centre, 0.0)
    sums = np.concatenate([control.sums, treated.sums])
    below = np.concatenate([control.denominators, treated.denominators])
    y = (sums - sums.sum() / below.sum() * below) / below.mean()
    spread = float(((x - x.mean()) ** 2).sum())
    theta = float((y * (x - x.mean())).sum()) / spread if spread > 0 else 0.0
    parts = (x[:first], x[first:])
    shifts = tuple(theta * float(part.mean() - x.mean()) for part in parts)
    after = tuple(
        row - theta * (part - part.mean()) for row, part in zip(residuals, parts, strict=True)
    )
    return (shifts[0], shifts[1]), (after[0], after[1])


def _variance_of_value(
    residuals: Floats, value: float, bounds: tuple[float, float] | None
) -> float:
    num, squares = len(residuals), float((residuals**2).sum())
    if bounds is None:
        return squares / (num - 1) / num
    imagined = sum((end - value) ** 2 for end in bounds)
    return (squares + imagined) / (num + 1) / (num + 2)
