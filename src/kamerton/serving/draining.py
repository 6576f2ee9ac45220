"""SIGTERM and Ctrl-C: a server finishes what was begun, for a while, and lets nothing new in."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress

from kamerton.serving.admission import Admission

__all__ = ["drain", "drain_on_signals"]

_LOOK_EVERY_S = 0.05


async def drain(admission: Admission, limit_s: float) -> bool:
    """Let no new answer in and wait for those that were begun.

    The server still listens meanwhile: `/ready` says 503, so that a load balancer goes
    elsewhere, and a new request gets an error that says when to try again.

    Args:
        admission: Knows how many answers are open.
        limit_s: Most seconds to wait.

    Returns:
        Whether all were finished.
    """
    admission.is_draining = True
    with suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            while admission.num_open:
                await asyncio.sleep(_LOOK_EVERY_S)
    return not admission.num_open


def drain_on_signals(
    admission: Admission,
    limit_s: float,
    *,
    cut: Callable[[], None],
    stop: Callable[[bool], None],
) -> None:
    """Drain at the first SIGTERM or Ctrl-C and stop then; stop at once at the second.

    Call it in the server's event loop, after the server has taken the signals for itself.

    Args:
        admission: Knows how many answers are open.
        limit_s: Most seconds to wait for them.
        cut: Gives what is open after that an error.
        stop: Ends the server; with True without waiting for anything.
    """
    loop = asyncio.get_running_loop()
    # The loop holds tasks weakly.
    tasks: list[asyncio.Task[None]] = []

    async def drain_and_stop() -> None:
        if not await drain(admission, limit_s):
            cut()
        stop(False)

    def take() -> None:
        if tasks:
            stop(True)
        else:
            tasks.append(loop.create_task(drain_and_stop()))

    for name in (signal.SIGTERM, signal.SIGINT):
        # Where the loop cannot take signals, on Windows, the server's own handling stays.
        with suppress(NotImplementedError):
            loop.add_signal_handler(name, take)
