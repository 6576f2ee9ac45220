"""`kamerton serve --record` that is killed: no answered request and no feedback is lost."""

import json
import subprocess
import threading
from pathlib import Path

import httpx
import pytest

from kamerton.store.database import open_store
from kamerton.store.feedback import latest_feedback
from kamerton.store.traffic import requests_between
from tests.contract.stores import PLACES
from tests.e2e.project import command, environment
from tests.e2e.test_serve import serving

CHAT = {
    "model": "builtin:nano",
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 4,
}


@pytest.mark.parametrize(
    "kind", ["sqlite-file", pytest.param("postgresql", marks=pytest.mark.slow)]
)
def test_nothing_that_was_answered_is_lost_when_the_server_is_killed(
    tmp_path: Path, kind: str
) -> None:
    with PLACES[kind](tmp_path) as place:
        _kill_and_look(tmp_path, str(place))


def _kill_and_look(tmp_path: Path, place: str) -> None:
    answered: list[str] = []
    rated: list[str] = []

    def ask(address: str, is_streamed: bool) -> None:
        with httpx.Client(base_url=address, timeout=60) as client:
            while True:
                try:
                    body = {**CHAT, "stream": is_streamed}
                    text = client.post("/v1/chat/completions", json=body).text
                    if is_streamed:
                        # Only who has read the end was answered.
                        first, *_, end, _ = text.split("\n\n")
                        assert end == "data: [DONE]", end
                        text = first.removeprefix("data: ")
                    completion = json.loads(text)["id"]
                    answered.append(completion)
                    vote = {"id": completion, "name": "rating", "value": 4}
                    client.post("/v1/feedback", json=vote).raise_for_status()
                    rated.append(completion)
                except (httpx.TransportError, AssertionError):
                    return

    with serving(tmp_path, "builtin:nano", "--record", place) as server:
        askers = [
            threading.Thread(target=ask, args=(server.address, number % 2 == 0))
            for number in range(4)
        ]
        for asker in askers:
            asker.start()
        while len(rated) < 30:
            askers[0].join(0.01)
        engine = server.engine()
        server.process.kill()
        for asker in askers:
            asker.join(60)
        engine.wait(30)

    with open_store(place) as store, store.begin() as connection:
        rows = {row.id for row in requests_between(connection)}
        votes = {vote.completion_id for vote in latest_feedback(connection)}
    assert len(answered) >= 30
    assert set(answered) <= rows
    assert set(rated) <= votes

    told = subprocess.run(
        command("metrics", "--json", "--store", place), cwd=tmp_path, env=environment(),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = {one["metric"]: one for one in json.loads(told.stdout)}
    assert found["rating"]["values"] == len(votes)
    assert found["rating"]["value"] == 4.0
    assert found["refusal"]["requests"] == len(rows)
