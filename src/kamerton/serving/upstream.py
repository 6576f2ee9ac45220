"""Another engine that speaks OpenAI's API, over HTTP."""

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from kamerton.wire.upstream_answers import error_text

__all__ = ["Upstream", "UpstreamError", "server_sent_events"]

_CONNECT_S = 5.0
_IDLE_S = 2.0
"""Servers close connections that idle for 5 s: ours must not be used again about then."""
_MOST_RETRY_AFTER_S = 600.0


class UpstreamError(Exception):
    """An engine that did not answer a request.

    Args:
        status: HTTP status; 0 where there was no answer.
        message: What went wrong, without the engine's address.
        retry_after_s: Seconds that the engine asks to wait; None where it does not say.
        was_sent: Whether the engine may have seen the request.
    """

    def __init__(
        self,
        status: int,
        message: str,
        retry_after_s: float | None = None,
        *,
        was_sent: bool = True,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_after_s = status, message, retry_after_s
        self.was_sent = was_sent

    @property
    def is_of_request(self) -> bool:
        """Whether the request would fail with every engine."""
        return 400 <= self.status < 500 and self.status not in (401, 403, 404, 408, 429)

    @property
    def is_busy(self) -> bool:
        """Whether the engine asks to come back later."""
        return self.status in (429, 503)


class Upstream:
    """Asks one engine. Call `open` in the event loop that asks.

    Args:
        url: Its address, without `/v1`.
        key: Sent as a bearer token; empty sends none.
        read_s: Seconds in which nothing may come before the engine is given up.
        transport: How requests are sent; None for the network.
    """

    def __init__(
        self,
        url: str,
        key: str = "",
        *,
        read_s: float = 600.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url
        self._key, self._read_s, self._transport = key, read_s, transport
        self._client: httpx.AsyncClient | None = None

    def open(self) -> None:
        """Make ready to ask."""
        self._client = httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx.Timeout(self._read_s, connect=_CONNECT_S),
            # The gateway's own limit bounds how much is open.
            limits=httpx.Limits(max_connections=None, keepalive_expiry=_IDLE_S),
            transport=self._transport,
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def get(self, path: str, *, timeout_s: float | None = None) -> Any:
        """Ask for something.

        Args:
            path: Below the address.
            timeout_s: Most seconds between two bytes; None for the usual ones.

        Returns:
            The JSON body.

        Raises:
            UpstreamError: If there is none.
        """
        return await self._json("GET", path, None, timeout_s)

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send something.

        Args:
            path: Below the address.
            body: As JSON.

        Returns:
            The JSON body of the answer; its text where it is none.

        Raises:
            UpstreamError: If there is none.
        """
        return await self._json("POST", path, body, None)

    async def events(
        self, path: str, body: Mapping[str, Any]
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """Send something that is answered piece by piece; closing the iterator ends it there too.

        Args:
            path: Below the address.
            body: As JSON.

        Yields:
            The pieces; the whole answer where the engine does not stream.

        Raises:
            UpstreamError: If there is no answer, or it breaks off.
        """
        async with self._asked("POST", path, body, None) as response:
            if "event-stream" not in response.headers.get("content-type", ""):
                await response.aread()
                yield _object(response)
                return
            async for data in server_sent_events(response.aiter_bytes()):
                try:
                    piece = json.loads(data)
                except ValueError:
                    raise UpstreamError(502, "the engine sent a piece that is no JSON") from None
                if isinstance(piece, Mapping):
                    yield piece

    async def _json(
        self, method: str, path: str, body: Mapping[str, Any] | None, timeout_s: float | None
    ) -> Any:
        async with self._asked(method, path, body, timeout_s) as response:
            await response.aread()
            try:
                return response.json()
            except ValueError:
                return response.text

    @asynccontextmanager
    async def _asked(
        self, method: str, path: str, body: Mapping[str, Any] | None, timeout_s: float | None
    ) -> AsyncIterator[httpx.Response]:
        assert self._client is not None, "open comes first"
        wait = httpx.USE_CLIENT_DEFAULT if timeout_s is None else timeout_s
        try:
            async with self._client.stream(method, path, json=body, timeout=wait) as response:
                if not response.is_success:
                    await response.aread()
                    raise _error_of(response)
                yield response
        except httpx.TimeoutException as error:
            was_sent = not isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout)
            told = "the engine did not answer in time"
            raise UpstreamError(0, told, was_sent=was_sent) from None
        except (httpx.TransportError, httpx.InvalidURL) as error:
            said = (
                f"the engine cannot be reached or broke off: {str(error) or type(error).__name__}"
            )
            was_sent = not isinstance(error, httpx.ConnectError | httpx.InvalidURL)
            raise UpstreamError(0, said, was_sent=was_sent) from None


async def server_sent_events(pieces: AsyncIterator[bytes]) -> AsyncGenerator[str, None]:
    """Read the data of server-sent events, up to `[DONE]`.

    Args:
        pieces: Bytes as they come. Only line feeds end a line: JSON may hold other separators.

    Yields:
        The data of each event.
    """
    async for line in _lines(pieces):
        if not line.startswith(b"data:"):
            continue
        data = line.removeprefix(b"data:").strip().decode(errors="replace")
        if data.startswith("[DONE]"):
            return
        yield data


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line
    yield rest


def _object(response: httpx.Response) -> Mapping[str, Any]:
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, Mapping):
        raise UpstreamError(502, "the engine's answer is no JSON object")
    return body


def _error_of(response: httpx.Response) -> UpstreamError:
    try:
        said = error_text(response.json())
    except ValueError:
        said = ""
    seconds = _seconds_to_wait(response.headers.get("retry-after", ""))
    said = said or f"the engine answered with status {response.status_code}"
    return UpstreamError(response.status_code, said, seconds)


def _seconds_to_wait(header: str) -> float | None:
    """Read `Retry-After`: seconds, or a date."""
    try:
        wait = float(header) if header.isdecimal() else _seconds_until(header)
    except (ValueError, TypeError):
        return None
    return min(max(wait, 0.0), _MOST_RETRY_AFTER_S)


def _seconds_until(date: str) -> float:
    return parsedate_to_datetime(date).timestamp() - time.time()
