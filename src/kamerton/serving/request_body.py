"""The body of a request, read and checked."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from kamerton.serving.errors import ApiError

__all__ = ["read_body"]

_Body = TypeVar("_Body", bound=BaseModel)


async def read_body(request: Request, kind: type[_Body]) -> _Body:
    """Read the body of a request.

    Args:
        request: The HTTP request.
        kind: What it must be.

    Returns:
        The body.

    Raises:
        ApiError: If it is something else.
    """
    raw = await request.body()
    try:
        body = kind.model_validate_json(raw)
    except ValidationError as error:
        raise ApiError.of_validation(error) from None
    # Whoever chooses a variant reads it there.
    request.state.user = getattr(body, "user", None)
    return body
