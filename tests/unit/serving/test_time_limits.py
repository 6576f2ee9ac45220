"""Answers that take too long, readers that do not read, and streams in which nothing happens."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import httpx
import openai
import pytest
import uvicorn

from kamerton.core.requests import AnswerRequest, AnswerUpdate
from kamerton.core.tokenizing import TokenizerReply, TokenizerRequest
from kamerton.serving.app import make_app
from tests.unit.serving.test_gateway import HELLO, LONG, Echo, client_of, plain_client

CHAT = "/v1/chat/completions"


class Flood(Echo):
    """Writes without end and without a pause."""

    async def answer(self, request: AnswerRequest) -> AsyncIterator[AnswerUpdate]:
        self.asked.append(request)
        number = 0
        try:
            while True:
                await asyncio.sleep(0)
                number += 1
                yield AnswerUpdate(request.id, "word ", num_prompt_tokens=7, num_tokens=number)
        finally:
            self.written = number
            self.cancelled.append(request.id)


class Busy(Echo):
    """Has no time for tokens or vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.pause_s = 60.0
        self.questions: list[str] = []
        self.given_up: list[str] = []

    async def tokenize(self, question: TokenizerRequest) -> TokenizerReply:
        self.questions.append(question.id)
        try:
            await asyncio.sleep(self.pause_s)
        except asyncio.CancelledError:
            self.given_up.append(question.id)
            raise
        raise AssertionError("nobody waits so long")


async def call(
    app,
    body: bytes,
    receive_more=None,
    *,
    path: str = CHAT,
    is_whole: bool = False,
    stall_after: int = 10**9,
) -> list[dict]:
    """Call the application as a server does; it never takes more than `stall_after` messages."""
    scope = {
        "type": "http", "method": "POST", "path": path, "headers": [], "query_string": b"",
        "http_version": "1.1", "asgi": {"version": "3.0"}, "scheme": "http",
        "server": ("served", 80), "client": ("here", 1), "root_path": "",
    }  # fmt: skip
    requests = [{"type": "http.request", "body": body, "more_body": not is_whole}]
    sent: list[dict] = []

    async def receive():
        if requests:
            return requests.pop(0)
        if receive_more is not None:
            return await receive_more()
        return await asyncio.Event().wait()

    async def send(message):
        if len(sent) >= stall_after:
            await asyncio.Event().wait()
        sent.append(message)

    await app(scope, receive, send)
    return sent


def body_of(**fields: object) -> bytes:
    return json.dumps({"model": "shop", "messages": HELLO, **fields}).encode()


def test_a_whole_answer_that_takes_too_long_is_504_and_not_tried_again():
    engine = Echo()
    engine.pause_s = 0.2

    async def ask():
        client = client_of(engine, timeout_s=0.3).with_options(max_retries=2)
        with pytest.raises(openai.InternalServerError, match=r"not whole after 0\.3 s") as caught:
            await client.chat.completions.create(model="shop", messages=LONG)
        return caught.value

    error = asyncio.run(ask())
    assert error.status_code == 504
    assert len(engine.asked) == len(engine.cancelled) == 1


def test_a_stream_that_takes_too_long_ends_with_an_error():
    async def ask():
        stream = await client_of(Flood(), timeout_s=0.1).chat.completions.create(
            model="shop", messages=HELLO, stream=True
        )
        return [chunk async for chunk in stream]

    with pytest.raises(openai.APIError, match="not whole after"):
        asyncio.run(ask())


@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_before_the_first_token_stops_the_answer(stream):
    engine = Echo()
    engine.pause_s = 60

    async def leave():
        while not engine.asked:
            await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    async def ask():
        app = make_app(engine)

        await call(app, body_of(stream=stream), leave, is_whole=True)
        await asyncio.sleep(0)
        return app.state.admission.num_open

    assert asyncio.run(asyncio.wait_for(ask(), 10)) == 0
    assert len(engine.cancelled) == 1


ASKED_OF_BUSY = {
    "/v1/embeddings": {"model": "shop", "input": ["a", "b"]},
    "/tokenize": {"model": "shop", "prompt": "a"},
    "/detokenize": {"model": "shop", "tokens": [1]},
}


@pytest.mark.parametrize("path", ASKED_OF_BUSY)
def test_vectors_and_tokens_that_take_too_long_are_504(path):
    engine = Busy()

    async def ask():
        client = plain_client(engine, timeout_s=0.1)
        answer = await client.post(path, json=ASKED_OF_BUSY[path])
        # A task that is cancelled ends when the loop turns.
        await asyncio.sleep(0)
        return answer

    answer = asyncio.run(asyncio.wait_for(ask(), 10))
    assert answer.status_code == 504
    assert answer.headers["x-should-retry"] == "false"
    assert "not whole after 0.1 s" in answer.json()["error"]["message"]
    asked = [request.id for request in engine.asked] + engine.questions
    assert asked
    assert engine.cancelled + engine.given_up == asked


