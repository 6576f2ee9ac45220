"""Many clients at once, of whom many leave, read slowly or come back after a 429."""

import asyncio
import json
import random
import re
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.project import make_project
from tests.e2e.test_serve import QUESTION, Server, serving
from tests.e2e.training import train_in

NUM_CLIENTS, EACH = 120, 3
CHAT = "/v1/chat/completions"


@pytest.mark.slow
def test_among_clients_that_leave_none_is_lost_and_none_gets_anothers_answer(
    tmp_path: Path,
) -> None:
    make_project(tmp_path, num_rows=16)
    train_in(tmp_path, ("name=one", "train.learning_rate=0.02"))
    train_in(tmp_path, ("name=two", "adapter.kind=prefix", "train.learning_rate=0.05"))
    log = tmp_path / "access.log"
    options = ("--slots", "8", "--limit", "40", "--access-log", str(log))
    with serving(tmp_path, *options) as server:
        asyncio.run(asyncio.wait_for(_torture(server), 400))
        server.wait_until(200)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    asked = [line for line in lines if line["path"] == CHAT]
    assert {line["status"] for line in asked} == {200, 429, 499}
    assert sum(line["status"] == 200 for line in asked) >= NUM_CLIENTS


async def _torture(server: Server) -> None:
    limits = httpx.Limits(max_connections=NUM_CLIENTS, max_keepalive_connections=NUM_CLIENTS)
    async with httpx.AsyncClient(base_url=server.address, limits=limits, timeout=300) as client:
        names = ("one", "two", "builtin:nano")
        expected = {name: await _whole(client, name) for name in names}
        assert len(set(expected.values())) == 3, expected
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
