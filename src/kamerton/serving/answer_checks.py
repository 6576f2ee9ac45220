"""Checks of live answers, in a thread of their own: nobody waits for them."""

import logging
import math
import queue
import threading
from collections.abc import Callable, Mapping

from kamerton.evaluation.checks import worth_of
from kamerton.evaluation.items import Item
from kamerton.evaluation.live_metrics import LiveMetric
from kamerton.store.traffic import AnswerChecks

__all__ = ["AnswerChecker"]

_log = logging.getLogger("kamerton.recording")


class AnswerChecker:
    """Runs the declared checks on answers.

    Args:
        metrics: Of these, those with a check.
        write: Takes what checks say.
        limit: Most answers that wait; what is above is not checked, and counted.
    """

    def __init__(
        self,
        metrics: Mapping[str, LiveMetric],
        write: Callable[[AnswerChecks], object],
        limit: int = 1000,
    ) -> None:
        self._checks = {
            name: metric.check for name, metric in metrics.items() if metric.check is not None
        }
        self._write = write
        self._waiting: queue.Queue[tuple[str, str] | None] = queue.Queue(limit)
        self.num_left_out = 0
        self._thread = threading.Thread(target=self._run, name="answer checks", daemon=True)

    def start(self) -> None:
        """Begin to check; without any check there is nothing to do."""
        if self._checks:
            self._thread.start()

    def put(self, completion_id: str, answer: str | None) -> None:
        """Take an answer whose row is on its way.

        Args:
            completion_id: The completion's id.
            answer: The whole text; None where there is none.
        """
        if not self._checks or answer is None:
            return
        try:
            self._waiting.put_nowait((completion_id, answer))
        except queue.Full:
            self.num_left_out += 1

    def stop(self, timeout_s: float = 5.0) -> None:
        """Check what waits, then end.

        Args:
            timeout_s: How long that may take.
        """
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            completion_id, answer = waiting
            try:
                self._write(AnswerChecks(completion_id, self._told(answer)))
            except Exception as error:
                # A check that fails on one answer must not end those of the others.
                _log.warning("an answer could not be checked: %s", type(error).__name__)

    def _told(self, answer: str) -> dict[str, float]:
        item = Item("", (), "")
        told = {
            name: float(worth_of(check, [item], [answer])[0])
            for name, check in self._checks.items()
        }
        return {name: worth for name, worth in told.items() if not math.isnan(worth)}
