"""Words that messages share."""

__all__ = ["counted"]


def counted(number: int, one: str, many: str = "") -> str:
    """Word a count: "1 pair", "2 pairs".

    Args:
        number: How many.
        one: What follows 1, such as "pair" or "example repeats".
        many: What follows other numbers, where that is not the same with an "s".

    Returns:
        Number and words; thousands apart.
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"
