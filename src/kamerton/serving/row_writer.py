"""A thread that writes rows in groups: one commit for all that came while the last one ran."""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from kamerton.store.database import Store
from kamerton.store.traffic import (
    AnswerChecks,
    Exposure,
    RequestRow,
    add_exposures,
    add_requests,
    set_checks,
)

__all__ = ["RowWriter"]

_log = logging.getLogger("kamerton.recording")

_MOST_IN_GROUP = 500
_SYNC_S = 1.0
"""Rows of the last second may be lost when the machine loses its power."""

_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 5.0

Row = RequestRow | Exposure | AnswerChecks
_Waiting = tuple[Row, int, "Future[bool]"]


class RowWriter:
    """Writes rows to a store, off the path of whoever has them.

    A store that fails is tried again until it works; rows wait for it up to the limits, and what
    is above them is lost and counted.

    Args:
        store: Where rows go.
        limit_rows: Most rows that wait.
        limit_bytes: Most characters of their texts.
    """

    def __init__(
        self, store: Store, *, limit_rows: int = 20_000, limit_bytes: int = 64 << 20
    ) -> None:
        self._store, self._limit_rows, self._limit_bytes = store, limit_rows, limit_bytes
        self._waiting: deque[_Waiting] = deque()
        self._num_bytes = 0
        self._changed = threading.Condition()
        self._stopping, self._give_up_at = threading.Event(), 0.0
        self._busy_since: float | None = None
        self._is_failing = False
        self.num_written = 0
        self.num_lost = 0
        self._thread = threading.Thread(target=self._run, name="row writer", daemon=True)

    @property
    def num_waiting(self) -> int:
        """Rows that are not written yet."""
        return len(self._waiting)

    @property
    def busy_s(self) -> float:
        """How long the group that is being written takes already; 0 between groups."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def is_failing(self) -> bool:
        """Whether the store refused the last group."""
        return self._is_failing

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, row: Row) -> "Future[bool]":
        """Take a row.

        Args:
            row: The row.

        Returns:
            Tells when the row is committed: True, or False where it is lost.
        """
        done: Future[bool] = Future()
        size = _size(row)
        with self._changed:
            is_full = (
                len(self._waiting) >= self._limit_rows
                or self._num_bytes + size > self._limit_bytes
                or self._stopping.is_set()
            )
            if not is_full:
                self._waiting.append((row, size, done))
                self._num_bytes += size
                self._changed.notify()
                return done
            self.num_lost += not isinstance(row, AnswerChecks)
        done.set_result(False)
        return done

    def stop(self, timeout_s: float = 5.0) -> None:
        """Write what waits, then end.

        Args:
            timeout_s: How long a store that fails is tried again.
        """
        with self._changed:
            self._give_up_at = time.monotonic() + timeout_s
            self._stopping.set()
            self._changed.notify()
        self._thread.join(timeout_s + 1)

    def _run(self) -> None:
        is_synced_until = time.monotonic()
        is_synced = True
        while True:
            group = self._next_group(None if is_synced else _SYNC_S)
            if group:
                self._write(group)
                is_synced = False
            if not is_synced and (not group or time.monotonic() - is_synced_until >= _SYNC_S):
                self._sync()
                is_synced, is_synced_until = True, time.monotonic()
            if not group and self._stopping.is_set():
                return

    def _sync(self) -> None:
        try:
            self._store.sync()
        except Exception as error:
            # Whatever it is, rows that come later are still to be written.
            _log.warning("the store could not be written to disk: %s", type(error).__name__)

    def _next_group(self, timeout_s: float | None) -> list[_Waiting]:
        with self._changed:
            self._changed.wait_for(
                lambda: self._waiting or self._stopping.is_set(), timeout=timeout_s
            )
            # They count as waiting until they are written, so that the limits hold for all.
            return [self._waiting[at] for at in range(min(len(self._waiting), _MOST_IN_GROUP))]

    def _write(self, group: Sequence[_Waiting]) -> None:
        rows, wait_s = [row for row, _, _ in group], _FIRST_RETRY_S
        self._busy_since = time.monotonic()
        written = None
        while written is None:
            try:
                written = self._commit_all(rows)
                self._is_failing = False
            except (DBAPIError, PoolTimeout) as error:
                if not self._is_failing:
                    # The message itself would hold the row.
                    _log.warning("the store fails, rows wait: %s", type(error).__name__)
                self._is_failing = True
                self._stopping.wait(wait_s)
                wait_s = min(wait_s * 2, _LAST_RETRY_S)
                if self._stopping.is_set():
                    time.sleep(_FIRST_RETRY_S)
                    if time.monotonic() >= self._give_up_at:
                        written = [False] * len(group)
        self._busy_since = None
        self._finish(group, written)

    def _commit_all(self, rows: Sequence[Row]) -> list[bool]:
        """Commit together; one by one where the store cannot take some of them."""
        try:
            self._commit(rows)
        except Exception as error:
            if _may_work_later(error):
                raise
            if len(rows) > 1:
                return [self._commit_all([row])[0] for row in rows]
            _log.warning("the store cannot take a row: %s", type(error).__name__)
            return [False]
        return [True] * len(rows)

    def _commit(self, rows: Sequence[Row]) -> None:
        with self._store.begin_quickly() as connection:
            add_requests(connection, [row for row in rows if isinstance(row, RequestRow)])
            add_exposures(connection, [row for row in rows if isinstance(row, Exposure)])
            set_checks(connection, [row for row in rows if isinstance(row, AnswerChecks)])

    def _finish(self, group: Sequence[_Waiting], written: Sequence[bool]) -> None:
        with self._changed:
            for _ in group:
                self._num_bytes -= self._waiting.popleft()[1]
            for (row, _, _), is_written in zip(group, written, strict=True):
                # What checks say of a request is no row of its own.
                if not isinstance(row, AnswerChecks):
                    self.num_lost += not is_written
                    self.num_written += is_written and isinstance(row, RequestRow)
        for (_, _, done), is_written in zip(group, written, strict=True):
            if done.set_running_or_notify_cancel():
                done.set_result(is_written)


def _may_work_later(error: Exception) -> bool:
    is_of_store = isinstance(error, DBAPIError | PoolTimeout)
    return is_of_store and not isinstance(error, DataError | IntegrityError)


def _size(row: Row) -> int:
    if isinstance(row, RequestRow):
        return len(row.prompt or "") + len(row.answer or "")
    return 0
