"""`/v1/chat/completions` and `/v1/completions`: whole answers and streamed ones."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from kamerton.core.protocols import Generation
from kamerton.core.requests import AnswerRequest, AnswerUpdate, ServedModel, TokenLogprob
from kamerton.serving.admission import Admission
from kamerton.serving.engine import ServingEngine
from kamerton.serving.errors import ApiError
from kamerton.wire.openai import (
    ChatRequest,
    CompletionRequest,
    chat_answer,
    chat_chunk,
    error_body,
    text_answer,
    text_chunk,
    usage_chunk,
    usage_of,
)

__all__ = ["answer_chat", "answer_completion"]

_Body = TypeVar("_Body", bound=BaseModel)


@dataclass(frozen=True)
class _Job:
    """A request of a client: the answers to compute and how they are written.

    Attributes:
        id: Of the completion.
        model: Who answers.
        requests: One per answer.
        num_prompts: Different prompts among them.
        is_chat: Whether the answers are a chat's.
        wants_usage: Whether a streamed answer ends with token counts.
    """

    id: str
    model: ServedModel
    requests: tuple[AnswerRequest, ...]
    num_prompts: int
    is_chat: bool
    wants_usage: bool

    @property
    def headers(self) -> dict[str, str]:
        """What the response says of who answered."""
        return {
            "x-kamerton-variant": self.model.name,
            "x-kamerton-artefact": self.model.content_hash,
        }

    def chunk(self, index: int, update: AnswerUpdate) -> dict[str, Any]:
        """Write a piece of one of the answers."""
        write = chat_chunk if self.is_chat else text_chunk
        logprobs = self.requests[index].num_top_logprobs is not None
        return write(
            self.id, self.model.name, index, update, logprobs=logprobs, with_usage=self.wants_usage
        )


@dataclass
class _Answer:
    """A whole answer as it grows."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    last: AnswerUpdate | None = None

    def add(self, update: AnswerUpdate) -> None:
        self.text.append(update.text)
        self.reasoning.append(update.reasoning)
        self.logprobs += update.logprobs
        self.last = update

    def plain(self) -> dict[str, Any]:
        return {
            "text": "".join(self.text),
            "reasoning": "".join(self.reasoning),
            "logprobs": self.logprobs,
            "finish_reason": self.last.finish_reason if self.last else None,
        }


async def answer_chat(request: Request) -> Response:
    """Answer a chat: `POST /v1/chat/completions`.

    Args:
        request: The HTTP request.

    Returns:
        The answer, or a stream of its pieces.

    Raises:
        ApiError: If the body is wrong, the model unknown or the server full.
    """
    body = await _read(request, ChatRequest)
    model = _model(request, body.model)
    generation = _generation(body, model, body.max_completion_tokens or body.max_tokens)
    name = f"chatcmpl-{secrets.token_hex(12)}"
    requests = tuple(
        AnswerRequest(
            f"{name}-{index}",
            model.name,
            _numbered(generation, index),
            chat=[message.plain() for message in body.messages],
            tools=body.tools or (),
            num_top_logprobs=body.top_logprobs if body.logprobs else None,
            artefact=model.content_hash,
        )
        for index in range(body.n)
    )
    job = _Job(name, model, requests, 1, True, body.wants_usage)
    return await _respond(request, job, stream=body.stream)


async def answer_completion(request: Request) -> Response:
    """Go on from texts or tokens: `POST /v1/completions`.

    Args:
        request: The HTTP request.

    Returns:
        The continuations, or a stream of their pieces.

    Raises:
        ApiError: If the body is wrong, the model unknown or the server full.
    """
    body = await _read(request, CompletionRequest)
    model = _model(request, body.model)
    generation = _generation(body, model, body.max_tokens)
    name = f"cmpl-{secrets.token_hex(12)}"
    prompts = body.prompts
    if not prompts or not all(prompts):
        raise ApiError(400, "prompt: every prompt needs at least one token", "prompt")
    requests = tuple(
        AnswerRequest(
            f"{name}-{index}",
            model.name,
            _numbered(generation, index),
            prompt=prompt,
            num_top_logprobs=body.logprobs,
            artefact=model.content_hash,
        )
        for index, prompt in enumerate(each for each in prompts for _ in range(body.n))
    )
    job = _Job(name, model, requests, len(prompts), False, body.wants_usage)
    return await _respond(request, job, stream=body.stream)


async def _read(request: Request, kind: type[_Body]) -> _Body:
    raw = await request.body()
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        raise ApiError.of_validation(error) from None


