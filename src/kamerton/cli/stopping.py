"""Ctrl-C and SIGTERM: a run ends where it can go on, anything else at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from kamerton.cli.console import messages
from kamerton.core.events import Event, RunFinished, RunStarted
from kamerton.core.language import translated

__all__ = ["StopFlag", "stop_flag"]


class StopFlag:
    """Says whether Ctrl-C was pressed, or SIGTERM came, while a run has something to save."""

    def __init__(self) -> None:
        self._pressed = False
        self._gentle = False

    def __call__(self) -> bool:
        """Tell whether the run should stop at its next resumable point."""
        return self._pressed

    def watch(self, event: Event) -> None:
        """Follow a run: between its start and its end there is a state to save.

        Args:
            event: An event of the run.
        """
        if isinstance(event, RunStarted | RunFinished):
            self._gentle = isinstance(event, RunStarted)

    def handle(self, _signal: int, _frame: FrameType | None) -> None:
        """Take a signal.

        Args:
            _signal: Which.
            _frame: Where it came.

        Raises:
            KeyboardInterrupt: If there is nothing to save, or it is the second one.
        """
        if self._pressed or not self._gentle:
            raise KeyboardInterrupt
        self._pressed = True
        messages.print(
            translated("stopping after this step (Ctrl-C again: at once)"), style="yellow"
        )


@contextmanager
def stop_flag() -> Iterator[StopFlag]:
    """Turn the first Ctrl-C of a run into a flag, so that work ends at a resumable point.

    Before the first step and after the last, and when pressed again, it interrupts at once.

    Yields:
        Says whether Ctrl-C was pressed; it has to be told the events of the run.
    """
    flag = StopFlag()
    before = {name: signal.signal(name, flag.handle) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
