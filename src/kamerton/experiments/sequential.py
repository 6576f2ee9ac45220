"""Intervals that hold at every look: an asymptotic confidence sequence.

An interval of 1.96 standard errors holds for somebody who looks once. Whoever looks every day and
stops at the first good number is wrong in a quarter of all cases. A confidence sequence is wider
(about 1.5 times at the planned number of units), and the truth is inside at all looks together
with probability 1 - alpha, however often and at whatever moments one looks.

`kamerton experiment report` calls `ConfidenceSequence(planned_units, alpha).multiplier(effect)`
and hands the result to `Effect.interval` and `Effect.relative_interval`; `p_value` and
`one_sided_p_value` are the same tests as p-values, valid at every look. `grouped` has the
group-sequential boundaries for an experiment with a declared end.

Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and
asymptotic confidence sequences" (arXiv 2103.06476), equation 9 for both sides, equation 161 for
one side. Here n counts the units of both arms and sigma^2 = n SE^2, so sigma / sqrt(n) is the
standard error of the difference.
"""

import math
from dataclasses import dataclass

from kamerton.experiments.effects import Effect

__all__ = ["FEWEST_UNITS", "ConfidenceSequence"]

FEWEST_UNITS = 50
"""Units per arm below which nothing is said: the sequence is asymptotic."""

_LEAST = 1e-300
"""The p-value of what is known without error."""


@dataclass(frozen=True, slots=True)
class ConfidenceSequence:
    """A way to bound the difference of two arms at every look.

    Attributes:
        planned_units: Units of both arms at which the sequence is tightest; from the plan. It is
            fixed before the start, and the sequence holds before and after it.
        alpha: How often the truth may be outside at any look, both sides together (one side for
            the one-sided functions), in (0, 1).
        fewest_units: Units per arm below which the interval is endless.
    """

    planned_units: int
    alpha: float = 0.05
    fewest_units: int = FEWEST_UNITS

    def multiplier(self, effect: Effect) -> float:
        """Say how many standard errors half the interval is wide.

        Args:
            effect: What was found so far.

        Returns:
            The number; infinite where an arm has too few units.
        """
        if min(effect.units) < self.fewest_units:
            return math.inf
        return self.multiplier_at(sum(effect.units))

    def multiplier_at(self, units: int) -> float:
        """Say how many standard errors half the interval is wide at a number of units.

        Args:
            units: Of both arms, however few.

        Returns:
            The number.
        """
        grown = units * self._rho_squared(self.alpha)
        root = math.sqrt(grown + 1)
        return math.sqrt(2 * (grown + 1) / grown * math.log(root / self.alpha))

    def one_sided_multiplier(self, effect: Effect) -> float:
        """Say how many standard errors a bound on one side lies from the estimate.

        Args:
            effect: What was found so far.

        Returns:
            The number; infinite where an arm has too few units.
        """
        if min(effect.units) < self.fewest_units:
            return math.inf
        grown = sum(effect.units) * self._rho_squared(2 * self.alpha)
        root = math.sqrt(grown + 1)
        return math.sqrt(2 * (grown + 1) / grown * math.log(1 + root / (2 * self.alpha)))

    def p_value(self, effect: Effect) -> float:
        """Test that there is no difference, at every look.

        Args:
            effect: What was found so far.

        Returns:
            The p-value, in (0, 1]: at most alpha exactly when the interval leaves 0 out. Its
            minimum over all looks is a p-value too.
        """
        if min(effect.units) < self.fewest_units:
            return 1.0
        if effect.is_exact:
            return _LEAST if effect.difference else 1.0
        grown = sum(effect.units) * self._rho_squared(self.alpha)
        exponent = effect.statistic**2 * grown / (2 * (grown + 1))
        return min(1.0, math.exp(math.log(grown + 1) / 2 - exponent))

    def one_sided_p_value(self, effect: Effect, above: float = 0.0) -> float:
        """Test that the difference is at most a value, at every look.

        Args:
            effect: What was found so far.
            above: The value; a small p-value says that the difference is larger.

        Returns:
            The p-value, in (0, 1]: at most alpha exactly when the lower bound is above the value.
        """
        error = effect.standard_error
        if effect.is_exact and min(effect.units) >= self.fewest_units:
            return _LEAST if effect.difference > above else 1.0
        if min(effect.units) < self.fewest_units or not error > 0 or effect.difference <= above:
            return 1.0
        grown = sum(effect.units) * self._rho_squared(2 * self.alpha)
        statistic = (effect.difference - above) / error
        exponent = min(statistic**2 * grown / (2 * (grown + 1)), 700.0)
        return min(1.0, math.sqrt(grown + 1) / (2 * math.expm1(exponent)))

    def _rho_squared(self, alpha: float) -> float:
        """Where the sequence is tightest: equation 10 of the paper, for `planned_units`."""
        # The formula has no solution from alpha = 1 on, where any sequence will do.
        twice = -2 * math.log(min(alpha, 0.5))
        return (twice + math.log(1 + twice)) / self.planned_units
