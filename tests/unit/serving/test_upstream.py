"""What a failed request to another engine says: how long to wait, and whether it was sent."""

import asyncio
from collections.abc import Callable
from email.utils import formatdate

import httpx
import pytest

from kamerton.serving import upstream
from kamerton.serving.upstream import Upstream, UpstreamError


def failure(answer: Callable[[httpx.Request], httpx.Response]) -> UpstreamError:
    async def ask() -> None:
        one = Upstream("http://engine", transport=httpx.MockTransport(answer))
        one.open()
        try:
            await one.post("/v1/chat/completions", {})
        finally:
            await one.close()

    with pytest.raises(UpstreamError) as found:
        asyncio.run(ask())
    return found.value


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("100000", 600.0),
        (formatdate(1000 + 90, usegmt=True), 90.0),
        (formatdate(1000 - 90, usegmt=True), 0.0),
        ("soon", None),
        ("", None),
    ],
)
def test_the_wait_is_seconds_or_a_date(
    header: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream.time, "time", lambda: 1000.0)
    found = failure(lambda request: httpx.Response(429, headers={"retry-after": header}))
    assert found.retry_after_s == seconds


@pytest.mark.parametrize(
    ("error", "was_sent"),
    [
        (httpx.ConnectError("refused"), False),
        (httpx.ConnectTimeout("late"), False),
        (httpx.ReadTimeout("late"), True),
        (httpx.RemoteProtocolError("cut"), True),
    ],
)
def test_it_tells_whether_the_engine_may_have_seen_the_request(
    error: httpx.TransportError, was_sent: bool
) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error

    assert failure(fail).was_sent is was_sent
