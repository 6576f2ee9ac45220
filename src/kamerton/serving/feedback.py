"""`POST /v1/feedback`: judgements find the answer by its completion id."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kamerton.evaluation.live_metrics import BUILT_IN, LiveMetric, metric_problem
from kamerton.serving.errors import ApiError
from kamerton.serving.record_policy import RecordPolicy
from kamerton.serving.request_body import read_body
from kamerton.store.database import Store
from kamerton.store.feedback import Feedback, add_feedback
from kamerton.store.traffic import RequestRow, find_request
from kamerton.wire.feedback import FeedbackBody

__all__ = ["CORRECTION", "FeedbackIntake", "take_feedback"]

CORRECTION, COMMENT = "correction", "comment"
"""Names under which a correction or a comment alone is stored."""


class FeedbackIntake:
    """Checks and stores judgements.

    Args:
        store: An open store.
        metrics: Those that are known.
        policy: What is kept.
        count: Called with each judgement that was stored and the name of the variant, or "".
    """

    def __init__(
        self,
        store: Store,
        metrics: Mapping[str, LiveMetric] = BUILT_IN,
        policy: RecordPolicy | None = None,
        count: Callable[[Feedback, str], None] = lambda feedback, variant: None,
    ) -> None:
        self.store, self.metrics, self._count = store, metrics, count
        self._policy = policy or RecordPolicy()

    def take(self, body: FeedbackBody) -> dict[str, Any]:
        """Check a judgement, and store it unless it is a dry run. It waits for the database.

        Args:
            body: What was sent.

        Returns:
            What was stored, and what it is about where that is known already.

        Raises:
            ApiError: If the metric is unknown or the value of another type.
        """
        feedback = self._policy.kept_feedback(self._checked(body))
        with self.store.begin() as connection:
            row = find_request(connection, body.id)
            if not body.dry_run:
                feedback = add_feedback(connection, feedback)
        if not body.dry_run:
            self._count(feedback, row.variant if row else "")
        return _told(feedback, row)

    def _checked(self, body: FeedbackBody) -> Feedback:
        name = body.name
        if not name and body.value is None and body.label is None:
            name = CORRECTION if body.correction is not None else COMMENT
        if name in (CORRECTION, COMMENT):
            if body.value is not None or body.label is not None:
                raise ApiError(400, f"value: '{name}' takes no value and no label", "value")
            if getattr(body, name) is None:
                raise ApiError(400, f"{name}: must be given, or the name of a metric", name)
        elif problem := metric_problem(self.metrics, name, body.value, body.label):
            raise ApiError(400, problem, problem.partition(":")[0])
        return Feedback(
            completion_id=body.id,
            name=name,
            value=None if body.value is None else float(body.value),
            label=_stored(body.label),
            rater=_stored(body.rater) or "",
            comment=_stored(body.comment),
            correction=_stored(body.correction),
            source=body.source,
            idempotency_key=_stored(body.idempotency_key),
        )


async def take_feedback(request: Request) -> Response:
    """Take a judgement: `POST /v1/feedback`.

    Args:
        request: The HTTP request.

    Returns:
        What was stored.

    Raises:
        ApiError: If the server does not record, or the judgement is wrong.
    """
    intake: FeedbackIntake | None = request.app.state.feedback
    if intake is None:
        raise ApiError(404, "this server records nothing: it was started without --record")
    body = await read_body(request, FeedbackBody)
    return JSONResponse(await asyncio.to_thread(intake.take, body))


def _told(feedback: Feedback, row: RequestRow | None) -> dict[str, Any]:
    told: dict[str, Any] = {
        "object": "feedback",
        "feedback_id": feedback.id,
        "id": feedback.completion_id,
        "name": feedback.name,
        # Feedback may come before the row of its answer, which it finds later.
        "is_matched": row is not None,
    }
    if row is not None:
        told |= {"variant": row.variant, "arm": row.arm or None}
    return told


def _stored(text: str | None) -> str | None:
    # PostgreSQL takes no zero byte.
    return None if text is None else text.replace("\x00", "")
