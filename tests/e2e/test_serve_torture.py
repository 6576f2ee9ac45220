"""Many clients at once, of whom many leave, read slowly or come back after a 429."""

import asyncio
import contextlib
import json
import random
import re
import signal
import socket
from collections import Counter
from pathlib import Path

import httpx
import psutil
import pytest

from kamerton.core.protocols import Generation
from kamerton.core.requests import AnswerRequest
from kamerton.flows.serve import EngineOptions
from kamerton.flows.served_engine import open_engine
from tests.e2e.speakers import make_speakers
from tests.e2e.test_serve import QUESTION, Server, serving

pytestmark = pytest.mark.slow
NUM_CLIENTS, EACH = 200, 2
CHAT = "/v1/chat/completions"
SPEAKERS = {
    "anna": ("adapter.rank=2", "train.learning_rate=0.01"),
    "clara": ("adapter.kind=prefix", "adapter.num_virtual_tokens=4", "train.learning_rate=0.1"),
}
BASE = "builtin:nano"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torture")
    make_speakers(folder, SPEAKERS)
    return folder


def test_among_clients_that_leave_none_is_lost_and_none_gets_anothers_answer(
    project: Path, tmp_path: Path
) -> None:
    log = tmp_path / "access.log"
    options = ("--slots", "8", "--limit", "40", "--access-log", str(log))
    with serving(project, *options) as server:
        asyncio.run(asyncio.wait_for(_torture(server), 400))
        server.wait_until(200)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    asked = [line for line in lines if line["path"] == CHAT]
    assert {line["status"] for line in asked} == {200, 429, 499}
    assert sum(line["status"] == 200 for line in asked) >= NUM_CLIENTS


async def _torture(server: Server) -> None:
    limits = httpx.Limits(max_connections=NUM_CLIENTS, max_keepalive_connections=NUM_CLIENTS)
    async with httpx.AsyncClient(base_url=server.address, limits=limits, timeout=300) as client:
        expected = await _expected(client)
        gateway = psutil.Process(server.process.pid)
        before = gateway.memory_info().rss
        happened = await asyncio.gather(
            *(_client(client, random.Random(seed), expected) for seed in range(NUM_CLIENTS))
        )
        assert sum(happened) >= NUM_CLIENTS
        numbers: dict[str, str] = {}
        for _ in range(100):
            text = (await client.get("/metrics")).text
            numbers = dict(re.findall(r"^(\w+) (\S+)$", text, re.MULTILINE))
            if numbers["kamerton_open_answers"] == "0":
                break
            await asyncio.sleep(0.1)
        assert numbers["kamerton_open_answers"] == numbers["kamerton_waiting_answers"] == "0"
        assert numbers["kamerton_engine_restarts_total"] == "0"
        assert gateway.memory_info().rss - before < 64 << 20


async def _expected(client: httpx.AsyncClient) -> dict[str, str]:
    """Give what each model says; a variant says its name."""
    expected = {name: name for name in SPEAKERS}
    for name in SPEAKERS:
        assert await _whole(client, name) == name
    return {**expected, BASE: await _whole(client, BASE)}


def test_whoever_asks_while_the_engine_is_killed_is_told_and_may_ask_again(project: Path) -> None:
    async def torture(server: Server) -> None:
        async with _client_of(server) as client:
            expected = await _expected(client)
            told = Counter[str]()

            async def keep_asking(seed: int) -> None:
                choose = random.Random(seed)
                for _ in range(4):
                    name = choose.choice(list(expected))
                    while (said := await _outcome(client, name, stream=choose.random() < 0.5)) in (
                        "not ready", "broken off",
                    ):  # fmt: skip
                        told[said] += 1
                        await asyncio.sleep(0.2)
                    assert said == expected[name], name

            asking = [asyncio.ensure_future(keep_asking(seed)) for seed in range(30)]
            await _until_answers_are_open(client)
            killed = server.engine()
            killed.send_signal(signal.SIGKILL)
            await asyncio.gather(*asking)
            assert told["broken off"], told
            assert server.engine().pid != killed.pid

    with serving(project, "--slots", "8") as server:
        asyncio.run(asyncio.wait_for(torture(server), 200))


