"""A teacher over HTTP on loopback that knows the labels, and fails as it is told to."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

__all__ = ["TeacherServer", "serving", "text_of"]


@dataclass
class TeacherServer:
    """What a server does and has done.

    Attributes:
        label_of: The label of a text.
        logprob_of: Natural-log probability of the label of a text.
        faults: Of a text, what happens before it is answered: "429", "500", "slow", "cut",
            "malformed" (which is paid for).
        gives_logprobs: Whether it gives log-probabilities.
        paid: Whole answers by text and seed.
        bodies: All requests.
        fails_after: Every request fails after so many paid ones; None never.
        answering: What is being answered.
    """

    label_of: Callable[[str], str]
    logprob_of: Callable[[str], float] = lambda text: -0.01
    faults: dict[str, list[str]] = field(default_factory=dict)
    gives_logprobs: bool = True
    paid: Counter[tuple[str, int]] = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    fails_after: int | None = None
    url: str = ""
    answering: set[asyncio.Task[Any]] = field(default_factory=set)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and let go of the connection whatever happens."""
        task = asyncio.current_task()
        assert task is not None
        self.answering.add(task)
        try:
            # The client may have gone away.
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            self.answering.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        body = json.loads(await reader.readexactly(length))
        self.bodies.append(body)
        text = text_of(body)
        fault = self.faults[text].pop(0) if self.faults.get(text) else ""
        if self.fails_after is not None and sum(self.paid.values()) >= self.fails_after:
            fault = "500"
        if fault == "slow":
            await asyncio.sleep(0.6)
        elif fault == "cut":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{")
        elif fault in ("429", "500"):
            more = "retry-after: 0\r\n" if fault == "429" else ""
            writer.write(_response(f"{fault} No", b'{"error": {"message": "no"}}', more))
        else:
            self.paid[text, body["seed"]] += 1
            done = b'{"choices": [' if fault == "malformed" else self._completion(text)
            writer.write(_response("200 OK", done))
        await writer.drain()

    def _completion(self, text: str) -> bytes:
        label = self.label_of(text)
        choice: dict[str, Any] = {"message": {"role": "assistant", "content": label}}
        if self.gives_logprobs:
            token = {"token": label, "logprob": self.logprob_of(text)}
            choice["logprobs"] = {"content": [token]}
        usage = {"prompt_tokens": 40, "completion_tokens": 2}
        return json.dumps({"choices": [choice], "usage": usage}).encode()


def text_of(body: Mapping[str, Any]) -> str:
    """Give the text that a request asks about."""
    asked: str = body["messages"][-1]["content"]
    return asked.removeprefix("Text:\n").removesuffix("\n\nLabel:")


def _response(status: str, body: bytes, more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{more}"
    return f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body


@contextmanager
def serving(server: TeacherServer) -> Iterator[TeacherServer]:
    """Serve on a free port in a thread of its own.

    Args:
        server: What it does; gets its address.

    Yields:
        The same.
    """
    ready, stopped = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        listening = await asyncio.start_server(server.answer, "127.0.0.1", 0)
        async with listening:
            server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
            loops.append(asyncio.get_running_loop())
            ready.set()
            await stopped.wait()
            await asyncio.gather(*server.answering, return_exceptions=True)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(10)
        yield server
    finally:
        loops[0].call_soon_threadsafe(stopped.set)
        thread.join(10)
