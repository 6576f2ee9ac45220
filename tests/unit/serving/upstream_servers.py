"""Engines for the gateway to stand before, on sockets of this machine."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp


@contextmanager
def listening(app: ASGIApp) -> Iterator[str]:
    """Serve an application in a thread; give its address."""
    config = uvicorn.Config(
        app, port=0, log_level="error", lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


class Vllm:
    """Speaks as vLLM does, and answers with the model's name and the last message's words."""

    def __init__(self, base: str = "acme/base", key: str = "") -> None:
        self.base, self.key = base, key
        self.adapters: dict[str, str] = {}
        self.asked: list[dict[str, object]] = []
        self.errors: list[Response] = []
        """Given instead of answers, the first first."""
        self.break_after: int | None = None
        """Number of pieces after which an answer breaks off."""
        self.wait = threading.Event()
        """Answers pause after their first piece until it is set."""
        self.wait.set()
        self.num_closed = 0
        """Answers that were closed before their end."""
        self.has_lora = True
        self.chat_template = ""

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/models", self.models),
                Route("/v1/load_lora_adapter", self.load, methods=["POST"]),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/embeddings", self.embed, methods=["POST"]),
                Route("/tokenizer_info", self.tokenizer_info),
            ]
        )

    async def models(self, request: Request) -> Response:
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return JSONResponse({"error": "Unauthorized"}, 401)
        own = {"object": "model", "created": 7, "owned_by": "vllm"}
        cards = [{"id": self.base, "root": self.base, "parent": None, **own}]
        cards += [
            {"id": name, "root": path, "parent": self.base, **own}
            for name, path in self.adapters.items()
        ]
        return JSONResponse({"object": "list", "data": cards})

    async def tokenizer_info(self, request: Request) -> Response:
        return JSONResponse({"chat_template": self.chat_template})

    async def load(self, request: Request) -> Response:
        body = await request.json()
        if not self.has_lora:
            return JSONResponse({"detail": "Not Found"}, 404)
        if not (Path(body["lora_path"]) / "adapter_config.json").is_file():
            return JSONResponse({"error": {"message": "no adapter there", "code": 400}}, 400)
        self.adapters[body["lora_name"]] = body["lora_path"]
        return PlainTextResponse(f"Success: LoRA adapter '{body['lora_name']}' added.")

    async def embed(self, request: Request) -> Response:
        self.asked.append(await request.json())
        data = [{"object": "embedding", "index": 0, "embedding": [3.0, 4.0]}]
        return JSONResponse({"data": data, "usage": {"prompt_tokens": 5, "total_tokens": 5}})

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        if self.errors:
            return self.errors.pop(0)
        if body["model"] not in {self.base, *self.adapters}:
            error = {"message": f"The model `{body['model']}` does not exist.", "code": 404}
            return JSONResponse({"error": error}, 404)
        self.asked.append(body)
        return StreamingResponse(self._events(body), media_type="text/event-stream")

    async def _events(self, body: dict[str, object]) -> AsyncIterator[str]:
        words = [f"{body['model']}:", *body["messages"][-1]["content"].split(), None]
        finished = False
        try:
            yield _event({"role": "assistant", "content": ""})
            for number, word in enumerate(words):
                if number == self.break_after:
                    finished = True
                    return
                if number == 1:
                    while not self.wait.is_set():
                        await asyncio.sleep(0.005)
                        # Gives the server the occasion to notice that nobody reads.
                        yield ": wait\n\n"
                yield _event({}, "stop") if word is None else _event({"content": f"{word} "})
            usage = {"prompt_tokens": 11, "completion_tokens": len(words), "total_tokens": 99}
            yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n"
            yield "data: [DONE]\n\n"
            finished = True
        finally:
            self.num_closed += not finished


def _event(delta: dict[str, object], finish_reason: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return f"data: {json.dumps({'choices': [choice]}, ensure_ascii=False)}\n\n"