def test_whoever_was_taken_in_before_sigterm_gets_the_whole_answer(project: Path) -> None:
    async def torture(server: Server) -> None:
        async with _client_of(server) as client:
            expected = await _expected(client)
            told, signalled = Counter[str](), asyncio.Event()

            async def keep_asking(seed: int) -> None:
                choose = random.Random(seed)
                while True:
                    name = choose.choice(list(expected))
                    came_late = signalled.is_set()
                    try:
                        said = await _outcome(client, name, stream=choose.random() < 0.5)
                    except httpx.TransportError:
                        # The last connections are closed while somebody may write to them.
                        assert came_late
                        said = "nobody listens"
                    if said in ("not ready", "nobody listens"):
                        told[said] += 1
                        return
                    assert said == expected[name], name
                    told["whole"] += 1

            asking = [asyncio.ensure_future(keep_asking(seed)) for seed in range(30)]
            await _until_answers_are_open(client)
            server.process.send_signal(signal.SIGTERM)
            signalled.set()
            await asyncio.gather(*asking)
            assert told["whole"] >= 1
            assert told["not ready"] + told["nobody listens"] == 30
            assert server.process.wait(60) == 0

    with serving(project, "--slots", "8") as server:
        asyncio.run(asyncio.wait_for(torture(server), 200))


def test_malformed_and_huge_requests_get_4xx_and_harm_nobody(project: Path) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nHost: served\r\nContent-Type: application/json\r\n"
    asked = json.dumps(_body("anna"))
    requests = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # TLS
        b"\r\n" * 1000 + b"NONSENSE\r\n\r\n",
        f"GET /{'x' * 100_000} HTTP/1.1\r\nHost: served\r\n\r\n".encode(),
        f"{head}X: {'x' * 200_000}\r\n\r\n".encode(),
        f"{head}Content-Length: -5\r\n\r\n{asked}".encode(),
        f"{head}Content-Length: 5\r\nContent-Length: 6\r\n\r\n{asked}".encode(),
        f"{head}Content-Length: {8 << 20}\r\n\r\n".encode(),
        f"{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n{asked}\r\n0\r\n\r\n".encode(),
        f"{head}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc".encode(),
    ]
    bodies = [
        b'{"model": "anna", "messages": [{"role": "user", "content": "\xff\xfe"}]}',
        b'{"model": "anna", "messages": [{"role": "user", "content": "\\ud800"}]}',
        asked.replace(": 24", f": {'9' * 5000}").encode(),
        asked.replace(": 24", ": NaN").encode(),
        asked.replace(": 24", ": 1e999").encode(),
        b'{"a":' * 100_000,
        json.dumps({**_body("anna"), "messages": _body("anna")["messages"] * 100_000}).encode(),  # type: ignore[operator]
        json.dumps({**_body("anna"), "stop": ["x" * 10] * 100_000, "n": 65}).encode(),
    ]
    requests += [f"{head}Content-Length: {len(b)}\r\n\r\n".encode() + b for b in bodies]
    with serving(project, "--slots", "4") as server:
        engine = server.engine().pid
        for request in requests:
            said = _sent_raw(server, request)
            # HTTP's own reader may close without a word, and a huge body while it is sent.
            assert not said or re.match(rb"HTTP/1\.[01] 4\d\d ", said), (request[:80], said[:200])
        for body in bodies:
            answer = httpx.post(f"{server.address}{CHAT}", content=body, timeout=60)
            assert 400 <= answer.status_code < 500, (body[:80], answer.text[:200])
        assert server.engine().pid == engine
        answer = httpx.post(f"{server.address}{CHAT}", json=_body("anna"), timeout=60)
        assert answer.json()["choices"][0]["message"]["content"] == "anna"


def _sent_raw(server: Server, request: bytes) -> bytes:
    host, port = server.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            return connection.recv(4096)
    return b""


def test_a_thousand_loads_and_unloads_take_no_memory(project: Path) -> None:
    options = EngineOptions((BASE,), project, dtype="float32")
    engine = open_engine(options, lambda notice: None)
    process, after_few = psutil.Process(), 0
    for number in range(1000):
        name = list(SPEAKERS)[number % 2]
        loaded = engine.variants.load(str(project / "variants" / name))
        if number % 100 < 2:
            key = str(number)
            request = AnswerRequest(
                key, name, Generation(max_tokens=8), QUESTION, artefact=loaded.content_hash
            )
            assert not engine.add(request)
            said = ""
            while not engine.is_idle:
                said += "".join(update.text for update in engine.step())
            assert said == name
        engine.variants.release(loaded.content_hash)
        assert engine.variants.num_bytes == 0
        if number == 199:
            after_few = process.memory_info().rss
    # One of these adapters takes about 0.1 MiB: 800 that stay would take 80.
    assert process.memory_info().rss - after_few < 8 << 20


