"""Lines about what runs where there is no terminal: one every 10 s, neither silence nor a flood."""

import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kamerton.core.durations import duration_text
from kamerton.core.language import translated

__all__ = ["EVERY_S", "ProgressLines", "Remaining", "pulse"]

EVERY_S = 10.0
"""Seconds between two lines."""

_RECENT_S = 60.0
_LOOK_S = 0.5


class Remaining:
    """Tells how long a task will still take, by its speed of late.

    Late is the last minute, or the last third of a longer task: some things take turns.

    Args:
        now: Time of the first look, in seconds.
        share: Share of the work that is done then, 0 to 1.
    """

    def __init__(self, now: float, share: float) -> None:
        self._began = now
        self._seen = deque([(now, share)])

    def note(self, now: float, share: float) -> None:
        """Note how far the task is.

        Args:
            now: Time, in seconds.
            share: Share of the work that is done, 0 to 1.
        """
        self._seen.append((now, share))
        late = now - max(_RECENT_S, (now - self._began) / 3)
        while len(self._seen) > 2 and self._seen[1][0] <= late:
            self._seen.popleft()

    def seconds(self, now: float) -> float | None:
        """Estimate what is left.

        Args:
            now: Time, in seconds.

        Returns:
            Seconds; None before the task has moved.
        """
        (began, first), (seen, share) = self._seen[0], self._seen[-1]
        if share <= first or seen <= began:
            return None
        return max(0.0, (seen - began) * (1 - share) / (share - first) - (now - seen))


@dataclass(eq=False, slots=True)
class _Task:
    """A task under way: since when, how far, and what is said of it."""

    began: float
    shown: str = ""
    share: float | None = None
    remaining: Remaining | None = None


class ProgressLines:
    """Says every 10 s what runs, how far it is and how long it will still take.

    Only the task that moved last is named: others wait for it. Both the events of a flow and a
    thread's pulse call it.

    Args:
        say: Prints a line.
        clock: Gives seconds.
    """

    def __init__(
        self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._clock = say, clock
        self._tasks: dict[str, _Task] = {}
        self._lock = threading.Lock()
        self._said = self._idle_since = clock()

    def moved(self, name: str, share: float | None, shown: str) -> None:
        """Note how far a task is.

        Args:
            name: The task, as a participle.
            share: Share of its work that is done, 0 to 1; None where that is not known.
            shown: How far that is, in words; may be empty.
        """
        with self._lock:
            now = self._clock()
            task = self._tasks.pop(name, None) or _Task(now)
            self._tasks[name] = task
            task.shown, task.share = shown, share
            if share is not None:
                if task.remaining is None:
                    task.remaining = Remaining(now, share)
                task.remaining.note(now, share)
        self.beat()

    def heard(self) -> None:
        """Note that a line was printed elsewhere: the next one is due later."""
        with self._lock:
            self._said = self._clock()

    def ended(self, name: str) -> None:
        """Forget a task.

        Args:
            name: The task.
        """
        with self._lock:
            if self._tasks.pop(name, None) is not None and not self._tasks:
                self._idle_since = self._clock()

    def left(self, name: str) -> str:
        """Word how long a task will still take.

        Args:
            name: The task.

        Returns:
            Such as "about 40 s left"; empty where that is not known.
        """
        task = self._tasks.get(name)
        seconds = None if task is None else _left(task, self._clock())
        return (
            "" if seconds is None else translated("about {time} left", time=duration_text(seconds))
        )

    def beat(self) -> None:
        """Print a line where one is due."""
        with self._lock:
            now = self._clock()
            if now - self._said < EVERY_S:
                return
            self._said = now
            line = self._line(now)
        self._say(line)

    def _line(self, now: float) -> str:
        name, task = next(reversed(self._tasks.items()), (translated("working"), None))
        task = task or _Task(self._idle_since)
        parts = [task.shown] if task.shown else []
        if task.share:
            parts.append(f"{100 * task.share:.0f} %")
        left = _left(task, now)
        if left is None:
            parts.append(translated("{time} so far", time=duration_text(now - task.began)))
        else:
            parts.append(translated("about {time} left", time=duration_text(left)))
        return f"{name}: {', '.join(parts)}"


def _left(task: _Task, now: float) -> float | None:
    return None if task.remaining is None else task.remaining.seconds(now)


@contextmanager
def pulse(beat: Callable[[], None]) -> Iterator[None]:
    """Call something about twice a second from a thread, while something else runs.

    Args:
        beat: What is called; it must be quick, and may be called from a thread.

    Yields:
        Nothing; the thread has ended afterwards.
    """
    over = threading.Event()

    def run() -> None:
        while not over.wait(_LOOK_S):
            beat()

    # The language of messages is a context variable, which a new thread would not have.
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(run,), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
