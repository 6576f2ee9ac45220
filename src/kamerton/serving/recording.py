"""Each answered request leaves a row before its last bytes leave the server."""

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from kamerton.data.privacy.redaction import Redactor
from kamerton.serving.record import RequestRecord
from kamerton.serving.request_rows import row_of
from kamerton.serving.row_writer import RowWriter
from kamerton.store.database import Store
from kamerton.store.traffic import Exposure, RequestRow

__all__ = ["RecordPolicy", "Recording", "TextPolicy"]

TextPolicy = Literal["none", "redacted", "full"]
"""What of prompts and answers is stored."""


@dataclass(frozen=True, slots=True)
class RecordPolicy:
    """What is kept of a request.

    Attributes:
        text: Whether prompts and answers are stored, and whether personal data is masked first.
        days: Days after which a row is deleted; None keeps it.
        unit_secret: Key that units and conversations are hashed with; empty stores them as given.
    """

    text: TextPolicy = "none"
    days: float | None = None
    unit_secret: bytes = field(default=b"", repr=False)

    def hidden(self, unit: str) -> str:
        """Give the id that is stored for a unit or a conversation.

        Args:
            unit: As the client sent it.

        Returns:
            The same one, or its keyed hash; the same id has the same hash.
        """
        if not unit or not self.unit_secret:
            return unit
        return hmac.new(self.unit_secret, unit.encode(), hashlib.sha256).hexdigest()[:32]


class Recording:
    """Turns records of requests into rows, and waits until they are committed.

    Args:
        store: An open store.
        policy: What is kept.
        wait_s: Longest time that an answer waits for its row.
        price: Cost of an answer; None where no price is known.
        writer: Writes the rows; one over the store where it is not given.
    """

    def __init__(
        self,
        store: Store,
        policy: RecordPolicy | None = None,
        *,
        wait_s: float = 2.0,
        price: Callable[[RequestRow], float | None] = lambda row: None,
        writer: RowWriter | None = None,
    ) -> None:
        self.store, self.policy = store, policy or RecordPolicy()
        self._wait_s, self._price = wait_s, price
        self._writer = writer or RowWriter(store)
        self.num_late = 0

    @property
    def num_written(self) -> int:
        """Rows that are committed."""
        return self._writer.num_written

    @property
    def num_lost(self) -> int:
        """Rows that will never be."""
        return self._writer.num_lost

    @property
    def num_waiting(self) -> int:
        """Rows on their way."""
        return self._writer.num_waiting

    def start(self) -> None:
        """Begin to write."""
        self._writer.start()

    def stop(self) -> None:
        """Write what is on its way, then end."""
        self._writer.stop()

    async def answered(self, record: RequestRecord) -> None:
        """Wait until the row of an answer is committed, at most for the bounded time.

        Args:
            record: Of a request whose last bytes have not left yet.
        """
        if not record.operation or record.is_recorded:
            return
        record.is_recorded = True
        row = self.row_of(record)
        if self.policy.text == "redacted":
            # Finding phone numbers takes milliseconds, which other answers need not wait for.
            row = await asyncio.to_thread(_redacted, row)
        written = asyncio.wrap_future(self._writer.put(row))
        # Where the store hangs or fails already, waiting would only hold up the answer.
        hangs = self._writer.is_failing or self._writer.busy_s > self._wait_s
        done, _ = await asyncio.wait([written], timeout=0 if hangs else self._wait_s)
        if not done or not written.result():
            self.num_late += 1

    def ended(self, record: RequestRecord) -> None:
        """Record a request that ended without a whole answer; nobody waits for its row.

        Args:
            record: Of a request that is over.
        """
        if not record.operation or record.is_recorded:
            return
        record.is_recorded = True
        self.add(self.row_of(record))

    def add(self, row: RequestRow) -> None:
        """Record a row that no client waits for, such as a shadow's.

        Args:
            row: Its texts are what the policy makes of them.
        """
        if self.policy.text == "none":
            row = _without_text(row)
        elif self.policy.text == "redacted":
            row = _redacted(row)
        self._writer.put(row)

    def row_of(self, record: RequestRecord) -> RequestRow:
        """Make the row of a request.

        Args:
            record: Of the request.

        Returns:
            The row, with texts unless the policy leaves them out; they are not redacted yet.
        """
        row = row_of(record, time.perf_counter() - record.started, hide=self.policy.hidden)
        if self.policy.text == "none":
            row = _without_text(row)
        return replace(row, cost=self._price(row))

    def expose(self, exposure: Exposure) -> None:
        """Note a unit's assignment when it is decided.

        Args:
            exposure: With the unit as the client sent it.
        """
        hidden = self.policy.hidden(exposure.unit)
        self._writer.put(replace(exposure, unit=hidden))


def _without_text(row: RequestRow) -> RequestRow:
    return replace(row, prompt=None, answer=None)


def _redacted(row: RequestRow) -> RequestRow:
    # Numbers are counted for each request alone: a memory of all values would be personal data.
    redactor = Redactor()
    return replace(
        row,
        prompt=None if row.prompt is None else redactor.redact_value(row.prompt),
        answer=None if row.answer is None else redactor.redact_value(row.answer),
    )