@pytest.mark.parametrize("path", ASKED_OF_BUSY)
def test_who_leaves_before_vectors_or_tokens_come_stops_the_work(path):
    engine = Busy()

    async def leave():
        while not engine.asked and not engine.questions:
            await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    async def ask():
        app = make_app(engine)
        body = json.dumps(ASKED_OF_BUSY[path]).encode()
        sent = await call(app, body, leave, path=path, is_whole=True)
        await asyncio.sleep(0)
        return sent[0]["status"], app.state.admission.num_open

    assert asyncio.run(asyncio.wait_for(ask(), 10)) == (499, 0)
    asked = [request.id for request in engine.asked] + engine.questions
    assert engine.cancelled + engine.given_up == asked


def test_an_input_that_cannot_be_embedded_stops_the_others():
    engine = Echo()
    engine.pause_s = 0.01

    async def ask():
        # Each "hello" takes a hundred times as long as the error.
        body = {"model": "shop", "input": ["toolong", "hello " * 100]}
        answer = await plain_client(engine).post("/v1/embeddings", json=body)
        await asyncio.sleep(0)
        return answer

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "too long")
    assert engine.cancelled == [engine.asked[1].id]


def test_a_silent_stream_sends_comments_that_clients_pass_over():
    engine = Echo()
    engine.pause_s = 0.05

    async def ask():
        body = {"model": "shop", "messages": HELLO, "stream": True}
        raw = await plain_client(engine, ping_s=0.01).post(CHAT, json=body)
        client = client_of(engine, ping_s=0.01)
        stream = await client.chat.completions.create(**body)
        return raw.text, [chunk async for chunk in stream]

    text, chunks = asyncio.run(ask())
    assert text.count(": ping\n\n") >= 3
    # Nothing is known of an answer whose first token is late, and its stream begins.
    assert text.index(": ping") < text.index("shop:")
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "shop: hello there "


def test_a_reader_that_stops_reading_is_cut_and_its_answer_stops():
    engine = Flood()

    async def ask():
        app = make_app(engine, stall_s=0.05)
        sent = await call(app, body_of(stream=True), is_whole=True, stall_after=5)
        await asyncio.sleep(0)
        metrics = app.state.metrics.text(num_open=0, num_restarts=0, is_ready=True)
        return len(sent), app.state.admission.num_open, metrics

    num_sent, num_open, metrics = asyncio.run(asyncio.wait_for(ask(), 10))
    assert (num_sent, num_open) == (5, 0)
    assert len(engine.cancelled) == 1
    # What waits for the reader is bounded, however long it stalls.
    assert engine.written < 5000
    assert 'status="499"} 1' in metrics


def test_what_waits_for_a_slow_reader_is_bounded():
    engine = Flood()

    async def ask():
        app = make_app(engine, stall_s=60)
        asked = asyncio.ensure_future(call(app, body_of(stream=True), is_whole=True, stall_after=5))
        while not engine.cancelled:
            await asyncio.sleep(0.001)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)

    asyncio.run(asyncio.wait_for(ask(), 20))
    assert engine.written < 5000


def test_a_socket_that_nobody_reads_is_closed():
    engine = Flood()

    async def ask():
        listener = socket.create_server(("127.0.0.1", 0))
        app = make_app(engine, stall_s=0.2)
        config = uvicorn.Config(app, log_level="critical", lifespan="off")
        server = uvicorn.Server(config)
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        body = body_of(stream=True)
        head = f"POST {CHAT} HTTP/1.1\r\nHost: served\r\nContent-Length: {len(body)}\r\n\r\n"
        # A reader that takes nothing into this process: only the kernels' buffers fill.
        reader = socket.create_connection(listener.getsockname())
        reader.sendall(head.encode() + body)
        while not engine.cancelled or app.state.admission.num_open:
            await asyncio.sleep(0.01)
        reader.close()
        server.should_exit = True
        await serving

    asyncio.run(asyncio.wait_for(ask(), 20))


def test_a_body_that_trickles_is_408():
    async def trickle():
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b" ", "more_body": True}

    sent = asyncio.run(call(make_app(Echo(), stall_s=0.1), b"{", trickle))
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["error"]["type"] == "TimeoutError"


def test_a_client_that_leaves_while_it_sends_is_no_fault():
    async def leave():
        return {"type": "http.disconnect"}

    assert asyncio.run(call(make_app(Echo()), b"{", leave))[0]["status"] == 499


def test_retries_obey_what_the_server_says():
    engine = Echo()
    engine.is_ready = False
    seen: list[int] = []

    async def note(response: httpx.Response) -> None:
        seen.append(response.status_code)
        # The engine comes back between the first try and the second.
        engine.is_ready = True

    async def ask():
        http = plain_client(engine)
        http.event_hooks["response"] = [note]
        client = openai.AsyncOpenAI(
            base_url="http://served/v1", api_key="none", http_client=http, max_retries=1
        )
        return await client.chat.completions.create(model="shop", messages=HELLO)

    assert asyncio.run(ask()).choices[0].message.content == "shop: hello there "
    assert seen == [503, 200]
