"""Durations in words."""

from kamerton.core.language import translated

__all__ = ["duration_text"]


def duration_text(seconds: float) -> str:
    """Word how long something takes, as roughly as one can know it.

    Args:
        seconds: 0 or more.

    Returns:
        Such as `40 s`, `12 min` or `3 h 20 min`.
    """
    if seconds < 90:
        return translated("{seconds:.0f} s", seconds=seconds)
    minutes = round(seconds / 60)
    if minutes < 90:
        return translated("{minutes} min", minutes=minutes)
    hours, minutes = divmod(minutes, 60)
    if minutes:
        return translated("{hours} h {minutes} min", hours=hours, minutes=minutes)
    return translated("{hours} h", hours=hours)
