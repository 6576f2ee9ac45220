"""What a server tells of recorded traffic, and the script that pages ask for feedback with."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kamerton.serving.errors import ApiError
from kamerton.serving.feedback import FeedbackIntake, intake_of
from kamerton.store.traffic import now

__all__ = ["show_feedback_script", "show_live_metrics"]

_SCRIPT = Path(__file__).with_name("feedback.js")


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid")

    by: list[Literal["variant", "version", "segment", "language", "tenant", "arm"]] = Field(
        default=["variant"], min_length=1
    )
    every: Literal["hour", "day", "week"] | None = None
    days: float | None = Field(default=None, gt=0, allow_inf_nan=False, le=36_500)


async def show_live_metrics(request: Request) -> Response:
    """Give the metrics of recorded traffic: `GET /v1/metrics?by=variant&every=day&days=7`.

    Args:
        request: The HTTP request.

    Returns:
        A list, as `kamerton metrics --json` prints it.

    Raises:
        ApiError: If the server does not record, or a parameter is wrong.
    """
    intake = intake_of(request)
    given = request.query_params
    plain = {name: given.getlist(name) if name == "by" else given[name] for name in given}
    try:
        query = _Query.model_validate(plain)
    except ValidationError as error:
        raise ApiError.of_validation(error) from None
    # One at a time: each reads the whole span, and the answers come first.
    async with request.app.state.measuring:
        data = await asyncio.to_thread(_measure, intake, query)
    return JSONResponse({"object": "list", "data": data})


async def show_feedback_script(_request: Request) -> Response:
    """Give the script: `GET /feedback.js`.

    Args:
        _request: The HTTP request.

    Returns:
        JavaScript.
    """
    text = await asyncio.to_thread(_SCRIPT.read_text, "utf-8")
    headers = {"Cache-Control": "public, max-age=3600", "X-Content-Type-Options": "nosniff"}
    return Response(text, media_type="text/javascript", headers=headers)


def _measure(intake: FeedbackIntake, query: _Query) -> list[dict[str, object]]:
    from kamerton.evaluation.live_report import measure_store, plain_measured

    since = None if query.days is None else now() - timedelta(days=query.days)
    metrics = intake.metrics
    found = measure_store(intake.store, metrics, by=query.by, every=query.every, since=since)
    return [plain_measured(one, metrics[one.metric]) for one in found]
