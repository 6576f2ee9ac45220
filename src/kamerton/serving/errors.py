"""Errors of the gateway, in the form that OpenAI's clients read."""

import re
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kamerton.wire.answers import error_body

__all__ = ["ApiError", "answer_error", "answer_fault", "answer_http_error", "answer_nobody"]

_KINDS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    405: "BadRequestError",
    408: "TimeoutError",
    409: "ConflictError",
    413: "BadRequestError",
    429: "RateLimitError",
    500: "InternalServerError",
    503: "ServiceUnavailableError",
    504: "TimeoutError",
}


CLIENT_LEFT = 499
"""Status of a request whose client left before its answer was whole, as nginx has it."""


_TYPES = ("str", "int", "float", "list", "dict")
_MOST_SHOWN = 80


class ApiError(Exception):
    """A request that is answered with an error.

    Args:
        status: HTTP status.
        message: What must hold and what was found.
        param: The field at fault.
        headers: Further headers, such as Retry-After.
        kind: Class of the error; None for the usual one of the status.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        headers: dict[str, str] | None = None,
        kind: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param = status, message, param
        self.headers, self._kind = headers or {}, kind

    @classmethod
    def of_validation(cls, error: ValidationError) -> "ApiError":
        """Name all fields of a body that are wrong.

        Args:
            error: As pydantic raised it.

        Returns:
            Status 400.
        """
        found: dict[str, str] = {}
        for each in error.errors():
            # What follows a field of several types names the type that was tried.
            field = ".".join(_of_client(each["loc"]))
            said = each["msg"].removeprefix("Value error, ").removesuffix(" after validation")
            given = each["input"]
            shown = f", got {given!r}" if isinstance(given, (str, int, float)) else ""
            found.setdefault(field, f"{said}{shown[:_MOST_SHOWN]}")
        message = "; ".join(f"{field}: {said}" if field else said for field, said in found.items())
        return cls(400, message, next(iter(found)) or None)

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body."""
        kind = self._kind or _KINDS.get(self.status, "InternalServerError")
        return error_body(self.message, kind, self.param, self.status)


def _of_client(loc: tuple[int | str, ...]) -> list[str]:
    """Keep the keys and numbers that a client wrote: no spelling of a type is one."""
    return [str(part) for part in loc if re.fullmatch(r"\w+", str(part)) and part not in _TYPES]


async def answer_error(_request: Request, error: Exception) -> Response:
    """Answer with an `ApiError`.

    Args:
        _request: The request.
        error: The error.

    Returns:
        The response.
    """
    assert isinstance(error, ApiError)
    return JSONResponse(error.body, error.status, error.headers)


async def answer_http_error(_request: Request, error: Exception) -> Response:
    """Answer with an error of routing, such as an unknown path.

    Args:
        _request: The request.
        error: The error.

    Returns:
        The response.
    """
    assert isinstance(error, HTTPException)
    found = ApiError(error.status_code, error.detail)
    return JSONResponse(found.body, found.status, error.headers)


async def answer_fault(_request: Request, _error: Exception) -> Response:
    """Answer where the gateway itself is at fault; the server's log has the trace.

    Args:
        _request: The request.
        _error: What was raised.

    Returns:
        The response.
    """
    found = ApiError(500, "the server made a mistake; its log says which")
    return JSONResponse(found.body, found.status)


async def answer_nobody(_request: Request, _error: Exception) -> Response:
    """Answer a client that has left: only the access log reads it.

    Args:
        _request: The request.
        _error: What was raised.

    Returns:
        The response.
    """
    return Response(status_code=CLIENT_LEFT)
