"""Where an interval, its point and zero stand on a line, in percent of the line's width."""

import math
from dataclasses import dataclass

from kamerton.experiments.effects import Interval

__all__ = ["IntervalPlot"]

_BESIDE = 0.08
"""Room beside what is drawn, as a share of its width."""


@dataclass(frozen=True, slots=True)
class IntervalPlot:
    """Places on a line from 0 to 100.

    Attributes:
        zero: No difference.
        point: The difference.
        low: The lower end of the interval; None without an interval.
        high: The upper end.
        small: The ends of differences that do not matter; None where none are declared.
    """

    zero: float
    point: float
    low: float | None
    high: float | None
    small: tuple[float, float] | None

    @classmethod
    def of(cls, difference: float, interval: Interval, smallest_effect: float) -> "IntervalPlot":
        """Choose a scale that shows all of it.

        Args:
            difference: In the metric's unit.
            interval: Of the difference; its ends may be infinite.
            smallest_effect: The smallest difference that matters; 0 for none.

        Returns:
            The places.
        """
        bounded = math.isfinite(interval.low) and math.isfinite(interval.high)
        shown = [0.0, difference, -smallest_effect, smallest_effect]
        shown += [interval.low, interval.high] if bounded else []
        wide = (max(shown) - min(shown)) or 1.0
        start, wide = min(shown) - _BESIDE * wide, (1 + 2 * _BESIDE) * wide

        def place(value: float) -> float:
            return round(100 * (value - start) / wide, 2)

        return cls(
            place(0.0),
            place(difference),
            place(interval.low) if bounded else None,
            place(interval.high) if bounded else None,
            (place(-smallest_effect), place(smallest_effect)) if smallest_effect else None,
        )
