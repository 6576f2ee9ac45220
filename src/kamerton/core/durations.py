"""Durations in words."""

__all__ = ["duration_text"]


def duration_text(seconds: float) -> str:
    """Word how long something takes, as roughly as one can know it.

    Args:
        seconds: 0 or more.

    Returns:
        Such as `40 s`, `12 min` or `3 h 20 min`.
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
