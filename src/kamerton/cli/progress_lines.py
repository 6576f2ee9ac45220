"""Lines about a long task where there is no terminal: now and then, never a flood."""

from dataclasses import dataclass

from kamerton.core.durations import duration_text

__all__ = ["ProgressLines"]

_TENTH_AFTER_S = 5.0


@dataclass
class ProgressLines:
    """When a log, which has no bars, gets a line about a task: at growing intervals.

    Attributes:
        began: Time of the first event of the task, in seconds.
        first: What was done then.
        said: Time of the last line.
        told: What was done then; at first nothing new.
        line_after_s: Seconds after which a line is due at the earliest, but for tenths.
        steady: Whether lines come at these intervals however long the task is.
    """

    began: float
    first: float
    said: float
    told: float
    line_after_s: float = 30.0
    steady: bool = False

    def line(self, now: float, done: float, total: float | None) -> str | None:
        """Give the end of the line that is due, if one is.

        A line is due after each tenth of the task, but not within seconds of the last one; else
        after a tenth of the time so far, at least `line_after_s`. A task that has not moved, as it
        waits for its turn, gets none.

        Args:
            now: Time, in seconds.
            done: What is done.
            total: Of how much, if that is known.

        Returns:
            The time that is left, in words; empty where it is not known; None where no line is due.
        """
        if done <= self.told or (total is not None and done >= total):
            return None
        since = now - self.said
        new = total and int(10 * done / total) > int(10 * self.told / total)
        tenth = new and since >= _TENTH_AFTER_S
        growing = 0.0 if self.steady else 0.1 * (now - self.began)
        if not tenth and since < max(self.line_after_s, growing):
            return None
        self.said, self.told = now, done
        if not total or done <= self.first:
            return ""
        left = (now - self.began) / (done - self.first) * (total - done)
        return f", about {duration_text(left)} left"
