"""Shadows: copies of requests to other variants, when nobody has to wait for it.

A copy begins after the client's answer has ended, and only while few answers are open. A client
that comes meanwhile has the engine to itself: the copies are given up. So a shadow sees fewer
requests than its route, and `RoutingCounts` says how many.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from kamerton.core.requests import AnswerRequest
from kamerton.core.routing import Decision
from kamerton.serving.admission import Admission
from kamerton.serving.completion_job import CompletionJob
from kamerton.serving.engine import ServingEngine
from kamerton.serving.record import AnswerTimes, RequestRecord
from kamerton.serving.routing_counts import Outcome, RoutingCounts

__all__ = ["Shadows"]


@dataclass(frozen=True)
class _Copy:
    """A request that is to be answered once more, by a shadow.

    Attributes:
        job: The answers to compute.
        of: Record of the client's request.
        decision: Why it is computed.
    """

    job: CompletionJob
    of: RequestRecord
    decision: Decision


class Shadows:
    """Answers copies of requests beside clients' requests.

    Args:
        engine: Answers.
        admission: Knows how many answers clients wait for.
        counts: Is told what came of each copy.
        most_open: Clients' answers that may be open while copies are computed.
        most_running: Copies computed at once.
        most_waiting: Copies that wait; further ones are dropped.
        timeout_s: Seconds that a copy may take.
        record: Called with the record of each copy that was answered, and the id of the
            completion that the client got.
    """

    def __init__(
        self,
        engine: ServingEngine,
        admission: Admission,
        counts: RoutingCounts,
        *,
        most_open: int = 8,
        most_running: int = 4,
        most_waiting: int = 256,
        timeout_s: float = 600.0,
        record: Callable[[RequestRecord, str], None] = lambda record, shadow_of: None,
    ) -> None:
        self._engine, self._admission, self._counts = engine, admission, counts
        self._most_open, self._most_running = most_open, most_running
        self._most_waiting, self._timeout_s, self._record = most_waiting, timeout_s, record
        self._held: dict[RequestRecord, list[_Copy]] = {}
        self._waiting: deque[_Copy] = deque()
        self._running: dict[asyncio.Task[None], _Copy] = {}

    def hold(self, record: RequestRecord, jobs: Sequence[CompletionJob]) -> None:
        """Keep copies of a request until its client has the answer; make room for it now.

        Args:
            record: Of the client's request, which has begun.
            jobs: One per shadow.
        """
        if self._is_busy:
            for task in list(self._running):
                task.cancel()
        decision = record.decision
        if decision is None or not jobs:
            return
        self._held[record] = [
            _Copy(job, record, replace(decision, variant=job.model.name, shadows=()))
            for job in jobs
        ]  # fmt: skip

    def release(self, record: RequestRecord) -> None:
        """Let the copies of a request wait for their turn; start what can be started.

        Args:
            record: Of a client's request that is over.
        """
        for copy in self._held.pop(record, ()):
            # What its client did not get whole cannot be compared.
            if record.status != 200 or len(self._waiting) >= self._most_waiting:
                self._count(copy, "dropped")
            else:
                self._waiting.append(copy)
        self._start()

    @property
    def is_idle(self) -> bool:
        """Whether no copy is computed, waits or is held."""
        return not (self._running or self._waiting or self._held)

    @property
    def _is_busy(self) -> bool:
        return self._admission.is_draining or self._admission.num_open > self._most_open

    def _start(self) -> None:
        while self._waiting and len(self._running) < self._most_running and not self._is_busy:
            copy = self._waiting.popleft()
            task = asyncio.get_running_loop().create_task(self._run(copy))
            self._running[task] = copy
            task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        copy = self._running.pop(task)
        if task.cancelled():
            self._count(copy, "dropped")
        elif task.exception() is not None:
            self._count(copy, "failed")
        else:
            self._count(copy, "answered")
        if not task.cancelled():
            self._start()

    async def _run(self, copy: _Copy) -> None:
        job, of = copy.job, copy.of
        record = RequestRecord(f"req-{secrets.token_hex(12)}", of.method, of.path)
        record.operation, record.model, record.key = of.operation, job.model.name, of.key
        record.caller, record.decision = of.caller, copy.decision
        record.completion_id, record.requests = job.id, job.requests
        record.num_prompts = job.num_prompts
        record.answers = tuple(AnswerTimes() for _ in job.requests)
        async with asyncio.timeout(self._timeout_s):
            for answer, request in zip(record.answers, job.requests, strict=True):
                await self._answer(request, answer)
        record.status, record.is_whole = 200, True
        record.finish()
        self._record(record, of.completion_id)

    async def _answer(self, request: AnswerRequest, answer: AnswerTimes) -> None:
        async with aclosing(self._engine.answer(request)) as updates:  # type: ignore[type-var]
            async for update in updates:
                answer.add(update)
                if update.error:
                    raise RuntimeError(update.error)

    def _count(self, copy: _Copy, outcome: Outcome) -> None:
        self._counts.add_shadow(copy.decision.route, copy.job.model.name, outcome)
