"""OpenFeature's remote evaluation protocol, OFREP: bodies, answers and errors.

https://github.com/open-feature/protocol, service/openapi.yaml
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

__all__ = ["EvaluateBody", "FlagError", "FlagReason", "flag_answer", "read_context"]

FlagReason = Literal["STATIC", "TARGETING_MATCH", "SPLIT", "DISABLED"]
"""Why a flag has its value: nothing else can be; a rule matched; a draw; it was stopped."""

ErrorCode = Literal[
    "PARSE_ERROR", "TARGETING_KEY_MISSING", "INVALID_CONTEXT", "GENERAL", "FLAG_NOT_FOUND"
]


class FlagError(Exception):
    """A flag that cannot be evaluated.

    Args:
        code: Kind of the error.
        details: What must hold and what was found.
    """

    def __init__(self, code: ErrorCode, details: str) -> None:
        super().__init__(details)
        self.code, self.details = code, details

    @property
    def status(self) -> int:
        """HTTP status."""
        return 404 if self.code == "FLAG_NOT_FOUND" else 400

    def body(self, key: str = "") -> dict[str, Any]:
        """Write the error.

        Args:
            key: The flag; empty where the whole request is wrong.

        Returns:
            A JSON object.
        """
        plain = {"errorCode": self.code, "errorDetails": self.details}
        return {"key": key, **plain} if key else plain


class EvaluateBody(BaseModel):
    """`POST /ofrep/v1/evaluate/flags` and `/flags/{key}`."""

    model_config = ConfigDict(extra="ignore")

    context: dict[str, Any] = Field(default_factory=dict)
    """Of whom the flag is asked: `targetingKey` is the unit; `segment`, `tenant`, `language` and
    `conversation` are as in the headers; further texts count as headers."""


def read_context(raw: bytes) -> Mapping[str, Any]:
    """Take the context out of a body.

    Args:
        raw: The body; empty for no context.

    Returns:
        The context, with a text as `targetingKey` or without one.

    Raises:
        FlagError: If it is something else.
    """
    try:
        context = EvaluateBody.model_validate_json(raw or b"{}").context
    except ValidationError as error:
        if any("context" in detail["loc"] for detail in error.errors()):
            raise FlagError("INVALID_CONTEXT", "context must be a JSON object") from None
        raise FlagError("PARSE_ERROR", "the body must be a JSON object") from None
    if not isinstance(context.get("targetingKey") or "", str):
        raise FlagError("INVALID_CONTEXT", "context.targetingKey must be a text")
    return context


def flag_answer(
    key: str,
    value: str,
    variant: str,
    reason: FlagReason,
    metadata: Mapping[str, str | float],
) -> dict[str, Any]:
    """Write what a flag is for a unit.

    Args:
        key: The flag.
        value: Its value.
        variant: Name of the value.
        reason: Why.
        metadata: What else is known.

    Returns:
        A JSON object.
    """
    return {
        "key": key,
        "value": value,
        "variant": variant,
        "reason": reason,
        "metadata": dict(metadata),
    }