async def _until_answers_are_open(client: httpx.AsyncClient) -> None:
    for _ in range(600):
        text = (await client.get("/metrics")).text
        found = re.search(r"^kamerton_open_answers (\d+)$", text, re.MULTILINE)
        assert found is not None
        if int(found.group(1)) >= 8:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("there were never 8 open answers")


async def _outcome(client: httpx.AsyncClient, name: str, *, stream: bool) -> str:
    """Give the answer, or what became of it in words."""
    async with client.stream("POST", CHAT, json=_body(name, stream=stream)) as answer:
        text = (await answer.aread()).decode()
    if answer.status_code != 200:
        assert answer.status_code == 503, text
        # What was taken in and then broke off is told apart from what was turned away.
        broken = "stopped while it answered" in text
        assert broken or answer.headers["retry-after"]
        return "broken off" if broken else "not ready"
    if not stream:
        return str(json.loads(text)["choices"][0]["message"]["content"])
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line[:5] == "data:"]
    if lines[-1] != "[DONE]":
        assert "stopped while it answered" in json.loads(lines[-1])["error"]["message"]
        return "broken off"
    return "".join(
        json.loads(line)["choices"][0]["delta"].get("content") or "" for line in lines[:-1]
    )


def _client_of(server: Server) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.address, timeout=120)


def _body(name: str, *, stream: bool = False) -> dict[str, object]:
    return {
        "model": name, "messages": QUESTION, "max_tokens": 24, "temperature": 0, "stream": stream,
    }  # fmt: skip


async def _whole(client: httpx.AsyncClient, name: str) -> str:
    while True:
        answer = await client.post(CHAT, json=_body(name))
        if answer.status_code != 429:
            break
        await asyncio.sleep(float(answer.headers["retry-after"]))
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == answer.headers["x-kamerton-variant"] == name
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


async def _streamed(
    client: httpx.AsyncClient, name: str, *, leave_after: int = 10**9, pause_s: float = 0
) -> str | None:
    """Read a stream; None where this client left before its end."""
    while True:
        async with client.stream("POST", CHAT, json=_body(name, stream=True)) as answer:
            if answer.status_code == 429:
                wait_s = float(answer.headers["retry-after"])
            else:
                assert answer.status_code == 200
                text, num = "", 0
                async for line in answer.aiter_lines():
                    if line == "data: [DONE]":
                        return text
                    if line.startswith("data: "):
                        chunk = json.loads(line.removeprefix("data: "))
                        assert chunk["model"] == name, chunk
                        text += chunk["choices"][0]["delta"].get("content") or ""
                        num += 1
                        if num > leave_after:
                            return None
                        await asyncio.sleep(pause_s)
                raise AssertionError(f"the stream of {name} ended without [DONE]")
        await asyncio.sleep(wait_s)


async def _client(
    client: httpx.AsyncClient, choose: random.Random, expected: dict[str, str]
) -> int:
    """Ask several times in different ways and count the whole answers."""
    num_whole = 0
    for _ in range(EACH):
        name = choose.choice(list(expected))
        way = choose.choice(("whole", "stream", "slow", "leave", "leave early"))
        text: str | None = None
        if way == "leave early":
            # Before its first token: while it waits for a place, or its prompt is read.
            asking = asyncio.ensure_future(_whole(client, name))
            await asyncio.wait({asking}, timeout=choose.random() * 0.3)
            if asking.done():
                text = asking.result()
            else:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
        elif way == "whole":
            text = await _whole(client, name)
        else:
            leave_after = choose.randrange(3) if way == "leave" else 10**9
            pause_s = 0.05 if way == "slow" else 0.0
            text = await _streamed(client, name, leave_after=leave_after, pause_s=pause_s)
        if text is not None:
            assert text == expected[name], (name, way)
            num_whole += 1
    return num_whole
