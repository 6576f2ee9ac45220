"""The judge's engine: an OpenAI-compatible one over HTTP, or a base or variant on this machine."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kamerton.core.errors import EvaluationError
from kamerton.core.events import Progress, Sink
from kamerton.core.language import translated
from kamerton.core.protocols import Chat, Engine
from kamerton.evaluation.judge import MARKS, Ask, Pair, judge_chat
from kamerton.flows.chat import Conversation
from kamerton.flows.loopback import is_loopback
from kamerton.flows.workspace import Workspace
from kamerton.serving.upstream import Upstream, UpstreamError
from kamerton.variants.load import Opening

__all__ = ["JudgeOptions", "open_judge"]

_MOST_TOKENS = 1024
_AT_ONCE = 4
_NUM_TRIES = 4
_MOST_WAIT_S = 30.0
_READ_S = 120.0
_PER_BATCH = 16
_EASY = Pair(({"role": "user", "content": "What is 2 + 2?"},), "4", "I do not know.")

Sleep = Callable[[float], Awaitable[None]]
"""Waits for some seconds."""


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """Who judges.

    Attributes:
        place: URL of an OpenAI-compatible engine, or the name of a variant or base.
        model: The model's name in the engine.
        key: Sent as a bearer token; empty sends none.
        sees_texts: Whether an engine on another machine may be sent questions and answers.
    """

    place: str
    model: str = ""
    key: str = ""
    sees_texts: bool = False

    @property
    def is_url(self) -> bool:
        """Whether it is asked over HTTP."""
        return "://" in self.place

    @property
    def elsewhere(self) -> str:
        """The other machine that it is asked on; empty where it is this one."""
        host = (urlsplit(self.place).hostname or "") if self.is_url else ""
        return "" if not host or is_loopback(self.place) else host

    @property
    def name(self) -> str:
        """The name in tables."""
        return self.model if self.is_url else Path(self.place).name


def open_judge(
    options: JudgeOptions,
    workspace: Workspace,
    sink: Sink,
    opening: Opening | None = None,
    sleep: Sleep = asyncio.sleep,
) -> Ask:
    """Make ready to ask a judge, and see that it answers.

    Args:
        options: Who judges.
        workspace: The workspace of variants.
        sink: Receives progress.
        opening: The way a base is opened.
        sleep: Waits before a request is sent again.

    Returns:
        Asks the judge. It raises an `EvaluationError` when an engine fails again and again.

    Raises:
        EvaluationError: If it does not answer, or is on another machine without permission.
    """
    if not options.is_url:
        found = Conversation.open([options.place], workspace, opening=opening)
        return _EngineJudge(found.engines[options.place], sink)
    parts = urlsplit(options.place)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EvaluationError(
            translated(
                "--judge must be an address such as http://127.0.0.1:8000/v1, or the "
                "name of a variant or base, got {place}",
                place=options.place,
            )
        )
    if parts.username or parts.query or parts.fragment:
        raise EvaluationError(
            translated("--judge must be an address without user, password, '?' and '#'"),
            hint=translated("set KAMERTON_JUDGE_KEY to the key of the engine"),
        )
    if not options.model:
        raise EvaluationError(
            translated("--judge: the engine must be told which of its models judges"),
            hint=translated("add --judge-model NAME"),
        )
    if options.elsewhere and not options.sees_texts:
        raise EvaluationError(
            translated(
                "--judge: {elsewhere} is another machine, and would be sent every "
                "question with its answers",
                elsewhere=options.elsewhere,
            ),
            hint=translated("add --judge-sees-texts if these texts may leave this machine"),
        )
    judge = _HttpJudge(options, sink, sleep)
    judge.ensure_answers()
    return judge


@dataclass(frozen=True, slots=True)
class _EngineJudge:
    """Asks an engine in this process which verdict is the likeliest: small models write none."""

    engine: Engine
    sink: Sink

    def __call__(self, chats: Sequence[Chat]) -> list[str | None]:
        """Ask, some chats at a time."""
        replies: list[str | None] = []
        for start in range(0, len(chats), _PER_BATCH):
            batch = chats[start : start + _PER_BATCH]
            for scores in self.engine.score(batch, [MARKS] * len(batch)):
                best = max(range(len(MARKS)), key=lambda mark: scores[mark].logprob)
                replies.append(MARKS[best])
            self.sink(Progress(translated("judging"), len(replies), len(chats), "replies"))
        return replies


class _HttpJudge:
    """Asks an engine over HTTP, a few requests at a time, each at most a few times."""

    def __init__(self, options: JudgeOptions, sink: Sink, sleep: Sleep) -> None:
        self._options, self._sink, self._sleep = options, sink, sleep

    def ensure_answers(self) -> None:
        """Ask something easy, before an hour of answers is waited for."""
        try:
            reply = asyncio.run(self._ask_all([judge_chat(_EASY, swapped=False)], is_first=True))
        except UpstreamError as error:
            raise self._failed(error) from None
        if not reply[0]:
            raise self._failed(UpstreamError(502, "the engine's reply holds no text"))

    def __call__(self, chats: Sequence[Chat]) -> list[str | None]:
        """Ask all; None stands for what the engine refuses, such as a chat that is too long."""
        try:
            return asyncio.run(self._ask_all(chats))
        except UpstreamError as error:
            raise self._failed(error) from None

    def _failed(self, error: UpstreamError) -> EvaluationError:
        return EvaluationError(
            translated(
                "--judge {place}: model {model} does not answer: {message}",
                place=self._options.place,
                model=self._options.model,
                message=error.message,
            ),
            hint=translated(
                "see that the engine runs, has this model, and takes the key of --judge-key"
            ),
        )

    async def _ask_all(self, chats: Sequence[Chat], *, is_first: bool = False) -> list[str | None]:
        url = self._options.place.rstrip("/").removesuffix("/v1").rstrip("/")
        upstream = Upstream(url, self._options.key, read_s=_READ_S)
        gate, num_done = asyncio.Semaphore(_AT_ONCE), 0

        async def ask_one(chat: Chat) -> str | None:
            nonlocal num_done
            async with gate:
                try:
                    reply = await self._ask(upstream, chat)
                except UpstreamError as error:
                    if is_first or not error.is_of_request:
                        raise
                    reply = None
            num_done += 1
            self._sink(Progress(translated("judging"), num_done, len(chats), "replies"))
            return reply

        upstream.open()
        tasks = [asyncio.create_task(ask_one(chat)) for chat in chats]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await upstream.close()

    async def _ask(self, upstream: Upstream, chat: Chat) -> str | None:
        body = {
            "model": self._options.model,
            "messages": [dict(message) for message in chat],
            "temperature": 0,
            "max_tokens": _MOST_TOKENS,
        }
        for tried in range(1, _NUM_TRIES + 1):
            try:
                return _text_of(await upstream.post("/v1/chat/completions", body))
            except UpstreamError as error:
                may_pass = error.status in (0, 408, 429) or error.status >= 500
                if not may_pass or tried == _NUM_TRIES:
                    raise
                wait = 2.0 ** (tried - 1) if error.retry_after_s is None else error.retry_after_s
                await self._sleep(min(wait, _MOST_WAIT_S))
        raise AssertionError("the last try returns or raises")


def _text_of(body: Any) -> str | None:
    """Read the text of a chat completion."""
    try:
        text = body["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        said = body if isinstance(body, str) else list(body) if isinstance(body, Mapping) else body
        raise UpstreamError(400, f"the engine sent no chat completion, but {said!r:.80}") from None
    return text if isinstance(text, str) else None
