"""Each answered request leaves a row before its last bytes leave the server."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

from kamerton.evaluation.live_metrics import BUILT_IN, LiveMetric
from kamerton.serving.answer_checks import AnswerChecker
from kamerton.serving.live_counts import LiveCounts
from kamerton.serving.metrics import Family
from kamerton.serving.record import RequestRecord
from kamerton.serving.record_policy import RecordPolicy
from kamerton.serving.request_rows import row_of
from kamerton.serving.row_writer import RowWriter
from kamerton.store.database import Store
from kamerton.store.retention import forget_texts
from kamerton.store.traffic import Exposure, RequestRow, now

__all__ = ["Recording"]

_FORGET_EVERY_S = 3600.0
_LOOK_EVERY_S = 0.1
"""How soon an answer that waits notices that the store fails."""


class Recording:
    """Turns records of requests into rows, and waits until they are committed.

    Args:
        store: An open store.
        policy: What is kept.
        days: Days after which texts are deleted; None keeps them.
        wait_s: Longest time that an answer waits for its row.
        cost: Prices a row; None where no price is known.
        metrics: Known ones; the checks among them run on answers.
        writer: Writes the rows; one over the store where it is not given.
    """

    def __init__(
        self,
        store: Store,
        policy: RecordPolicy | None = None,
        *,
        days: float | None = None,
        wait_s: float = 2.0,
        cost: Callable[[RequestRow], float | None] = lambda row: None,
        metrics: Mapping[str, LiveMetric] = BUILT_IN,
        writer: RowWriter | None = None,
    ) -> None:
        self.store, self.policy = store, policy or RecordPolicy()
        self._days, self._wait_s, self._cost = days, wait_s, cost
        self.writer = writer or RowWriter(store)
        self._checker = AnswerChecker(metrics, self.writer.put)
        self.counts = LiveCounts()
        self.num_late = self.num_not_forgotten = 0
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to write."""
        self.writer.start()
        self._checker.start()
        if self._days is not None:
            threading.Thread(target=self._forget, name="retention", daemon=True).start()

    def stop(self) -> None:
        """Write what is on its way, then end."""
        self._stopped.set()
        self._checker.stop()
        self.writer.stop()

    async def answered(self, record: RequestRecord) -> None:
        """Wait until the row of an answer is committed, at most for the bounded time.

        Args:
            record: Of a request whose last bytes have not left yet.
        """
        if not record.operation or record.is_recorded:
            return
        record.is_recorded = True
        row = self._row(record)
        if self.policy.text == "redacted":
            # Finding phone numbers takes milliseconds, which other answers need not wait for.
            try:
                kept = await asyncio.to_thread(self.policy.kept, row)
            except asyncio.CancelledError:
                # The client left meanwhile; its answer was whole.
                self.writer.put(self.policy.kept(row))
                raise
        else:
            kept = self.policy.kept(row)
        written = asyncio.wrap_future(self.writer.put(kept))
        self._checker.put(row)
        if not await self._is_committed(written):
            self.num_late += 1

    async def _is_committed(self, written: "asyncio.Future[bool]") -> bool:
        """Wait for a commit, as long as the store neither fails nor hangs already."""
        deadline = time.monotonic() + self._wait_s
        while (left_s := deadline - time.monotonic()) > 0 and not written.done():
            if self.writer.is_failing or self.writer.busy_s > self._wait_s:
                break
            await asyncio.wait([written], timeout=min(left_s, _LOOK_EVERY_S))
        return written.done() and written.result()

    def ended(self, record: RequestRecord) -> None:
        """Record a request that ended without a whole answer; nobody waits for its row.

        Args:
            record: Of a request that is over.
        """
        if record.operation and not record.is_recorded:
            record.is_recorded = True
            self.writer.put(self.policy.kept(self._row(record)))

    def add(self, row: RequestRow) -> None:
        """Record a row that no client waits for, such as a shadow's.

        Args:
            row: With texts and ids as they came: the policy makes of them what may be kept.
        """
        hidden = self.policy.hidden
        row = replace(row, unit=hidden(row.unit), conversation=hidden(row.conversation))
        self.writer.put(self.policy.kept(replace(row, cost=self._cost(row))))
        self._checker.put(row)

    def add_shadow(self, record: RequestRecord, shadow_of: str) -> None:
        """Record the answer of a shadow.

        Args:
            record: Of the copy, which is over.
            shadow_of: Id of the completion that the client got.
        """
        self.add(row_of(record, record.duration_s, shadow_of=shadow_of))

    def expose(self, exposure: Exposure) -> None:
        """Note a unit's assignment when it is decided.

        Args:
            exposure: With the unit as the client sent it.
        """
        self.writer.put(replace(exposure, unit=self.policy.hidden(exposure.unit)))

    def families(self) -> list[Family]:
        """Give what Prometheus reads.

        Returns:
            Families of counters and gauges.
        """
        writer = self.writer
        return [
            ("kamerton_rows_total", "counter", "Recorded rows.", [("", (), writer.num_written)]),
            ("kamerton_rows_lost_total", "counter",
             "Rows that were not recorded: the store failed for too long.",
             [("", (), writer.num_lost)]),
            ("kamerton_rows_late_total", "counter",
             "Answers that left before their row was committed.", [("", (), self.num_late)]),
            ("kamerton_rows_waiting", "gauge", "Rows on their way.",
             [("", (), writer.num_waiting)]),
            ("kamerton_answers_unchecked_total", "counter",
             "Answers that were left out because too many waited for their checks.",
             [("", (), self._checker.num_left_out)]),
            ("kamerton_retention_failures_total", "counter",
             "Times that old texts could not be deleted.", [("", (), self.num_not_forgotten)]),
            *self.counts.families(),
        ]  # fmt: skip

    def _row(self, record: RequestRecord) -> RequestRow:
        row = row_of(record, time.perf_counter() - record.started, hide=self.policy.hidden)
        row = replace(row, cost=self._cost(row))
        self.counts.add(row)
        return row

    def _forget(self) -> None:
        """Delete old texts now and every hour; a store that fails is asked again an hour later."""
        assert self._days is not None
        while not self._stopped.is_set():
            try:
                with self.store.begin() as connection:
                    forget_texts(connection, now() - timedelta(days=self._days))
            except Exception:
                self.num_not_forgotten += 1
            self._stopped.wait(_FORGET_EVERY_S)