def _model(request: Request, name: str) -> ServedModel:
    engine: ServingEngine = request.app.state.engine
    found = engine.models.get(name)
    if found is None:
        served = ", ".join(engine.models)
        raise ApiError(404, f"the model '{name}' does not exist; served are: {served}", "model")
    return found


def _generation(
    body: ChatRequest | CompletionRequest, model: ServedModel, max_tokens: int | None
) -> Generation:
    """Take what the request asks for, else what the variant was made for."""
    given = {
        "max_tokens": max_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": None if body.top_k is None else max(body.top_k, 0),
        "seed": secrets.randbelow(1 << 31) if body.seed is None else body.seed,
        "stop": body.stops or None,
    }
    asked: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    return replace(model.defaults, **asked)


def _numbered(generation: Generation, index: int) -> Generation:
    """Give each answer to one prompt random numbers of its own."""
    return replace(generation, seed=generation.seed + index)


async def _respond(request: Request, job: _Job, *, stream: bool) -> Response:
    admission: Admission = request.app.state.admission
    engine: ServingEngine = request.app.state.engine
    if not engine.is_ready:
        raise ApiError(503, "the engine is not ready", headers={"Retry-After": "2"})
    admission.enter(len(job.requests))
    pieces = _pieces(engine, job.requests, admission)
    try:
        # The first piece decides whether this is an error, which a stream could not say any more.
        index, update = await anext(pieces)
        _raise_error(update)
    except BaseException:
        await pieces.aclose()
        raise
    if stream:
        headers = {**job.headers, "X-Accel-Buffering": "no", "Cache-Control": "no-cache"}
        events = _events(job, (index, update), pieces)
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)
    collecting = asyncio.ensure_future(_collect(job, (index, update), pieces))
    leaving = asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait({collecting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not collecting.done():
            # Nobody reads this answer.
            return Response(status_code=499)
        return JSONResponse(collecting.result(), headers=job.headers)
    finally:
        for task in (collecting, leaving):
            task.cancel()
        await asyncio.gather(collecting, leaving, return_exceptions=True)
        await pieces.aclose()


async def _collect(
    job: _Job, first: tuple[int, AnswerUpdate], pieces: AsyncIterator[tuple[int, AnswerUpdate]]
) -> dict[str, Any]:
    answers = [_Answer() for _ in job.requests]
    answers[first[0]].add(first[1])
    async for index, update in pieces:
        _raise_error(update)
        answers[index].add(update)
    usage = usage_of([answer.last for answer in answers if answer.last], job.num_prompts)
    write = chat_answer if job.is_chat else text_answer
    return write(job.id, job.model.name, [answer.plain() for answer in answers], usage)


async def _events(job: _Job, first: tuple[int, AnswerUpdate], pieces: Any) -> AsyncIterator[str]:
    """Write server-sent events; an error in the middle is an event, as the status is sent."""
    last: dict[int, AnswerUpdate] = {}
    async with aclosing(pieces):
        if job.is_chat:
            for index in range(len(job.requests)):
                opening = chat_chunk(
                    job.id, job.model.name, index, None, with_usage=job.wants_usage
                )
                yield _event(opening)
        async for index, update in _after(first, pieces):
            if update.error:
                yield _event(error_body(update.error, "InternalServerError", code=500))
                return
            if update.text or update.reasoning or update.is_last or update.logprobs:
                yield _event(job.chunk(index, update))
            last[index] = update
        if job.wants_usage:
            kind = "chat.completion.chunk" if job.is_chat else "text_completion"
            usage = usage_of([last[index] for index in sorted(last)], job.num_prompts)
            yield _event(usage_chunk(job.id, kind, job.model.name, usage))
        yield "data: [DONE]\n\n"


async def _after(
    first: tuple[int, AnswerUpdate], pieces: AsyncIterator[tuple[int, AnswerUpdate]]
) -> AsyncIterator[tuple[int, AnswerUpdate]]:
    yield first
    async for piece in pieces:
        yield piece


async def _pieces(
    engine: ServingEngine, requests: Sequence[AnswerRequest], admission: Admission
) -> Any:
    """Merge the answers of several requests as they come; closing it cancels them all."""
    queue: asyncio.Queue[tuple[int, AnswerUpdate]] = asyncio.Queue()

    async def read(index: int, request: AnswerRequest) -> None:
        try:
            async with aclosing(engine.answer(request)) as updates:  # type: ignore[type-var]
                async for update in updates:
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


def _raise_error(update: AnswerUpdate) -> None:
    if update.error and update.is_client_error:
        raise ApiError(400, update.error)
    if update.error:
        raise ApiError(503, update.error, headers={"Retry-After": "2"})


def _event(body: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
