"""Asks a teacher over HTTP: a few requests at a time, again after faults, within a budget.

What came back is never asked for again. A request that the server refused costs nothing. A request
whose answer was lost on the way (a time-out, a cut connection) is asked again, and counts as paid
each time: nobody here can know.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

from kamerton.labelling.budget import Budget
from kamerton.labelling.given_answers import GivenAnswers, Tokens
from kamerton.labelling.questions import most_tokens, read_body
from kamerton.labelling.settings import TeacherSettings

__all__ = ["Asking", "Job", "Post", "RequestFailed", "TeacherFailed"]

_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 529)
_OF_JOB = (401, 403, 404, 405)
# A gateway lost the answer of what stands behind it, which may have been computed.
_LOST = (408, 502, 504)
_REFUSED_FROM_THE_START = 3
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 60.0


class RequestFailed(Exception):
    """A request without an answer.

    Args:
        status: HTTP status; 0 where there was none.
        message: What went wrong.
        retry_after_s: Seconds that the server asks to wait; None where it does not say.
        was_sent: Whether the server may have seen it.
    """

    def __init__(
        self,
        status: int,
        message: str,
        retry_after_s: float | None = None,
        *,
        was_sent: bool = True,
    ) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.retry_after_s, self.was_sent = retry_after_s, was_sent


class TeacherFailed(Exception):
    """A teacher that cannot be asked any more."""


Post = Callable[[Mapping[str, Any]], Awaitable[Any]]
"""Sends the body of a request and gives that of the answer; raises `RequestFailed`."""


@dataclass(frozen=True, slots=True)
class Job:
    """One request.

    Attributes:
        text: Position of the text.
        sample: Number of the sample.
        key: Hash of everything that decides the answer.
        body: The request.
    """

    text: int
    sample: int
    key: str
    body: Mapping[str, Any]


class Asking:
    """Asks what is not known yet.

    Args:
        post: Sends a request.
        settings: How the teacher is asked.
        answers: What was answered before; takes what comes.
        budget: What may be spent.
        sleep: Waits for so many seconds.
        clock: Gives the seconds that `sleep` waits for.
    """

    def __init__(
        self,
        post: Post,
        settings: TeacherSettings,
        answers: GivenAnswers,
        budget: Budget,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._post, self._settings, self._answers = post, settings, answers
        self._budget, self._sleep, self._clock = budget, sleep, clock
        self._overhead = 0
        self._has_answered = False
        self._num_refused = 0
        self._not_before = 0.0
        self._draw = Random(0)
        self._failure: TeacherFailed | None = None
        self._is_stopping = False
        self._num_open = 0
        self._is_quiet = asyncio.Event()
        self._is_quiet.set()

    async def ask(
        self, jobs: Iterable[Job]
    ) -> AsyncGenerator[tuple[Job, Mapping[str, Any] | None], None]:
        """Ask, several requests at a time.

        Args:
            jobs: The requests.

        Yields:
            Requests with their answers, in the order in which these come; None where the budget
            is spent.

        Raises:
            TeacherFailed: If the teacher cannot be asked any more.
        """
        left = iter(jobs)
        # The first answer tells how many tokens the server adds to a prompt.
        for job in left:
            yield job, await self._answer(job)
            if self._has_answered:
                break
        done: asyncio.Queue[tuple[Job, Mapping[str, Any] | None] | None] = asyncio.Queue()

        async def work() -> None:
            for job in left:
                if self._is_stopping:
                    return
                try:
                    done.put_nowait((job, await self._answer(job)))
                except TeacherFailed as failure:
                    self._failure = self._failure or failure
                    self._is_stopping = True

        async def work_all() -> None:
            try:
                await asyncio.gather(*(work() for _ in range(self._settings.concurrency)))
            finally:
                done.put_nowait(None)

        working = asyncio.create_task(work_all())
        try:
            while (found := await done.get()) is not None:
                yield found
            await working
            if self._failure is not None:
                raise self._failure
        finally:
            # What is under way is paid for: its answers are worth waiting for, also at Ctrl-C.
            self._is_stopping = True
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_quiet.wait(), self._settings.timeout_s)
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def _answer(self, job: Job) -> Mapping[str, Any] | None:
        known = self._answers.get(job.key)
        if known is not None:
            self._has_answered = True
            return known
        for attempt in range(self._settings.attempts):
            await self._wait_for_server()
            if self._is_stopping:
                return None
            overhead = self._overhead
            most = most_tokens(job.body, self._settings, overhead)
            if not await self._budget.reserve(most):
                return None
            used = most
            self._answers.begin(job.key, most)
            self._count(1)
            try:
                body = await self._post(job.body)
                answer, told = read_body(body)
                used = told or most
                self._answers.finish(job.key, answer, used, paid=True)
                self._learn(overhead, used.prompt - most.prompt)
                return answer
            except RequestFailed as failure:
                is_lost = failure.status in _LOST or (not failure.status and failure.was_sent)
                if not is_lost:
                    self._answers.free(job.key)
                    used = Tokens()
                refused = self._refused(failure)
                if refused is not None:
                    return refused
                last = failure
            finally:
                self._count(-1)
                # Also when the job is stopped here: what was sent may be paid.
                await asyncio.shield(self._budget.settle(most, used))
            if attempt + 1 < self._settings.attempts:
                await self._back_off(last, attempt)
        raise TeacherFailed(f"no answer in {self._settings.attempts} attempts: {last.message}")

    def _count(self, change: int) -> None:
        self._num_open += change
        if self._num_open:
            self._is_quiet.clear()
        else:
            self._is_quiet.set()

    def _learn(self, overhead: int, more: int) -> None:
        """Note how many tokens a server adds to a prompt: `more` than were reckoned with."""
        self._has_answered = True
        self._overhead = max(self._overhead, overhead + more)

    def _refused(self, failure: RequestFailed) -> Mapping[str, Any] | None:
        """Tell what is to be done: ask again (None), leave this text out, or stop."""
        if failure.status in (0, *_AGAIN) or failure.status >= 500:
            return None
        self._num_refused += 1
        hopeless = not self._has_answered and self._num_refused >= _REFUSED_FROM_THE_START
        if failure.status in _OF_JOB or hopeless:
            raise TeacherFailed(f"status {failure.status}: {failure.message}")
        # Too long, or what the server does not like: others may be answered all the same.
        return {"malformed": f"status {failure.status}: {failure.message}"}

    async def _back_off(self, failure: RequestFailed, attempt: int) -> None:
        # Full waits at once would meet again.
        longest = min(_FIRST_WAIT_S * 2**attempt, _LONGEST_WAIT_S)
        wait = longest * (0.5 + self._draw.random() / 2)
        asked = failure.retry_after_s
        if asked is not None:
            self._not_before = max(self._not_before, self._clock() + asked)
        # Some servers ask to wait for 0 s and refuse again.
        if asked is None or asked < wait:
            await self._sleep(wait)

    async def _wait_for_server(self) -> None:
        """Wait as long as the server has asked anyone of us to."""
        while (left := self._not_before - self._clock()) > 0:
            await self._sleep(left)
