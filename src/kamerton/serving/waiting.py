"""Work that goes on as long as its client waits for it."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

__all__ = ["unless_left"]

_Result = TypeVar("_Result")


async def unless_left(request: Request, work: Awaitable[_Result]) -> _Result:
    """Wait for something as long as the client does; then cancel it.

    Args:
        request: The HTTP request, whose body has been read.
        work: What is waited for.

    Returns:
        What it gives.

    Raises:
        ClientDisconnect: If the client leaves first.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
