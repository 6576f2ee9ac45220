"""Checks of live answers, in a thread of their own: nobody waits for them."""

import logging
import queue
import threading
from collections.abc import Callable, Mapping

from kamerton.evaluation.checks import worth_of_text
from kamerton.evaluation.live_metrics import LiveMetric
from kamerton.evaluation.settings import JsonCheck, RefusalCheck, RulesCheck
from kamerton.store.traffic import AnswerChecks, RequestRow

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
            name: (metric.check, metric.variants)
            for name, metric in metrics.items()
            if isinstance(metric.check, JsonCheck | RulesCheck | RefusalCheck)
        }
        self._write = write
        self._waiting: queue.Queue[tuple[str, str, str] | None] = queue.Queue(limit)
        self.num_left_out = 0
        self._thread = threading.Thread(target=self._run, name="answer checks", daemon=True)

    def start(self) -> None:
        """Begin to check; without any check there is nothing to do."""
        if self._checks:
            self._thread.start()

    def put(self, row: RequestRow) -> None:
        """Take an answer whose row is on its way.

        Args:
            row: With the text of the answer; one without any is not checked.
        """
        if not self._checks or row.answer is None:
            return
        try:
            self._waiting.put_nowait((row.id, row.variant, row.answer))
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
            completion_id, variant, answer = waiting
            try:
                told = {
                    name: float(worth_of_text(check, answer))
                    for name, (check, variants) in self._checks.items()
                    if not variants or variant in variants
                }
                self._write(AnswerChecks(completion_id, told))
            except Exception as error:
                # A check that fails on one answer must not end those of the others.
                _log.warning("an answer could not be checked: %s", type(error).__name__)
