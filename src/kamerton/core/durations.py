"""How long something takes, in words."""

__all__ = ["duration_text"]


def duration_text(seconds: float) -> str:
    """Word how long something takes, as roughly as one can know it.

    Args:
        seconds: 0 or more.

    Returns:
        Such as `40 s`, `9 min` or `2.5 h`.
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
