"""`/v1/chat/completions` and `/v1/completions`: whole answers and streamed ones."""

from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kamerton.core.requests import AnswerUpdate, TokenLogprob
from kamerton.serving.admission import Admission, ensure_ready
from kamerton.serving.completion_job import CompletionJob, make_job
from kamerton.serving.engine import ServingEngine
from kamerton.serving.event_stream import EventStream, write_events
from kamerton.serving.merged_answers import Pieces, merged_answers
from kamerton.serving.record import AnswerTimes, record_of
from kamerton.serving.request_body import read_body
from kamerton.serving.resolving import resolve_model, shadow_models, variant_headers
from kamerton.serving.shadows import Shadows
from kamerton.serving.waiting import unless_left
from kamerton.wire.bodies import ChatRequest, CompletionRequest

__all__ = ["answer_chat", "answer_completion"]


async def answer_chat(request: Request) -> Response:
    """Answer a chat: `POST /v1/chat/completions`.

    Args:
        request: The HTTP request.

    Returns:
        The answer, or a stream of its pieces.

    Raises:
        ApiError: If the body is wrong, the model unknown or the server full.
    """
    return await _respond(request, await read_body(request, ChatRequest))


async def answer_completion(request: Request) -> Response:
    """Go on from texts or tokens: `POST /v1/completions`.

    Args:
        request: The HTTP request.

    Returns:
        The continuations, or a stream of their pieces.

    Raises:
        ApiError: If the body is wrong, the model unknown or the server full.
    """
    return await _respond(request, await read_body(request, CompletionRequest))


async def _respond(request: Request, body: ChatRequest | CompletionRequest) -> Response:
    state = request.app.state
    admission: Admission = state.admission
    engine: ServingEngine = state.engine
    job = make_job(body, resolve_model(request, body.model))
    record = record_of(request)
    record.operation = "chat" if job.is_chat else "text_completion"
    record.num_prompts = job.num_prompts
    record.completion_id, record.requests = job.id, job.requests
    ensure_ready(engine)
    admission.enter(len(job.requests))
    record.answers = tuple(AnswerTimes() for _ in job.requests)
    shadows: Shadows = state.shadows
    shadows.hold(record, [make_job(body, one) for one in shadow_models(request)])
    pieces = merged_answers(
        engine, job.requests, admission, record, timeout_s=state.timeout_s, ping_s=state.ping_s
    )
    headers = variant_headers(job.model)
    try:
        if not body.stream:
            whole = await unless_left(request, _collect(job, pieces))
            record.is_whole = True
            return JSONResponse(whole, headers=headers)
        # The first piece decides whether this is an error, which a stream could not say any more.
        first = await unless_left(request, anext(pieces))
    except BaseException:
        await pieces.aclose()
        raise
    return EventStream(write_events(job, first, pieces, record), headers)


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


async def _collect(job: CompletionJob, pieces: Pieces) -> dict[str, Any]:
    answers = [_Answer() for _ in job.requests]
    async for piece in pieces:
        if piece is not None:
            answers[piece[0]].add(piece[1])
    last = [answer.last for answer in answers if answer.last]
    return job.answer([answer.plain() for answer in answers], last)
