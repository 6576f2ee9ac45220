"""Body and answer of `POST /v1/feedback`."""

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

__all__ = ["FeedbackBody"]


def _number_or_truth(value: Any) -> Any:
    if value is not None and not isinstance(value, bool | int | float):
        raise ValueError("must be a number, or true or false")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


class FeedbackBody(BaseModel):
    """A judgement of an answer. Which variant gave it is known from its row, and never asked."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(pattern=r"^[\w.:-]{1,80}$")
    """Id of the completion."""
    name: str = Field(default="", max_length=64)
    """Name of the metric; may be left out where only a comment or a correction is sent."""
    value: Annotated[bool | float | None, BeforeValidator(_number_or_truth)] = None
    """A number, or true or false."""
    label: str | None = Field(default=None, max_length=200)
    """A word, where the metric takes words."""
    rater: str = Field(default="", max_length=200)
    """Who judges."""
    comment: str | None = Field(default=None, max_length=10_000)
    """Why."""
    correction: str | None = Field(default=None, max_length=100_000)
    """What the answer should have been."""
    source: str = Field(default="api", pattern="^[a-z][a-z0-9_-]{0,39}$")
    """What sends it."""
    idempotency_key: str | None = Field(default=None, min_length=1, max_length=200)
    """The same key again for the same completion stores nothing."""
    dry_run: bool = False
    """Whether it is only checked."""
