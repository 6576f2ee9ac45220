"""The answers of one HTTP request, of which there may be several, as one stream of pieces."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from kamerton.core.requests import AnswerRequest, AnswerUpdate
from kamerton.serving.admission import Admission
from kamerton.serving.engine import ServingEngine
from kamerton.serving.errors import ApiError
from kamerton.serving.record import RequestRecord
from kamerton.serving.waiting import Deadline

__all__ = ["Piece", "Pieces", "merged_answers", "raise_error"]

Piece = tuple[int, AnswerUpdate] | None
"""Which answer, and more of it; None where nothing has come for a while."""

Pieces = AsyncGenerator[Piece, None]
"""Pieces of all answers of a request, as they come."""

_MOST_BEHIND = 4096
"""Pieces that wait for a client which reads more slowly than the engine writes."""


async def merged_answers(
    engine: ServingEngine,
    requests: Sequence[AnswerRequest],
    admission: Admission,
    record: RequestRecord,
    *,
    timeout_s: float,
    ping_s: float,
) -> AsyncGenerator[Piece, None]:
    """Merge answers as they come; closing the iterator cancels all that are not finished.

    Args:
        engine: Answers.
        requests: One per answer; `admission` has let them in.
        admission: Is told when they leave.
        record: Takes times and token counts.
        timeout_s: Seconds after which the request ends, finished or not.
        ping_s: Seconds of silence after which None comes.

    Yields:
        Which answer, and more of it; None where nothing has come for a while.

    Raises:
        ApiError: If the time is over, the client is too far behind, or an answer has an error.
    """
    queue: asyncio.Queue[tuple[int, AnswerUpdate] | ApiError] = asyncio.Queue()
    deadline = Deadline(timeout_s)

    async def read(index: int, request: AnswerRequest) -> None:
        error = ""
        try:
            async with aclosing(engine.answer(request)) as updates:  # type: ignore[type-var]
                async for update in updates:
                    record.answers[index].add(update)
                    queue.put_nowait((index, update))
                    if queue.qsize() >= _MOST_BEHIND:
                        error = "the client reads more slowly than the answer comes"
                        break
        except ApiError as refusal:
            queue.put_nowait(refusal)
        except Exception as fault:
            # Whoever waits is told, whatever it was.
            error = f"the engine failed: {fault}"
        if error:
            queue.put_nowait((index, AnswerUpdate(request.id, error=error)))

    tasks = [asyncio.ensure_future(read(i, request)) for i, request in enumerate(requests)]
    going = len(tasks)
    try:
        while going:
            piece = await _next(queue, min(ping_s, deadline.left_s()))
            if isinstance(piece, ApiError):
                raise piece
            if piece is not None:
                raise_error(piece[1])
                going -= piece[1].is_last
            yield piece
    finally:
        # Nothing is awaited here: a client that has gone cancels whatever awaits.
        admission.leave(len(tasks))
        for task in tasks:
            task.cancel()


async def _next(
    queue: asyncio.Queue[tuple[int, AnswerUpdate] | ApiError], wait_s: float
) -> tuple[int, AnswerUpdate] | ApiError | None:
    try:
        async with asyncio.timeout(wait_s):
            return await queue.get()
    except TimeoutError:
        return None


def raise_error(update: AnswerUpdate) -> None:
    """Turn the error of an engine into one of the server.

    Args:
        update: Any; most have no error.

    Raises:
        ApiError: Where it has one.
    """
    if update.error and update.is_client_error:
        raise ApiError(400, update.error)
    if update.error:
        raise ApiError(503, update.error, headers={"Retry-After": "2"})
