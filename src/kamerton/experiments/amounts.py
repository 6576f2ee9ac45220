"""Numbers of metrics as people write them: shares in percent, latency in seconds, signs, commas."""

import math
from typing import Literal

from kamerton.core.language import current_language, translated
from kamerton.experiments.effects import Interval
from kamerton.experiments.verdict import Measure

__all__ = ["Scale", "count_text", "difference_text", "interval_text", "percent_text", "scale_of"]
__all__ += ["value_text"]

Scale = Literal["share", "seconds", "number"]
"""How a metric is written."""


def scale_of(measure: Measure) -> Scale:
    """Say how a metric is written.

    Args:
        measure: The metric.

    Returns:
        A share where its outcomes lie between 0 and 1, seconds for latency, else a number.
    """
    if measure.aspect == "latency":
        return "seconds"
    return "share" if measure.bounds == (0.0, 1.0) else "number"


def value_text(measure: Measure, value: float) -> str:
    """Write a value.

    Args:
        measure: The metric.
        value: In its own unit.

    Returns:
        Such as "78.7 %", "1.2 s" or "0.002".
    """
    scale = scale_of(measure)
    if scale == "share":
        return percent_text(value, digits=1)
    found = _comma(f"{value:.3g}")
    return translated("{value} s", value=found) if scale == "seconds" else found


def difference_text(measure: Measure, value: float) -> str:
    """Write a difference, with its sign.

    Args:
        measure: The metric.
        value: In its own unit.

    Returns:
        Such as "+9.3 points", "-0.407 s" or "-0.0008".
    """
    return _with_unit(measure, _signed(measure, value))


def interval_text(measure: Measure, interval: Interval) -> str:
    """Write an interval of a difference.

    Args:
        measure: The metric.
        interval: In its own unit.

    Returns:
        Such as "+3.7 to +14.8 points"; empty where it has no ends.
    """
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return ""
    low, high = (_signed(measure, end) for end in (interval.low, interval.high))
    return _with_unit(measure, translated("{low} to {high}", low=low, high=high))


def percent_text(share: float, *, signed: bool = False, digits: int = 0) -> str:
    """Write a share in percent.

    Args:
        share: 1 is 100 %.
        signed: Whether a plus stands before what is above 0.
        digits: Digits behind the point.

    Returns:
        Such as "41 %".
    """
    plus = "+" if signed else ""
    return _comma(f"{share * 100:{plus}.{digits}f} %")


def count_text(count: float) -> str:
    """Write a number of things.

    Args:
        count: Rounded to a whole number.

    Returns:
        Such as "3,498"; Russian has a space that does not break.
    """
    found = f"{count:,.0f}"
    return found.replace(",", "\N{NO-BREAK SPACE}") if current_language() == "ru" else found


def _with_unit(measure: Measure, found: str) -> str:
    scale = scale_of(measure)
    if scale == "share":
        return translated("{value} points", value=found)
    return translated("{value} s", value=found) if scale == "seconds" else found


def _signed(measure: Measure, value: float) -> str:
    found = f"{value * 100:+.1f}" if scale_of(measure) == "share" else f"{value:+.3g}"
    return _comma(found)


def _comma(text: str) -> str:
    return text.replace(".", ",") if current_language() == "ru" else text
