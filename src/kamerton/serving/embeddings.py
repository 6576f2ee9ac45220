"""`/v1/embeddings`: the mean of a model's last hidden states over a text, at length one."""

import asyncio
import secrets
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kamerton.core.protocols import Generation
from kamerton.core.requests import AnswerRequest, AnswerUpdate
from kamerton.serving.admission import Admission, ensure_ready
from kamerton.serving.engine import ServingEngine
from kamerton.serving.merged_answers import raise_error
from kamerton.serving.record import AnswerTimes, record_of
from kamerton.serving.request_body import read_body
from kamerton.serving.resolving import resolve_model, variant_headers
from kamerton.serving.waiting import Deadline, unless_left
from kamerton.wire.tokenizing import EmbeddingsBody, embeddings_answer

__all__ = ["answer_embeddings"]

_AT_ONCE = 8
"""Inputs of one request that the engine has at the same time, beside other requests."""


async def answer_embeddings(request: Request) -> Response:
    """Embed texts: `POST /v1/embeddings`.

    Args:
        request: The HTTP request.

    Returns:
        A vector of length one per input.

    Raises:
        ApiError: If the body is wrong, the model unknown, the server full or the time over.
    """
    body = await read_body(request, EmbeddingsBody)
    model = resolve_model(request, body.model)
    record = record_of(request)
    record.operation = "embeddings"
    admission: Admission = request.app.state.admission
    engine: ServingEngine = request.app.state.engine
    ensure_ready(engine)
    name = f"embd-{secrets.token_hex(12)}"
    places = asyncio.Semaphore(_AT_ONCE)

    async def embed(index: int, text: str | tuple[int, ...]) -> AnswerUpdate:
        asked = AnswerRequest(
            f"{name}-{index}",
            model.name,
            Generation(max_tokens=0),
            prompt=text,
            embeds=True,
            artefact=model.content_hash,
        )
        async with places, aclosing(engine.answer(asked)) as updates:  # type: ignore[type-var]
            end = [update async for update in updates][-1]
        raise_error(end)
        return end

    deadline = Deadline(request.app.state.timeout_s)
    admission.enter(1)
    tasks = [asyncio.ensure_future(embed(*each)) for each in enumerate(body.inputs)]
    try:
        ends = await unless_left(request, asyncio.gather(*tasks), deadline)
    finally:
        admission.leave(1)
        for task in tasks:
            # One that failed leaves the others at work.
            task.cancel()
    num_tokens = sum(end.num_prompt_tokens for end in ends)
    record.answers, record.is_whole = (AnswerTimes(num_prompt_tokens=num_tokens),), True
    vectors = [end.embedding for end in ends]
    return JSONResponse(
        embeddings_answer(model.name, vectors, num_tokens, body.encoding_format),
        headers=variant_headers(model),
    )
