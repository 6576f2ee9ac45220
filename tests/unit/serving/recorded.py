"""A gateway that records, for tests of recording and feedback."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from kamerton.serving.feedback import FeedbackIntake
from kamerton.serving.record_policy import RecordPolicy
from kamerton.serving.recording import Recording
from kamerton.store.database import Store, open_store
from kamerton.store.traffic import RequestRow, requests_between
from tests.unit.serving.test_gateway import Echo, plain_client

__all__ = ["ask", "recording_client", "rows_of"]


@contextmanager
def recording_client(
    place: Path | str, policy: RecordPolicy | None = None, **options: object
) -> Iterator[tuple[httpx.AsyncClient, Store, Recording]]:
    """Give a client of a gateway that records into a store."""
    with open_store(place) as store:
        recording = Recording(store, policy)
        recording.start()
        try:
            intake = FeedbackIntake(store)
            client = plain_client(Echo(), recording=recording, feedback=intake, **options)
            yield client, store, recording
        finally:
            recording.stop()


async def ask(client: httpx.AsyncClient, text: str = "hello there", **body: object):
    """Ask the shop."""
    headers = body.pop("headers", {})
    messages = [{"role": "user", "content": text}]
    return await client.post(
        "/v1/chat/completions", json={"model": "shop", "messages": messages, **body},
        headers=headers,
    )  # fmt: skip


def rows_of(store: Store) -> list[RequestRow]:
    """Read all rows."""
    with store.begin() as connection:
        return list(requests_between(connection))
