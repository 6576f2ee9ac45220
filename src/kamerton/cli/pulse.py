"""Lines about a long task where there is no terminal: now and then, never a flood."""

from dataclasses import dataclass

__all__ = ["Pulse", "duration"]

_TENTH_AFTER_S, _LINE_AFTER_S = 5.0, 30.0


@dataclass
class Pulse:
    """When a log, which has no bars, gets a line about a task: at growing intervals.

    Attributes:
        began: Time of the first event of the task, in seconds.
        first: What was done then.
        said: Time of the last line.
        share: Share of the task that was done then, 0 to 1.
    """

    began: float
    first: float
    said: float
    share: float = 0.0

    def line(self, now: float, done: float, total: float | None) -> str | None:
        """Give the end of the line that is due, if one is.

        A line is due after each tenth of the task, but not within seconds of the last one; else
        after a tenth of the time so far, at least half a minute.

        Args:
            now: Time, in seconds.
            done: What is done.
            total: Of how much, if that is known.

        Returns:
            The time that is left, in words; empty where it is not known; None where no line is due.
        """
        if total is not None and done >= total:
            return None
        share, since = done / total if total else 0.0, now - self.said
        tenth = int(10 * share) > int(10 * self.share) and since >= _TENTH_AFTER_S
        if not tenth and since < max(_LINE_AFTER_S, 0.1 * (now - self.began)):
            return None
        self.said, self.share = now, share
        if not total or done <= self.first:
            return ""
        left = (now - self.began) / (done - self.first) * (total - done)
        return f", about {duration(left)} left"


def duration(seconds: float) -> str:
    """Word a length of time roughly.

    Args:
        seconds: From 0.

    Returns:
        Such as "40 s", "12 min" or "3 h 20 min".
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
