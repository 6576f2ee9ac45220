"""Work that goes on as long as its client waits for it, and no longer than the server allows."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from kamerton.serving.errors import ApiError

__all__ = ["Deadline", "unless_left"]

_Result = TypeVar("_Result")


class Deadline:
    """The time at which a request ends, finished or not. Its clock starts when it is made.

    Args:
        timeout_s: Seconds until then.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._at = asyncio.get_running_loop().time() + timeout_s

    def left_s(self) -> float:
        """Say how much time is left.

        Returns:
            Seconds, more than 0.

        Raises:
            ApiError: If none is left.
        """
        left = self._at - asyncio.get_running_loop().time()
        if left <= 0:
            # Who tries again would wait as long again, and hold back the others.
            raise ApiError(
                504,
                f"the answer was not whole after {self._timeout_s:g} s",
                headers={"x-should-retry": "false"},
            )
        return left


async def unless_left(
    request: Request, work: Awaitable[_Result], deadline: Deadline | None = None
) -> _Result:
    """Wait for something as long as the client does and the deadline allows; then cancel it.

    Args:
        request: The HTTP request, whose body has been read.
        work: What is waited for.
        deadline: When the waiting ends; None where `work` has a deadline of its own.

    Returns:
        What `work` gives.

    Raises:
        ApiError: If the time is over first.
        ClientDisconnect: If the client leaves first.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_wait_for_disconnect(request))
    both = {working, leaving}
    try:
        while True:
            wait_s = deadline.left_s() if deadline else None
            await asyncio.wait(both, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            if leaving.done():
                raise ClientDisconnect
    finally:
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
