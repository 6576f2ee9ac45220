"""`POST /v1/feedback`: judgements find the answer by its completion id."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kamerton.evaluation.judgements import correction_problem, judgement_of
from kamerton.evaluation.live_metrics import BUILT_IN, LiveMetric
from kamerton.serving.errors import ApiError
from kamerton.serving.feedback_tokens import TOKEN_HEADER, FeedbackTokens
from kamerton.serving.record import RequestRecord
from kamerton.serving.record_policy import RecordPolicy
from kamerton.serving.request_body import read_body
from kamerton.store.database import Store
from kamerton.store.feedback import Feedback, add_feedback, num_feedback
from kamerton.store.traffic import RequestRow, find_request
from kamerton.wire.feedback import FeedbackBody

__all__ = ["PAGE", "FeedbackIntake", "intake_of", "take_feedback"]

PAGE = "page"
"""Rater and source of what a browser sends with a token."""

_MOST_OF_PAGE = 50
_CROSS_ORIGIN = {
    # Pages of any origin may send: a token is in a header of its own, and no cookie counts.
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": f"content-type, {TOKEN_HEADER}",
    "Access-Control-Max-Age": "86400",
}


class FeedbackIntake:
    """Checks and stores judgements.

    Args:
        store: An open store.
        metrics: Those that are known.
        policy: What is kept.
        count: Called with each judgement that was stored and the name of the variant, or "".
        tokens: Checks the tokens of browsers; None takes none.
    """

    def __init__(
        self,
        store: Store,
        metrics: Mapping[str, LiveMetric] = BUILT_IN,
        policy: RecordPolicy | None = None,
        count: Callable[[Feedback, str], None] = lambda feedback, variant: None,
        tokens: FeedbackTokens | None = None,
    ) -> None:
        self.store, self.metrics, self._count = store, metrics, count
        self._policy, self._tokens = policy or RecordPolicy(), tokens

    def headers_of(self, record: RequestRecord) -> list[tuple[bytes, bytes]]:
        """Give the header of an answer that lets its page judge it.

        Args:
            record: Of the request.

        Returns:
            The token; nothing where there is no answer.
        """
        if self._tokens is None or not record.completion_id:
            return []
        return [(TOKEN_HEADER.encode(), self._tokens.make(record.completion_id).encode())]

    def admit(self, body: FeedbackBody, token: str) -> FeedbackBody:
        """Let a browser's judgement in.

        Args:
            body: What it sent.
            token: Its token.

        Returns:
            The same judgement by the one rater that a page has: it cannot vote as many.

        Raises:
            ApiError: If the token is wrong.
        """
        if self._tokens is None:
            raise ApiError(401, "this server takes no feedback tokens")
        self._tokens.check(token, body.id)
        return body.model_copy(update={"rater": PAGE, "source": PAGE})

    def take(self, body: FeedbackBody) -> dict[str, Any]:
        """Check a judgement, and store it unless it is a dry run. It waits for the database.

        Args:
            body: What was sent.

        Returns:
            What was stored, and what it is about where that is known already.

        Raises:
            ApiError: If the metric is unknown, the value of another type, the correction not in
                the format that is declared, or a page sends too much.
        """
        checked = judgement_of(body, self.metrics)
        if isinstance(checked, str):
            raise _refused(checked)
        feedback = self._policy.kept_feedback(checked)
        with self.store.begin() as connection:
            row = find_request(connection, body.id)
            variant = None if row is None else row.variant
            if problem := correction_problem(body.correction, variant, self.metrics):
                raise _refused(problem)
            if body.source == PAGE and num_feedback(connection, body.id) >= _MOST_OF_PAGE:
                raise ApiError(429, "this answer was judged too often")
            if not body.dry_run:
                feedback = add_feedback(connection, feedback)
        if not body.dry_run:
            self._count(feedback, variant or "")
        return _told(feedback, row)


def intake_of(request: Request) -> FeedbackIntake:
    """Give what takes judgements.

    Args:
        request: The HTTP request.

    Returns:
        The intake.

    Raises:
        ApiError: If the server does not record.
    """
    intake: FeedbackIntake | None = request.app.state.feedback
    if intake is None:
        raise ApiError(404, "this server records nothing: it was started without --record")
    return intake


async def take_feedback(request: Request) -> Response:
    """Take a judgement: `POST /v1/feedback`, with a key or with an answer's token.

    Args:
        request: The HTTP request.

    Returns:
        What was stored.

    Raises:
        ApiError: If the server does not record, or the judgement is wrong.
    """
    if request.method == "OPTIONS":
        return Response(status_code=204, headers=_CROSS_ORIGIN)
    try:
        intake = intake_of(request)
        body = await read_body(request, FeedbackBody)
        # Whoever sends a token came past no key: it counts, whatever else is sent.
        if (token := request.headers.get(TOKEN_HEADER)) is not None:
            body = intake.admit(body, token)
        elif body.source == PAGE:
            raise ApiError(400, f"source: '{PAGE}' is for pages that send a token", "source")
        told = await _taken(intake, body)
        if token is not None:
            # Whoever judges must not know which arm it is.
            told = {name: told[name] for name in ("object", "id", "name")}
    except ApiError as error:
        error.headers.update(_CROSS_ORIGIN)
        raise
    return JSONResponse(told, headers=_CROSS_ORIGIN)


async def _taken(intake: FeedbackIntake, body: FeedbackBody) -> dict[str, Any]:
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.exc import TimeoutError as PoolTimeout

    try:
        return await asyncio.to_thread(intake.take, body)
    except (DBAPIError, PoolTimeout):
        message = "the store cannot be reached: nothing was stored, send it again"
        raise ApiError(503, message, headers={"Retry-After": "5"}) from None


def _refused(problem: str) -> ApiError:
    return ApiError(400, problem, problem.partition(":")[0])


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
