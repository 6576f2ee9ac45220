"""An engine in a process of its own, as the gateway sees it.

The engine computes without pause and never blocks the gateway; when it crashes, the requests it
had get an error and a new one is started, which holds the versions that the crashed one held.
"""

import asyncio
import multiprocessing
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from kamerton.core.errors import KamertonError, ModelError
from kamerton.core.events import Event, Notice, Sink
from kamerton.core.requests import (
    AnswerRequest,
    AnswerUpdate,
    EngineReply,
    HeldVariant,
    ListVariants,
    LoadVariant,
    ReleaseVariant,
    ServedModel,
)
from kamerton.core.tokenizing import TokenizerReply, TokenizerRequest
from kamerton.serving.names import Names

__all__ = ["EngineProcess", "Work"]

Work = Callable[[Connection, Any], None]
"""Main function of the process: a connection, and what it is to open; importable by name.

It sends `Event`s while it loads, then a list of `ServedModel`, or a `KamertonError` that says why
it cannot start. Then it receives `AnswerRequest`s and the ids of those to cancel, and sends lists
of `AnswerUpdate`. To each `TokenizerRequest` it sends a `TokenizerReply` in such a list, to each
`LoadVariant`, `ReleaseVariant` and `ListVariants` an `EngineReply`. It ends at None, or when the
connection does.
"""

Restored = Callable[[Any, Sequence[ServedModel]], Any]
"""Makes the options that open the versions that a crashed engine held."""

_Question = LoadVariant | ReleaseVariant | ListVariants | TokenizerRequest
_Reply = EngineReply | TokenizerReply

_MOST_RESTARTS, _WITHIN_S = 3, 60.0


