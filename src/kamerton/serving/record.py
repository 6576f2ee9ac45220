"""What the gateway remembers of a request until it is over: for metrics and the access log."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kamerton.core.protocols import ToolCall
from kamerton.core.requests import AnswerRequest, AnswerUpdate
from kamerton.core.routing import Caller, Decision
from kamerton.serving.callers import caller_of
from kamerton.serving.errors import CLIENT_LEFT

__all__ = ["AnswerTimes", "Headers", "Recorder", "RequestRecord", "record_of"]


@dataclass
class AnswerTimes:
    """One answer of a request as it grows.

    Attributes:
        first_at: When its first token came; None before.
        last_at: When its newest token came.
        num_prompt_tokens: Tokens of its prompt.
        num_tokens: Tokens written so far.
        pieces: Its text so far, for what is told of a whole answer: whether it refuses.
        finish_reason: Why it ended; empty before.
        tool_calls: Functions that it calls.
    """

    first_at: float | None = None
    last_at: float = 0.0
    num_prompt_tokens: int = 0
    num_tokens: int = 0
    pieces: list[str] = field(default_factory=list, repr=False)
    finish_reason: str = ""
    tool_calls: tuple[ToolCall, ...] = field(default=(), repr=False)

    def add(self, update: AnswerUpdate) -> None:
        """Note a piece.

        Args:
            update: The piece.
        """
        self.num_prompt_tokens = max(self.num_prompt_tokens, update.num_prompt_tokens)
        self.pieces.append(update.text)
        self.finish_reason = update.finish_reason or self.finish_reason
        self.tool_calls = update.tool_calls or self.tool_calls
        if update.num_tokens > self.num_tokens:
            self.num_tokens, self.last_at = update.num_tokens, time.perf_counter()
            self.first_at = self.first_at or self.last_at

    @property
    def time_per_output_token_s(self) -> float | None:
        """Mean time from a token to the next; None where there are less than two."""
        if self.first_at is None or self.num_tokens < 2:
            return None
        return (self.last_at - self.first_at) / (self.num_tokens - 1)


@dataclass(eq=False)
class RequestRecord:
    """An HTTP request from its arrival to its end.

    It holds texts of prompts and answers as long as the request is open: never in its `repr`.

    Attributes:
        id: Sent to the client as `x-request-id`.
        method: Of HTTP.
        path: Without the query.
        came_at: Unix time.
        started: The same on the clock that measures.
        status: What the client was told: the HTTP status, the code of an error in the middle of
            a stream, or 499 where the client left before the end; 0 while it is open.
        operation: "chat" or "text_completion"; empty for what asks for no answer.
        model: The served model that answers; empty where there is none of the name asked for.
        key: Name of the client's key.
        caller: Who asks.
        decision: Which variant answers, and why; None where no model was found.
        answers: One per answer that was asked for; answers to one prompt stand together.
        num_prompts: Different prompts among them.
        is_whole: Whether an answer was written to its end.
        duration_s: How long it took; 0 while it is open.
        completion_id: Id of the completion, as the client sees it; empty without one.
        requests: The answers that were asked for.
        is_recorded: Whether its row is on its way to the store.
    """

    id: str
    method: str
    path: str
    came_at: float = field(default_factory=time.time)
    started: float = field(default_factory=time.perf_counter)
    status: int = 0
    operation: str = ""
    model: str = ""
    key: str = ""
    caller: Caller = field(default_factory=Caller, repr=False)
    decision: Decision | None = None
    answers: tuple[AnswerTimes, ...] = ()
    num_prompts: int = 1
    is_whole: bool = False
    duration_s: float = 0.0
    completion_id: str = ""
    requests: tuple[AnswerRequest, ...] = field(default=(), repr=False)
    is_recorded: bool = False

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of all different prompts."""
        each = max(len(self.answers) // max(self.num_prompts, 1), 1)
        groups = (self.answers[at : at + each] for at in range(0, len(self.answers), each))
        return sum(max(answer.num_prompt_tokens for answer in group) for group in groups)

    @property
    def num_tokens(self) -> int:
        """Tokens of all answers, those of a client that left included."""
        return sum(answer.num_tokens for answer in self.answers)

    @property
    def time_to_first_token_s(self) -> float | None:
        """From the request's arrival; None where no token came."""
        times = [answer.first_at for answer in self.answers if answer.first_at is not None]
        return min(times) - self.started if times else None

    @property
    def num_waiting(self) -> int:
        """Answers of which nothing has come yet."""
        return sum(answer.first_at is None for answer in self.answers)

    def fail(self, status: int) -> None:
        """Note an error that comes after the HTTP status was sent.

        Args:
            status: What the status would have been.
        """
        self.status, self.is_whole = status, True

    def finish(self) -> None:
        """Note the end."""
        self.duration_s = time.perf_counter() - self.started
        if self.answers and self.status in (0, 200) and not self.is_whole:
            self.status = CLIENT_LEFT
        self.status = self.status or 500


def record_of(request: Request) -> RequestRecord:
    """Give the record of a request.

    Args:
        request: The HTTP request, as a route gets it.

    Returns:
        The record, to be filled in.
    """
    record: RequestRecord = request.state.record
    return record


Headers = Sequence[tuple[bytes, bytes]]
"""Names in lower case, and values."""


class _ReaderStalled(Exception):
    pass


class Recorder:
    """The outermost ASGI middleware: keeps a record of each request and gives it an id.

    Args:
        app: What comes behind it.
        begin: Called with each record when its request comes.
        end: Called with it when the request is over, however it ended.
        stall_s: A client that takes nothing of its answer for so many seconds is cut off.
        answered: Awaited before the last bytes of a whole answer leave.
        headers_of: Further headers of a response.
    """

    def __init__(
        self,
        app: ASGIApp,
        begin: Callable[[RequestRecord], None],
        end: Callable[[RequestRecord], None],
        stall_s: float,
        answered: Callable[[RequestRecord], Awaitable[None]] | None = None,
        headers_of: Callable[[RequestRecord], Headers] = lambda record: (),
    ) -> None:
        self._app, self._begin, self._end, self._stall_s = app, begin, end, stall_s
        self._answered, self._headers_of = answered, headers_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = RequestRecord(f"req-{secrets.token_hex(12)}", scope["method"], scope["path"])
        record.caller = caller_of(scope["headers"])
        scope.setdefault("state", {})["record"] = record
        is_held = False

        async def send_with_id(message: Message) -> None:
            nonlocal is_held
            if message["type"] == "http.response.start":
                record.status = record.status or message["status"]
                own = (b"x-request-id", record.id.encode())
                headers = [*message.get("headers", ()), own, *self._headers_of(record)]
                message = {**message, "headers": headers}
            elif record.is_whole and self._answered is not None and not is_held:
                # What follows tells the client that the answer is whole: the row comes first.
                is_held = True
                await self._answered(record)
            try:
                # The server waits here while what was sent before has not been taken.
                async with asyncio.timeout(self._stall_s):
                    await send(message)
            except TimeoutError:
                raise _ReaderStalled from None

        self._begin(record)
        try:
            await self._app(scope, receive, send_with_id)
        except _ReaderStalled:
            # The server closes a connection whose response was not finished.
            record.fail(CLIENT_LEFT)
        finally:
            record.finish()
            self._end(record)
