"""What every request passes before a route sees it: key and size of the body."""

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from kamerton.serving.errors import ApiError
from kamerton.serving.keys import Keys, Scope
from kamerton.serving.pages import PAGE_PATHS

__all__ = ["Guard", "refuse_pages"]

_OPEN = (*PAGE_PATHS, "/health", "/ready", "/live", "/feedback.js")
"""Paths that need no key."""

_UNCOUNTED = ("/metrics", "/openapi.json", "/v1/models")
"""Paths that every key may read, whatever it is for, and as often as it likes."""

_RATED: Mapping[str, Scope] = {"/v1/feedback": "rate"}
"""Paths with a scope of their own."""


_TOKEN = b"x-kamerton-feedback-token"


def _has_token(scope: AsgiScope, headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser sends feedback, or asks whether it may: the route checks the token."""
    return scope["path"] in _RATED and (scope["method"] == "OPTIONS" or _TOKEN in headers)


def _ensure_own_page(headers: Mapping[bytes, bytes]) -> None:
    """Refuse pages of other sites: a browser on this machine would let them ask without a key."""
    origin = headers.get(b"origin", b"").decode("latin-1")
    if origin and urlsplit(origin).netloc != headers.get(b"host", b"").decode("latin-1"):
        raise ApiError(403, "pages of other sites may not ask a server without keys")


class Guard:
    """ASGI middleware.

    Args:
        app: What comes behind it.
        keys: Those that are let in.
        limit_bytes: Largest body.
        scope: What the paths behind it are for.
        stall_s: Seconds in which a body must arrive.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: Keys,
        limit_bytes: int,
        scope: Scope = "use",
        stall_s: float = 30.0,
    ) -> None:
        self._app, self._keys, self._needed = app, keys, scope
        self._limit_bytes, self._stall_s = limit_bytes, stall_s

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it with an error."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        received, is_whole = 0, False
        deadline = asyncio.get_running_loop().time() + self._stall_s

        async def receive_bounded() -> Message:
            nonlocal received, is_whole
            try:
                # After the body, only the client's leaving can come, whenever that is.
                async with asyncio.timeout_at(None if is_whole else deadline):
                    message = await receive()
            except TimeoutError:
                raise self._too_slow() from None
            is_whole = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > self._limit_bytes:
                raise self._too_large()
            return message

        try:
            if scope["path"] not in _OPEN and not _has_token(scope, headers):
                given = headers.get(b"authorization", b"").decode("latin-1")
                needed = None if scope["path"] in _UNCOUNTED else self._needed
                needed = _RATED.get(scope["path"], needed)
                name = self._keys.check(given, needed)
                scope.setdefault("state", {})["key"] = name
                if not self._keys.are_needed:
                    _ensure_own_page(headers)
                if (record := scope.get("state", {}).get("record")) is not None:
                    record.key = name
                    record.caller = self._keys.named(record.caller, name)
            length = headers.get(b"content-length", b"0")
            if length.isdigit() and int(length) > self._limit_bytes:
                raise self._too_large()
        except ApiError as error:
            answer = JSONResponse(error.body, error.status, error.headers)
            await answer(scope, receive, send)
            return
        await self._app(scope, receive_bounded, send)

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the body may have {self._limit_bytes:,} bytes at most")

    def _too_slow(self) -> ApiError:
        message = f"the body did not arrive within {self._stall_s:g} s"
        return ApiError(408, message, headers={"Connection": "close"})


def refuse_pages(request: Request) -> None:
    """Refuse what a page in a browser sends, which any page on this machine could do.

    Args:
        request: The HTTP request.

    Raises:
        ApiError: If a browser says which page sends it.
    """
    if "origin" in request.headers:
        raise ApiError(403, "pages in browsers may not load or unload models")
