"""An engine in a process of its own, as the gateway sees it.

The engine computes without pause and never blocks the gateway; when it crashes, the requests it
had get an error and a new one is started.
"""

import asyncio
import multiprocessing
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

from kamerton.core.errors import KamertonError, ModelError
from kamerton.core.events import Notice, Sink
from kamerton.core.requests import AnswerRequest, AnswerUpdate, ServedModel
from kamerton.core.tokenizing import TokenizerReply, TokenizerRequest

__all__ = ["EngineProcess", "Work"]

Work = Callable[[Connection, Any], None]
"""Main function of the process: a connection, and what it is to open; importable by name.

It sends `Notice`s while it loads, then a list of `ServedModel`, or a `KamertonError` that says why
it cannot start. Then it receives `AnswerRequest`s, the ids of those to cancel and
`TokenizerRequest`s, and sends lists of `AnswerUpdate` and `TokenizerReply`. It ends when the
connection does.
"""

_MOST_RESTARTS, _WITHIN_S = 3, 60.0


class EngineProcess:
    """Starts, watches and stops the engine.

    Args:
        work: What the process runs.
        options: What it opens; pickled.
    """

    def __init__(self, work: Work, options: Any) -> None:
        self._work, self._options = work, options
        self._models: dict[str, ServedModel] = {}
        self._waiting: dict[str, asyncio.Queue[AnswerUpdate]] = {}
        self._asked: dict[str, asyncio.Future[TokenizerReply]] = {}
        self._started: list[float] = []
        self._connection: Connection | None = None
        self._process: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False
        self.is_ready = False

    @property
    def models(self) -> Mapping[str, ServedModel]:
        """What can be asked for, by name; those of before while a crashed engine comes back."""
        return self._models

    @property
    def num_restarts(self) -> int:
        """How often it was started again after a crash."""
        return max(len(self._started) - 1, 0)

    @property
    def pid(self) -> int | None:
        """Process id; None before it starts."""
        return None if self._process is None else self._process.pid

    def start(self, sink: Sink = lambda event: None) -> None:
        """Start the process and wait until it is ready.

        Args:
            sink: Receives notices while it loads.

        Raises:
            KamertonError: If it cannot open what it is to serve.
        """
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=self._work, args=(theirs, self._options), name="kamerton-engine", daemon=True
        )
        self._started.append(time.monotonic())
        self._process.start()
        theirs.close()
        try:
            while isinstance(first := self._connection.recv(), Notice):
                sink(first)
        except EOFError:
            raise ModelError("the engine process ended before it was ready") from None
        if isinstance(first, KamertonError):
            raise first
        self._models = {model.name: model for model in first}
        self.is_ready = True

    def watch(self) -> None:
        """Read updates from now on; call it inside the event loop that answers requests."""
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, name="engine-updates", daemon=True).start()

    def stop(self) -> None:
        """Stop the process; answers that were not finished are lost."""
        self._stopping, self.is_ready = True, False
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.join(timeout=5)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()

    def fail_open(self, error: str = "the server stopped while it answered") -> None:
        """End the answers that are waited for; call it in the event loop.

        Args:
            error: What their clients are told.
        """
        for name in list(self._asked):
            self._tell(TokenizerReply(name, error=error))
        for name, queue in self._waiting.items():
            queue.put_nowait(AnswerUpdate(name, error=error))

    async def answer(self, request: AnswerRequest) -> AsyncIterator[AnswerUpdate]:
        """Answer a request.

        Args:
            request: The request.

        Yields:
            Pieces; the last has a finish reason or an error. Closing the iterator cancels.
        """
        queue: asyncio.Queue[AnswerUpdate] = asyncio.Queue()
        self._waiting[request.id] = queue
        finished = False
        try:
            if not self._send(request):
                yield AnswerUpdate(request.id, error="the engine is not running")
                return
            while not finished:
                update = await queue.get()
                finished = update.is_last
                yield update
        finally:
            self._waiting.pop(request.id, None)
            if not finished:
                self._send(request.id)

    async def tokenize(self, question: TokenizerRequest) -> TokenizerReply:
        """Ask about a tokenizer.

        Args:
            question: The question.

        Returns:
            The reply, with an error where the engine stopped.
        """
        future: asyncio.Future[TokenizerReply] = asyncio.get_running_loop().create_future()
        self._asked[question.id] = future
        try:
            if not self._send(question):
                return TokenizerReply(question.id, error="the engine is not running")
            return await future
        finally:
            self._asked.pop(question.id, None)

    def _send(self, message: AnswerRequest | TokenizerRequest | str) -> bool:
        try:
            assert self._connection is not None, "start comes first"
            self._connection.send(message)
        except OSError:
            return False
        return True

    def _read(self) -> None:
        assert self._loop is not None, "watch sets the loop"
        while not self._stopping:
            try:
                assert self._connection is not None, "start comes first"
                updates = self._connection.recv()
            except (EOFError, OSError):
                if self._stopping or not self._restart():
                    return
                continue
            self._loop.call_soon_threadsafe(self._hand_out, updates)

    def _hand_out(self, updates: list[AnswerUpdate | TokenizerReply]) -> None:
        for update in updates:
            # A cancelled request has no reader any more.
            if isinstance(update, TokenizerReply):
                self._tell(update)
            elif (queue := self._waiting.get(update.id)) is not None:
                queue.put_nowait(update)

    def _restart(self) -> bool:
        """Fail what was asked for, then start again unless it crashes over and over."""
        self.is_ready = False
        assert self._loop is not None, "watch sets the loop"
        self._loop.call_soon_threadsafe(self.fail_open, "the engine stopped while it answered")
        # Without it, a zombie stays for every crash.
        self._process.join()
        recent = [at for at in self._started if time.monotonic() - at < _WITHIN_S]
        if len(recent) > _MOST_RESTARTS:
            return False
        try:
            self.start()
        except KamertonError:
            return False
        return True

    def _tell(self, reply: TokenizerReply) -> None:
        future = self._asked.get(reply.id)
        if future is not None and not future.done():
            future.set_result(reply)
