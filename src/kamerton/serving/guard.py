"""What every request passes before a route sees it: key and size of the body."""

import asyncio
import hashlib
import hmac
from collections.abc import Collection

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kamerton.serving.errors import ApiError

__all__ = ["Guard", "hash_key"]

_OPEN = ("/", "/health", "/ready", "/live")
"""Paths that need no key."""


def hash_key(key: str) -> str:
    """Hash a key: the gateway keeps no key itself.

    Args:
        key: As clients send it.

    Returns:
        SHA-256 in hex.
    """
    return hashlib.sha256(key.encode()).hexdigest()


class Guard:
    """ASGI middleware.

    Args:
        app: What comes behind it.
        key_hashes: Hashes of the keys that are let in; everybody is where there are none.
        limit_bytes: Largest body.
        stall_s: Seconds in which a body must arrive.
    """

    def __init__(
        self, app: ASGIApp, key_hashes: Collection[str], limit_bytes: int, stall_s: float
    ) -> None:
        self._app, self._key_hashes = app, tuple(key_hashes)
        self._limit_bytes, self._stall_s = limit_bytes, stall_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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
            if self._key_hashes and scope["path"] not in _OPEN:
                self._check_key(headers.get(b"authorization", b"").decode("latin-1"))
            length = headers.get(b"content-length", b"0")
            if length.isdigit() and int(length) > self._limit_bytes:
                raise self._too_large()
        except ApiError as error:
            answer = JSONResponse(error.body, error.status, error.headers)
            await answer(scope, receive, send)
            return
        await self._app(scope, receive_bounded, send)

    def _check_key(self, authorization: str) -> None:
        scheme, _, key = authorization.partition(" ")
        given = hash_key(key.strip())
        # Every key is compared, so that the time tells nothing.
        known = [hmac.compare_digest(given, each) for each in self._key_hashes]
        if scheme.lower() != "bearer" or not any(known):
            raise ApiError(
                401,
                "a key is needed: send it as 'Authorization: Bearer KEY'",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the body may have {self._limit_bytes:,} bytes at most")

    def _too_slow(self) -> ApiError:
        message = f"the body did not arrive within {self._stall_s:g} s"
        return ApiError(408, message, headers={"Connection": "close"})
