"""The gateway before other engines: requests are answered by whichever of them can."""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Mapping,
    Sequence,
)
from contextlib import aclosing, suppress
from typing import Any

from kamerton.core.errors import ModelError
from kamerton.core.events import Notice, Sink
from kamerton.core.requests import AnswerRequest, AnswerUpdate, HeldVariant, ServedModel
from kamerton.core.tokenizing import TokenizerReply, TokenizerRequest
from kamerton.serving.errors import ApiError
from kamerton.serving.names import Names
from kamerton.serving.replicas import Replica, Replicas
from kamerton.serving.upstream import Upstream, UpstreamError
from kamerton.serving.upstream_asking import ask, ask_tokenizer
from kamerton.serving.upstream_held import HeldUpstream
from kamerton.serving.upstream_models import (
    UpstreamModel,
    cannot_list,
    list_models,
    load_lora,
    other_templates,
    unload_lora,
)
from kamerton.wire.upstream_answers import ModelCard

__all__ = ["Offer", "OpenVariant", "UpstreamEngine"]

_SILENT_S = 30.0
"""Seconds after which an engine that answers something, and sends nothing, is looked at."""


Offer = Callable[[Sequence[ModelCard]], Sequence[UpstreamModel]]
"""Decides what is served, from all models that the engines list; raises a `KamertonError`."""

OpenVariant = Callable[[str, str, Sequence[ModelCard]], UpstreamModel]
"""Reads the variant of a folder with a content hash, or any where that is empty, for engines that
list these models; raises a `KamertonError`."""


def _open_nothing(place: str, content_hash: str, cards: Sequence[ModelCard]) -> UpstreamModel:
    raise ModelError("variants cannot be loaded here")