class EngineProcess:
    """Starts, watches and stops the engine.

    Args:
        work: What the process runs.
        options: What it opens; pickled.
        restored: Makes other options after a crash, from these and all versions of all names.

    Attributes:
        names: What clients may ask for.
        is_ready: Whether requests are answered now.
        problem: Why no request will be answered any more; empty while there is hope.
    """

    def __init__(
        self, work: Work, options: Any, restored: Restored = lambda options, models: options
    ) -> None:
        self._work, self._options, self._restored = work, options, restored
        self.names = Names()
        self._asked: dict[str, asyncio.Future[Any]] = {}
        self._waiting: dict[str, asyncio.Queue[AnswerUpdate]] = {}
        self._outgoing: SimpleQueue[tuple[Connection, Any] | None] = SimpleQueue()
        self._started: list[float] = []
        self._connection: Connection | None = None
        self._process: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sink: Sink = lambda event: None
        self._stopping = False
        self.is_ready, self.problem = False, ""

    @property
    def models(self) -> Mapping[str, ServedModel]:
        """What can be asked for, by name; those of before while a crashed engine comes back."""
        return self.names.models

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
            sink: Receives how far the loading is, and later notices of crashes.

        Raises:
            KamertonError: If it cannot open what it is to serve.
        """
        self._sink = sink
        self._begin(self._open(self._options))

    async def open(self, sink: Sink = lambda event: None) -> None:
        """Start the process, and watch it when it is ready; other tasks go on meanwhile.

        Args:
            sink: Receives how far the loading is, from another thread, and later notices of
                crashes.

        Raises:
            KamertonError: If it cannot open what it is to serve.
        """
        self._sink = sink
        self._begin(await asyncio.to_thread(self._open, self._options))
        self.watch()

    def _begin(self, models: Sequence[ServedModel]) -> None:
        for model in models:
            self.names.point(model)
        self.is_ready = True

    def _open(self, options: Any) -> list[ServedModel]:
        """Start a process; give what it has opened."""
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        process = context.Process(
            target=self._work, args=(theirs, options), name="kamerton-engine", daemon=True
        )
        self._started.append(time.monotonic())
        process.start()
        self._process = process
        if self._stopping:
            # It was stopped from another thread, which saw no process yet.
            process.kill()
        theirs.close()
        try:
            while isinstance(first := self._connection.recv(), Event):
                self._sink(first)
        except (EOFError, OSError):
            raise ModelError("the engine process ended before it was ready") from None
        if isinstance(first, KamertonError):
            raise first
        models: list[ServedModel] = first
        return models

    def watch(self) -> None:
        """Exchange messages from now on; call it inside the event loop that answers requests."""
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, name="engine-updates", daemon=True).start()
        threading.Thread(target=self._write, name="engine-requests", daemon=True).start()

    def stop(self) -> None:
        """Stop the process; answers that were not finished are lost."""
        was_ready, self._stopping, self.is_ready = self.is_ready, True, False
        self._outgoing.put(None)
        if self._connection is not None:
            # A thread that reads keeps the connection open: the engine is told to end.
            with suppress(OSError):
                self._connection.send(None)
        if self._process is not None:
            # One that loads listens to nobody.
            self._process.join(timeout=5 if was_ready else 0)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()
        if self._connection is not None:
            self._connection.close()

    def fail_open(self, error: str = "the server stopped while it answered") -> None:
        """End the answers that are waited for; call it in the event loop.

        Args:
            error: What their clients are told.
        """
        for future in self._asked.values():
            if not future.done():
                future.set_exception(ModelError(error))
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
        try:
            reply = await self._ask(question)
        except ModelError as error:
            return TokenizerReply(question.id, error=error.message)
        assert isinstance(reply, TokenizerReply), "an engine answers what it was asked"
        return reply

    async def load(self, place: str, content_hash: str = "") -> ServedModel:
        """Hold one more variant.

        Args:
            place: Its folder.
            content_hash: What must be there; empty for whatever is there.

        Returns:
            What it is, under the name that it has there.

        Raises:
            KamertonError: If it cannot be served, or the engine stops meanwhile.
        """
        reply = await self._change(LoadVariant(secrets.token_hex(8), place, content_hash))
        assert reply.model is not None, "whoever has no error has a model"
        return reply.model

    async def release(self, content_hash: str) -> None:
        """Let a variant go when its last request has ended.

        Args:
            content_hash: Which; an unknown one does no harm.
        """
        # An engine that has stopped holds nothing, and is not asked to hold this when it is back.
        with suppress(ModelError):
            await self._change(ReleaseVariant(secrets.token_hex(8), content_hash))

    async def held(self) -> tuple[HeldVariant, ...]:
        """Say what is held.

        Returns:
            Every variant.

        Raises:
            ModelError: If the engine is not running.
        """
        return (await self._change(ListVariants(secrets.token_hex(8)))).held

    async def _change(self, question: LoadVariant | ReleaseVariant | ListVariants) -> EngineReply:
        reply = await self._ask(question)
        assert isinstance(reply, EngineReply), "an engine answers what it was asked"
        if reply.error is not None:
            raise reply.error
        return reply

    async def _ask(self, question: _Question) -> _Reply:
        future: asyncio.Future[_Reply] = asyncio.get_running_loop().create_future()
        self._asked[question.id] = future
        try:
            if not self._send(question):
                raise ModelError("the engine is not running")
            return await future
        finally:
            self._asked.pop(question.id, None)

    def _send(self, message: AnswerRequest | _Question | str) -> bool:
        """Let a message be sent, which may take long where the engine is busy."""
        if not self.is_ready or self._connection is None:
            return False
        self._outgoing.put((self._connection, message))
        return True

    def _write(self) -> None:
        while (item := self._outgoing.get()) is not None:
            connection, message = item
            # A broken connection is seen by the thread that reads.
            with suppress(OSError):
                connection.send(message)

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
            if isinstance(updates, Event):
                # Of a variant that was loaded while others answer.
                self._sink(updates)
            else:
                self._loop.call_soon_threadsafe(self._hand_out, updates)

    def _hand_out(self, updates: list[AnswerUpdate | _Reply]) -> None:
        for update in updates:
            # A cancelled request has no reader any more.
            if isinstance(update, AnswerUpdate):
                if (queue := self._waiting.get(update.id)) is not None:
                    queue.put_nowait(update)
            elif (future := self._asked.get(update.id)) is not None and not future.done():
                future.set_result(update)

    def _restart(self) -> bool:
        """Fail what was asked for, then start again unless it crashes over and over."""
        self.is_ready = False
        assert self._loop is not None, "watch sets the loop"
        self._loop.call_soon_threadsafe(self.fail_open, "the engine stopped while it answered")
        # Without it, a zombie stays for every crash.
        self._process.join()
        ended = f"the engine process ended (exit status {self._process.exitcode})"
        recent = [at for at in self._started if time.monotonic() - at < _WITHIN_S]
        if len(recent) > _MOST_RESTARTS:
            return self._give_up(f"{ended}, {len(recent)} times within a minute")
        self._sink(Notice(f"{ended}: it is started again", "warning"))
        try:
            models = self._open(self._restored(self._options, self.names.all_versions))
        except Exception as error:
            return self._give_up(f"{ended} and cannot be started again: {error}")
        self._loop.call_soon_threadsafe(self._come_back, models)
        return True

    def _give_up(self, problem: str) -> bool:
        self.problem = f"{problem}; the server must be started again"
        self._sink(Notice(self.problem, "warning"))
        return False

    def _come_back(self, models: Sequence[ServedModel]) -> None:
        self.names.keep_only({model.content_hash for model in models})
        self.is_ready = True
        self._sink(Notice("the engine is back"))
