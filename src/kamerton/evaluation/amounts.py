"""Values and differences of metrics in words, by what they are counted in."""

from kamerton.core.language import translated, translated_number
from kamerton.evaluation.results import Comparison, Unit

__all__ = ["change_text", "in_unit", "metric_title", "number_text", "range_text", "unit_text"]


def in_unit(value: float, unit: Unit) -> float:
    """Bring a value to the scale on which it is shown.

    Args:
        value: In the metric's unit.
        unit: The unit.

    Returns:
        Nats as they are, all else in hundredths.
    """
    return value if unit == "nats" else 100 * value


def number_text(value: float, unit: Unit) -> str:
    """Word a value without its unit.

    Args:
        value: In the metric's unit.
        unit: The unit.

    Returns:
        Such as `83.1`, or `1.27` of nats.
    """
    return translated_number(f"{in_unit(value, unit):.{_decimals(unit)}f}")


def change_text(value: float, unit: Unit) -> str:
    """Word a difference without its unit.

    Args:
        value: In the metric's unit.
        unit: The unit.

    Returns:
        Such as `+4.0`, or `-1.41` of nats.
    """
    return translated_number(f"{in_unit(value, unit):+.{_decimals(unit)}f}")


def range_text(low: str, high: str) -> str:
    """Word an interval.

    Args:
        low: Its lower end, in words.
        high: Its upper end.

    Returns:
        Such as `[80.2, 85.7]`; with a semicolon where numbers have a comma themselves.
    """
    return translated("[{low}, {high}]", low=low, high=high)


def unit_text(unit: Unit) -> str:
    """Name a unit.

    Args:
        unit: The unit.

    Returns:
        Its name, in the current language.
    """
    match unit:
        case "nats":
            return translated("nats a token")
        case "ratio":
            return translated("% of the right answers")
        case "score":
            return translated("0 to 100")
        case "share":
            return "%"


def metric_title(comparison: Comparison, metric: str) -> str:
    """Name a metric with its unit, where the metrics of a comparison have different ones.

    Args:
        comparison: The comparison.
        metric: One of its metrics.

    Returns:
        Such as `loss, nats a token`.
    """
    if set(comparison.units) == {"share"}:
        return metric
    return f"{metric}, {unit_text(comparison.unit_of(metric))}"


def _decimals(unit: Unit) -> int:
    return 2 if unit == "nats" else 1
