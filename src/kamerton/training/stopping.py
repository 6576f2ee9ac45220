"""Stopping between two forward passes: a measurement may take minutes, and a user waits seconds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kamerton.models.base import Base

__all__ = ["StopRequested", "stoppable"]


class StopRequested(Exception):
    """The user wants the run to stop; nothing went wrong."""


@contextmanager
def stoppable(base: Base, should_stop: Callable[[], bool]) -> Iterator[None]:
    """Ask before every forward pass whether to go on.

    Args:
        base: The base whose passes are watched: rows of a holdout, and each token of answers.
        should_stop: True ends what runs inside.

    Yields:
        Nothing.

    Raises:
        StopRequested: If `should_stop` said so; only where no pass is under way.
    """

    def ask(*_: Any) -> None:
        if should_stop():
            raise StopRequested

    hook = base.backbone.register_forward_pre_hook(ask)
    try:
        yield
    finally:
        hook.remove()
