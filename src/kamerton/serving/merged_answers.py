"""The answers of one HTTP request, of which there may be several, as one stream of pieces."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from kamerton.core.requests import AnswerRequest, AnswerUpdate
from kamerton.serving.admission import Admission
from kamerton.serving.engine import ServingEngine
from kamerton.serving.record import RequestRecord

__all__ = ["merged_answers"]


async def merged_answers(
    engine: ServingEngine,
    requests: Sequence[AnswerRequest],
    admission: Admission,
    record: RequestRecord,
) -> AsyncGenerator[tuple[int, AnswerUpdate], None]:
    """Merge answers as they come; closing the iterator cancels all that are not finished.

    Args:
        engine: Answers.
        requests: One per answer; `admission` has let them in.
        admission: Is told when they leave.
        record: Takes times and token counts.

    Yields:
        Which answer, and more of it.
    """
    queue: asyncio.Queue[tuple[int, AnswerUpdate]] = asyncio.Queue()

    async def read(index: int, request: AnswerRequest) -> None:
        try:
            async with aclosing(engine.answer(request)) as updates:  # type: ignore[type-var]
                async for update in updates:
                    record.answers[index].add(update)
                    queue.put_nowait((index, update))
        except Exception as error:
            # Whoever waits is told, whatever it was.
            queue.put_nowait((index, AnswerUpdate(request.id, error=f"the engine failed: {error}")))

    tasks = [asyncio.ensure_future(read(i, request)) for i, request in enumerate(requests)]
    going = len(tasks)
    try:
        while going:
            index, update = await queue.get()
            going -= update.is_last
            yield index, update
    finally:
        # Nothing is awaited here: a client that has gone cancels whatever awaits.
        admission.leave(len(tasks))
        for task in tasks:
            task.cancel()
