"""The line that a request leaves in the access log."""

import asyncio
import json

import pytest

from kamerton.core.errors import SettingsError
from kamerton.serving.access_log import access_log
from tests.unit.serving.test_gateway import Echo, plain_client

CHAT = "/v1/chat/completions"


def lines_of(ask, path, engine=None) -> list[dict]:
    async def run():
        with access_log(path) as write:
            await ask(plain_client(engine or Echo(), write_access=write))

    asyncio.run(run())
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_leaves_one_line_without_its_texts(stream, tmp_path):
    async def ask(client):
        messages = [{"role": "user", "content": "my secret is blue"}]
        body = {"model": "shop", "messages": messages, "stream": stream}
        bearer = {"Authorization": "Bearer sk-private"}
        answer = await client.post(f"{CHAT}?api_key=sk-query", json=body, headers=bearer)
        ids.append(answer.headers["x-request-id"])

    ids: list[str] = []
    (line,) = lines_of(ask, tmp_path / "access.log")
    assert line.pop("time").endswith("Z")
    assert 0 < line.pop("time_to_first_token_s") <= line.pop("duration_s")
    assert line == {
        "request_id": ids[0],
        "method": "POST",
        "path": CHAT,
        "status": 200,
        "model": "shop",
        "answers": 1,
        "prompt_tokens": 7,
        "completion_tokens": 5,
    }
    text = (tmp_path / "access.log").read_text()
    assert not [word for word in ("secret", "blue", "sk-") if word in text]


def test_errors_are_logged_and_probes_that_succeed_are_not(tmp_path):
    async def ask(client):
        for path in ("/live", "/ready", "/metrics", "/v1/%0Anothing"):
            await client.get(path)
        await client.post(CHAT, content=b"{ my secret")

    missing, wrong = lines_of(ask, tmp_path / "access.log")
    assert (missing["status"], missing["path"]) == (404, "/v1/\nnothing")
    assert wrong["status"] == 400
    assert "secret" not in json.dumps(wrong)


def test_a_fault_of_the_gateway_is_told_in_openais_form_and_logged(tmp_path):
    engine = Echo()
    engine.models = None

    async def ask(client):
        client._transport.raise_app_exceptions = False
        answer = await client.get("/v1/models")
        assert answer.status_code == 500
        assert answer.json()["error"]["type"] == "InternalServerError"

    (line,) = lines_of(ask, tmp_path / "access.log", engine)
    assert line["status"] == 500


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path):
    place, old = tmp_path / "access.log", tmp_path / "access.log.1"

    async def ask(client):
        await client.get("/")
        place.rename(old)
        await client.get("/v1/models")

    (line,) = lines_of(ask, place)
    assert line["path"] == "/v1/models"
    assert json.loads(old.read_text())["path"] == "/"


def test_a_log_that_cannot_be_written_is_an_error(tmp_path):
    place = tmp_path / "missing" / "access.log"
    with pytest.raises(SettingsError, match="cannot be written"), access_log(place):
        pass