class UpstreamEngine:
    """Answers requests by asking other engines.

    Args:
        upstreams: At least one.
        offer: Decides what is served.
        open_variant: Reads variants that are loaded while requests are answered.
        limit_open: Most requests that each engine answers at once; None sets no limit.
        health_s: Seconds from one look at the engines to the next.

    Attributes:
        problem: Always empty: an engine may come back at any time.
        num_restarts: Always 0: whoever runs the engines starts them again.
    """

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        offer: Offer,
        *,
        open_variant: OpenVariant = _open_nothing,
        limit_open: int | None = None,
        health_s: float = 5.0,
    ) -> None:
        self._offer, self._open_variant, self._health_s = offer, open_variant, health_s
        self._sink: Sink = lambda event: None
        self._replicas = Replicas([Replica(one) for one in upstreams], self._tell, limit_open)
        self._held = HeldUpstream()
        self._open: set[asyncio.Timeout] = set()
        self._ended = ""
        self._said: set[str] = set()
        # The loop holds tasks weakly.
        self._tasks: set[asyncio.Task[None]] = set()
        self.problem, self.num_restarts = "", 0

    @property
    def names(self) -> Names:
        """What clients may ask for."""
        return self._held.names

    @property
    def models(self) -> Mapping[str, ServedModel]:
        """What can be asked for, by name."""
        return self.names.models

    @property
    def is_ready(self) -> bool:
        """Whether an engine can be reached."""
        return bool(self.models) and self._is_reachable()

    def _is_reachable(self) -> bool:
        return any(replica.is_reachable for replica in self._replicas.replicas)

    def start(self, sink: Sink = lambda event: None) -> None:
        """Ask the engines what they serve, and load into them what is missing.

        Args:
            sink: Receives notices, also later of engines that go and come back.

        Raises:
            KamertonError: If no engine answers, or one cannot serve what is wanted.
        """
        self._sink = sink
        asyncio.run(self._begin())

    async def open(self, sink: Sink = lambda event: None) -> None:
        """Start, and look after the engines from then on; other tasks go on meanwhile.

        Args:
            sink: Receives notices, also later of engines that go and come back.

        Raises:
            KamertonError: If no engine answers, or one cannot serve what is wanted.
        """
        self._sink = sink
        await self._begin()
        self.watch()

    async def _begin(self) -> None:
        problems, cards = [], []
        replicas = self._replicas.replicas
        try:
            for replica in replicas:
                replica.upstream.open()
            found = await asyncio.gather(
                *(list_models(replica) for replica in replicas), return_exceptions=True
            )
            for replica, listed in zip(replicas, found, strict=True):
                if isinstance(listed, UpstreamError):
                    problems.append(cannot_list(replica, listed))
                elif isinstance(listed, BaseException):
                    raise listed
                else:
                    cards += listed
                    replica.hear(asyncio.get_running_loop().time())
            if not self._is_reachable():
                raise problems[0]
            for problem in problems:
                self._sink(Notice(f"{problem.message}: it gets no requests for now", "warning"))
            models = [one for one in self._offer(cards) if await self._is_loaded(one)]
            for notice in await other_templates(replicas, models):
                self._sink(notice)
            self._held.point(models)
        finally:
            # Connections belong to the event loop in which they were made, and this one ends.
            for replica in replicas:
                await replica.upstream.close()

    def watch(self) -> None:
        """Look after the engines from now on; call it in the event loop that answers requests."""
        for replica in self._replicas.replicas:
            replica.upstream.open()
        self._run(self._look_after())

    def stop(self) -> None:
        """End nothing: connections close when the event loop ends and cancels its tasks."""

    def fail_open(self, error: str = "the server stopped while it answered") -> None:
        """End the answers that are waited for; call it in the event loop.

        Args:
            error: What their clients are told.
        """
        self._ended = error
        now = asyncio.get_running_loop().time()
        for limit in self._open:
            limit.reschedule(now)

    async def answer(self, request: AnswerRequest) -> AsyncIterator[AnswerUpdate]:
        """Answer a request.

        Args:
            request: The request.

        Yields:
            Pieces; the last has a finish reason or an error. Closing the iterator ends the
            request in the engine.

        Raises:
            ApiError: If no engine answers it.
        """
        model = self._find(request)
        updates = self._first_that_answers(request, model)
        async with aclosing(updates):
            with self._held.used(model, lambda left: self._run(self._unload(left))):
                while (update := await self._next(request, updates)) is not None:
                    yield update

    async def _next(
        self, request: AnswerRequest, updates: AsyncGenerator[AnswerUpdate, None]
    ) -> AnswerUpdate | None:
        """Wait for a piece, or until the server is told to end all answers; None at the end."""
        try:
            async with asyncio.timeout(None) as limit:
                self._open.add(limit)
                try:
                    return await anext(updates)
                finally:
                    self._open.discard(limit)
        except StopAsyncIteration:
            return None
        except TimeoutError:
            return AnswerUpdate(request.id, error=self._ended)

    async def tokenize(self, question: TokenizerRequest) -> TokenizerReply:
        """Ask about a tokenizer, in vLLM's words.

        Args:
            question: The question.

        Returns:
            The reply.

        Raises:
            ApiError: If no engine answers it.
        """
        model = self._find(question.asked)
        tried: list[Replica] = []
        last: UpstreamError | None = None
        while (replica := await self._replicas.choose(model.name, tried)) is not None:
            tried.append(replica)
            try:
                with self._replicas.asked(replica):
                    reply = await ask_tokenizer(replica, question, model)
            except UpstreamError as error:
                last = self._note(replica, error)
                continue
            self._replicas.hear(replica)
            return reply
        raise self._replicas.refusal(model.name, last)

    async def load(self, place: str, content_hash: str = "") -> ServedModel:
        """Hold one more variant.

        Args:
            place: Its folder.
            content_hash: What must be there; empty for whatever is there.

        Returns:
            What it is, under the name of its folder.

        Raises:
            KamertonError: If it cannot be served by the engines.
        """
        cards = [card for replica in self._replicas.replicas for card in replica.cards]
        model = await asyncio.to_thread(self._open_variant, place, content_hash, cards)
        await self._load(model)
        for notice in await other_templates(self._replicas.replicas, [model]):
            self._sink(notice)
        self._held.add(model)
        return model.served

    async def release(self, content_hash: str) -> None:
        """Let a variant go when its last request has ended.

        Args:
            content_hash: Which; an unknown one does no harm.
        """
        if (model := self._held.leave(content_hash)) is not None:
            await self._unload(model)

    async def held(self) -> tuple[HeldVariant, ...]:
        """Say what is held.

        Returns:
            Every variant.
        """
        return self._held.describe()

    def _find(self, request: AnswerRequest) -> UpstreamModel:
        found = self._held.find(request.model, request.artefact)
        if found is None:
            raise ApiError(404, f"the model '{request.model}' does not exist", "model")
        return found

    async def _first_that_answers(
        self, request: AnswerRequest, model: UpstreamModel
    ) -> AsyncGenerator[AnswerUpdate, None]:
        """Ask one engine after another, until one has sent something."""
        tried: list[Replica] = []
        last: UpstreamError | None = None
        has_loaded = False
        while (replica := await self._replicas.choose(model.name, tried)) is not None:
            tried.append(replica)
            has_begun = False
            try:
                with self._replicas.asked(replica):
                    async with aclosing(ask(replica, request, model)) as updates:
                        async for update in updates:
                            has_begun = True
                            self._replicas.hear(replica)
                            yield update
                return
            except UpstreamError as error:
                if has_begun:
                    self._replicas.fail(replica, error)
                    yield AnswerUpdate(request.id, error=error.message)
                    return
                last = self._note(replica, error)
                if error.status == 404:
                    replica.models = {*replica.models} - {model.name}
                if error.status == 404 and model.place and not has_loaded:
                    # The engine was started again: it has forgotten the LoRA.
                    has_loaded = True
                    with suppress(ModelError):
                        await load_lora(replica, model)
                        tried.remove(replica)
        raise self._replicas.refusal(model.name, last)

    def _note(self, replica: Replica, error: UpstreamError) -> UpstreamError:
        """Note an error, and raise it where no other engine would do better."""
        if error.is_of_request or error.status == 501:
            self._replicas.hear(replica)
            raise self._replicas.refusal("", error)
        self._replicas.fail(replica, error)
        return error

    async def _is_loaded(self, model: UpstreamModel) -> bool:
        """Load a model at the start; say so where that fails and the server can do without."""
        try:
            await self._load(model)
        except ModelError as problem:
            if model.is_required:
                raise
            self._sink(Notice(f"not served: {problem.message}", "warning"))
            return False
        return True

    async def _load(self, model: UpstreamModel) -> None:
        for replica in self._replicas.replicas:
            if replica.is_reachable:
                await load_lora(replica, model)

    async def _unload(self, model: UpstreamModel) -> None:
        for replica in self._replicas.replicas:
            await unload_lora(replica, model)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look_after(self) -> None:
        try:
            while True:
                # One that is gone is waited for more eagerly.
                is_whole = all(replica.is_reachable for replica in self._replicas.replicas)
                await asyncio.sleep(self._health_s if is_whole else min(self._health_s, 1.0))
                looks = map(self._look_at, self._replicas.replicas)
                for found in await asyncio.gather(*looks, return_exceptions=True):
                    if isinstance(found, Exception):
                        self._tell_once(f"an engine could not be looked at: {found!r}")
        finally:
            for replica in self._replicas.replicas:
                with suppress(Exception):
                    await replica.upstream.close()

    async def _look_at(self, replica: Replica) -> None:
        now = asyncio.get_running_loop().time()
        if replica.num_open and now - replica.heard_at < _SILENT_S:
            # What it sends shows that it lives; some servers break off answers to say this.
            return
        try:
            await list_models(replica)
        except UpstreamError as error:
            self._replicas.fail(replica, error)
            return
        self._replicas.hear(replica)
        for model in self._held.models:
            try:
                await load_lora(replica, model)
            except ModelError as problem:
                self._tell_once(problem.message)

    def _tell_once(self, message: str) -> None:
        # What fails is tried again and again.
        if message not in self._said:
            self._said.add(message)
            self._sink(Notice(message, "warning"))

    def _tell(self, event: object) -> None:
        assert isinstance(event, Notice)
        self._sink(event)
