"""Words that messages share."""

__all__ = ["counted", "first_line"]


def counted(number: int, one: str, many: str = "") -> str:
    """Word a count: "1 pair", "2 pairs".

    Args:
        number: Number of things.
        one: What follows 1, such as "pair" or "example repeats".
        many: What follows other numbers, where that is not the same with an "s".

    Returns:
        Number and words; thousands apart.
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def first_line(error: BaseException) -> str:
    """Word in one line why something of another library failed.

    Args:
        error: What it raised.

    Returns:
        The first line of its message; the error's name where it has none.
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]
