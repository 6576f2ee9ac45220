"""How far several raters agree: Krippendorff's alpha."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

__all__ = ["krippendorff_alpha"]


def krippendorff_alpha(items: Iterable[Sequence[Hashable]], *, is_number: bool) -> float | None:
    """Compare disagreement within items with that between all values (K. Krippendorff, 2011).

    Args:
        items: The values that raters gave to each item; items with less than two do not count.
        is_number: Whether values differ by the square of their distance, else they differ or not.

    Returns:
        1 where all agree, about 0 where they agree as by chance, below 0 where they agree less;
        None where no item has two values, or all values are the same.
    """
    counted = [values for values in items if len(values) >= 2]
    num_values = sum(map(len, counted))
    within = sum(_differences(Counter(values), is_number) / (len(values) - 1) for values in counted)
    between = _differences(Counter(v for values in counted for v in values), is_number)
    if not between:
        return None
    return 1 - (num_values - 1) * within / between


def _differences(counts: Counter[Hashable], is_number: bool) -> float:
    """Sum over all ordered pairs of values."""
    total = sum(counts.values())
    if not is_number:
        return float(total**2 - sum(count**2 for count in counts.values()))
    numbers = [(float(value), count) for value, count in counts.items()]  # type: ignore[arg-type]
    first = sum(value * count for value, count in numbers)
    second = sum(value**2 * count for value, count in numbers)
    return 2 * (total * second - first**2)
