"""An answer as a stream of server-sent events."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from kamerton.core.requests import AnswerUpdate
from kamerton.serving.completion_job import CompletionJob
from kamerton.serving.errors import ApiError
from kamerton.serving.merged_answers import Piece, Pieces
from kamerton.serving.record import RequestRecord
from kamerton.wire.answers import calls_before_end

__all__ = ["EventStream", "write_events"]


class EventStream(StreamingResponse):
    """A stream whose answers stop at once when it ends early, not when memory is collected.

    Args:
        events: As `write_events` gives them.
        headers: Further headers.
    """

    def __init__(self, events: AsyncGenerator[str, None], headers: Mapping[str, str]) -> None:
        # Proxies must neither keep events back nor keep them for others.
        headers = {**headers, "X-Accel-Buffering": "no", "Cache-Control": "no-cache"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        async with aclosing(self._events):
            await super().__call__(scope, receive, send)


async def write_events(
    job: CompletionJob, first: Piece, pieces: Pieces, record: RequestRecord
) -> AsyncGenerator[str, None]:
    """Write server-sent events; an error in the middle is an event, as the status is sent.

    Args:
        job: How the pieces are written.
        first: The first piece.
        pieces: The pieces that follow it; they are closed at the end, whatever the end is.
        record: Is told how the answer ended.

    Yields:
        Events and comments, each with the empty line that ends it.
    """
    last: dict[int, AnswerUpdate] = {}
    async with aclosing(pieces):
        for opening in job.openings:
            yield _event(opening)
        try:
            async for piece in _after(first, pieces):
                if piece is None:
                    # Proxies and clients close a connection on which nothing happens.
                    yield ": ping\n\n"
                    continue
                index, update = piece
                if update.text or update.reasoning or update.is_last or update.logprobs:
                    for part in calls_before_end(update):
                        yield _event(job.chunk(index, part))
                last[index] = update
        except ApiError as error:
            record.fail(error.status)
            yield _event(error.body)
            return
        if job.wants_usage:
            yield _event(job.usage_chunk([last[index] for index in sorted(last)]))
        record.is_whole = True
        yield "data: [DONE]\n\n"


async def _after(first: Piece, pieces: Pieces) -> AsyncIterator[Piece]:
    yield first
    async for piece in pieces:
        yield piece


def _event(body: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
