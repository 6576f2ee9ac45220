"""`/v1/chat/completions` and `/v1/completions`: whole answers and streamed ones."""

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from kamerton.core.protocols import Generation
from kamerton.core.requests import AnswerRequest, AnswerUpdate, ServedModel, TokenLogprob
from kamerton.serving.admission import Admission, ensure_ready
from kamerton.serving.engine import ServingEngine
from kamerton.serving.errors import ApiError
from kamerton.serving.merged_answers import merged_answers
from kamerton.serving.record import AnswerTimes, RequestRecord, record_of
from kamerton.wire.answers import (
    calls_before_end,
    chat_answer,
    chat_chunk,
    text_answer,
    text_chunk,
    usage_chunk,
    usage_of,
)
from kamerton.wire.bodies import ChatRequest, CompletionRequest

__all__ = ["answer_chat", "answer_completion", "model_of", "read_body"]

_Body = TypeVar("_Body", bound=BaseModel)
_Result = TypeVar("_Result")
_Piece = tuple[int, AnswerUpdate] | None
_Pieces = AsyncGenerator[_Piece, None]


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
            "tool_calls": self.last.tool_calls if self.last else (),
        }


class _EventStream(StreamingResponse):
    """A stream whose answers stop at once when it ends early, not when memory is collected."""

    def __init__(self, events: AsyncGenerator[str, None], headers: Mapping[str, str]) -> None:
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._events):
            await super().__call__(scope, receive, send)


async def answer_chat(request: Request) -> Response:
    """Answer a chat: `POST /v1/chat/completions`.

    Args:
        request: The HTTP request.

    Returns:
        The answer, or a stream of its pieces.

    Raises:
        ApiError: If the body is wrong, the model unknown or the server full.
    """
    body = await read_body(request, ChatRequest)
    model = model_of(request, body.model)
    generation = _generation(body, model, body.max_completion_tokens or body.max_tokens)
    name = f"chatcmpl-{secrets.token_hex(12)}"
    requests = tuple(
        AnswerRequest(
            f"{name}-{index}",
            model.name,
            _numbered(generation, index),
            chat=[message.plain() for message in body.messages],
            tools=body.offered_tools,
            parallel_calls=body.parallel_tool_calls,
            num_top_logprobs=body.top_logprobs if body.logprobs else None,
            reweighting=body.reweighting,
            grammar=body.grammar,
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
    body = await read_body(request, CompletionRequest)
    model = model_of(request, body.model)
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
            echo=body.echo,
            reweighting=body.reweighting,
            grammar=body.grammar,
            artefact=model.content_hash,
        )
        for index, prompt in enumerate(each for each in prompts for _ in range(body.n))
    )
    job = _Job(name, model, requests, len(prompts), False, body.wants_usage)
    return await _respond(request, job, stream=body.stream)


async def read_body(request: Request, kind: type[_Body]) -> _Body:
    """Read the body of a request.

    Args:
        request: The HTTP request.
        kind: What it must be.

    Returns:
        The body.

    Raises:
        ApiError: If it is something else.
    """
    raw = await request.body()
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        raise ApiError.of_validation(error) from None


def model_of(request: Request, name: str) -> ServedModel:
    """Find the model that a request names.

    Args:
        request: The HTTP request.
        name: What the client wrote.

    Returns:
        The model.

    Raises:
        ApiError: If there is none of that name.
    """
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
    record = record_of(request)
    record.operation = "chat" if job.is_chat else "text_completion"
    record.model, record.num_prompts = job.model.name, job.num_prompts
    ensure_ready(engine)
    admission.enter(len(job.requests))
    record.answers = tuple(AnswerTimes() for _ in job.requests)
    state = request.app.state
    pieces = merged_answers(
        engine, job.requests, admission, record, timeout_s=state.timeout_s, ping_s=state.ping_s
    )
    try:
        if not stream:
            whole = await _unless_left(request, _collect(job, pieces))
            record.is_whole = True
            return JSONResponse(whole, headers=job.headers)
        # The first piece decides whether this is an error, which a stream could not say any more.
        first = await _unless_left(request, anext(pieces))
    except BaseException:
        await pieces.aclose()
        raise
    headers = {**job.headers, "X-Accel-Buffering": "no", "Cache-Control": "no-cache"}
    events = _events(job, first, pieces, record)
    return _EventStream(events, headers)


async def _unless_left(request: Request, work: Awaitable[_Result]) -> _Result:
    """Wait for something as long as the client does."""
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


async def _collect(job: _Job, pieces: _Pieces) -> dict[str, Any]:
    answers = [_Answer() for _ in job.requests]
    async for piece in pieces:
        if piece is not None:
            answers[piece[0]].add(piece[1])
    usage = usage_of([answer.last for answer in answers if answer.last], job.num_prompts)
    write = chat_answer if job.is_chat else text_answer
    return write(job.id, job.model.name, [answer.plain() for answer in answers], usage)


async def _events(
    job: _Job, first: _Piece, pieces: _Pieces, record: RequestRecord
) -> AsyncGenerator[str, None]:
    """Write server-sent events; an error in the middle is an event, as the status is sent."""
    last: dict[int, AnswerUpdate] = {}
    async with aclosing(pieces):
        if job.is_chat:
            for index in range(len(job.requests)):
                opening = chat_chunk(
                    job.id, job.model.name, index, None, with_usage=job.wants_usage
                )
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
            kind = "chat.completion.chunk" if job.is_chat else "text_completion"
            usage = usage_of([last[index] for index in sorted(last)], job.num_prompts)
            yield _event(usage_chunk(job.id, kind, job.model.name, usage))
        record.is_whole = True
        yield "data: [DONE]\n\n"


async def _after(first: _Piece, pieces: _Pieces) -> AsyncIterator[_Piece]:
    yield first
    async for piece in pieces:
        yield piece


def _event(body: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
