"""The gateway before other engines: requests are answered by whichever of them can."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress

from kamerton.core.errors import KamertonError, ModelError
from kamerton.core.events import Notice, Sink
from kamerton.core.protocols import Chat
from kamerton.core.requests import AnswerRequest, AnswerUpdate, ServedModel
from kamerton.core.tokenizing import TokenizerReply, TokenizerRequest
from kamerton.serving.errors import ApiError
from kamerton.serving.replicas import Replica, Replicas
from kamerton.serving.upstream import Upstream, UpstreamError
from kamerton.serving.upstream_models import (
    UpstreamModel,
    cannot_list,
    list_models,
    load_lora,
    other_templates,
)
from kamerton.wire.upstream_answers import AnswerReader, ModelCard, embedding_update, read_info
from kamerton.wire.upstream_requests import (
    chat_request,
    embedding_request,
    text_request,
    tokenizer_request,
)

__all__ = ["Offer", "UpstreamEngine"]

_SILENT_S = 30.0
"""Seconds after which an engine that answers something, and sends nothing, is looked at."""


Offer = Callable[[Sequence[ModelCard]], Sequence[UpstreamModel]]
"""Decides what is served, from all models that the engines list; raises a `KamertonError`."""


class UpstreamEngine:
    """Answers requests by asking other engines.

    Args:
        upstreams: At least one.
        offer: Decides what is served.
        limit_open: Most requests that each engine answers at once; None sets no limit.
        health_s: Seconds from one look at the engines to the next.

    Attributes:
        models: What can be asked for.
        problem: Always empty: an engine may come back at any time.
        num_restarts: Always 0: whoever runs the engines starts them again.
    """

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        offer: Offer,
        *,
        limit_open: int | None = None,
        health_s: float = 5.0,
    ) -> None:
        self._offer, self._health_s = offer, health_s
        self._sink: Sink = lambda event: None
        self._replicas = Replicas([Replica(one) for one in upstreams], self._tell, limit_open)
        self._models: dict[str, UpstreamModel] = {}
        self._open: set[asyncio.Timeout] = set()
        self._ended = ""
        self._watching: asyncio.Task[None] | None = None
        self.models: Mapping[str, ServedModel] = {}
        self.problem, self.num_restarts = "", 0

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
            self._models = {model.served.name: model for model in self._offer(cards)}
            for replica in replicas:
                if replica.is_reachable:
                    await self._load_missing(replica, at_start=True)
            for notice in await other_templates(replicas, list(self._models.values())):
                self._sink(notice)
            self.models = {name: model.served for name, model in self._models.items()}
        finally:
            # Connections belong to the event loop in which they were made, and this one ends.
            for replica in replicas:
                await replica.upstream.close()

    def watch(self) -> None:
        """Look after the engines from now on; call it in the event loop that answers requests."""
        for replica in self._replicas.replicas:
            replica.upstream.open()
        self._watching = asyncio.get_running_loop().create_task(self._look_after())

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
        model = self._models.get(request.model)
        if model is None:
            raise ApiError(404, f"the model '{request.model}' does not exist", "model")
        async with aclosing(self._first_that_answers(request, model)) as updates:
            while True:
                try:
                    async with asyncio.timeout(None) as limit:
                        self._open.add(limit)
                        try:
                            update = await anext(updates)
                        finally:
                            self._open.discard(limit)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    yield AnswerUpdate(request.id, error=self._ended)
                    return
                yield update

    async def tokenize(self, question: TokenizerRequest) -> TokenizerReply:
        """Ask about a tokenizer, in vLLM's words.

        Args:
            question: The question.

        Returns:
            The reply.

        Raises:
            ApiError: If no engine answers it.
        """
        model = self._models[question.asked.model]
        chat = None if question.asked.chat is None else model.prompt.apply(question.asked.chat)
        tried: list[Replica] = []
        last: UpstreamError | None = None
        while (replica := await self._replicas.choose(model.name, tried)) is not None:
            tried.append(replica)
            try:
                with self._replicas.asked(replica):
                    if question.kind == "info":
                        info = await replica.upstream.get("/tokenizer_info")
                        reply = TokenizerReply(question.id, info=dict(info))
                    else:
                        body = tokenizer_request(question, chat, model.name)
                        found = await replica.upstream.post(f"/{question.kind}", body)
                        reply = read_info(question.id, found)
            except (UpstreamError, ValueError, TypeError) as error:
                last = self._note(replica, _of_route(error))
                continue
            self._replicas.hear(replica)
            return reply
        raise self._replicas.refusal(model.name, last)

    async def _first_that_answers(
        self, request: AnswerRequest, model: UpstreamModel
    ) -> AsyncGenerator[AnswerUpdate, None]:
        """Ask one engine after another, until one has sent something."""
        tried: list[Replica] = []
        last: UpstreamError | None = None
        while (replica := await self._replicas.choose(model.name, tried)) is not None:
            tried.append(replica)
            has_begun = False
            try:
                with self._replicas.asked(replica):
                    async with aclosing(_ask(replica, request, model)) as updates:
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
                    # Looked for again when the engine is looked at, and loaded again if it is ours.
                    replica.models = {*replica.models} - {model.name}
        raise self._replicas.refusal(model.name, last)

    def _note(self, replica: Replica, error: UpstreamError) -> UpstreamError:
        """Note an error, and raise it where no other engine would do better."""
        if error.is_of_request or error.status == 501:
            self._replicas.hear(replica)
            raise self._replicas.refusal("", error)
        self._replicas.fail(replica, error)
        return error

    async def _load_missing(self, replica: Replica, *, at_start: bool = False) -> None:
        """Load the LoRAs that an engine does not have, at first or after it was started again."""
        for model in list(self._models.values()):
            try:
                await load_lora(replica, model)
            except ModelError as problem:
                if not at_start or model.is_required:
                    raise
                self._sink(Notice(f"not served: {problem.message}", "warning"))
                del self._models[model.served.name]

    async def _look_after(self) -> None:
        try:
            while True:
                # One that is gone is waited for more eagerly.
                is_whole = all(replica.is_reachable for replica in self._replicas.replicas)
                await asyncio.sleep(self._health_s if is_whole else min(self._health_s, 1.0))
                await asyncio.gather(*map(self._look_at, self._replicas.replicas))
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
            await self._load_missing(replica)
        except UpstreamError as error:
            self._replicas.fail(replica, error)
        except KamertonError as error:
            self._sink(Notice(error.message, "warning"))
        else:
            self._replicas.hear(replica)

    def _tell(self, event: object) -> None:
        assert isinstance(event, Notice)
        self._sink(event)


async def _ask(
    replica: Replica, request: AnswerRequest, model: UpstreamModel
) -> AsyncGenerator[AnswerUpdate, None]:
    """Ask an engine and read what it sends."""
    upstream = replica.upstream
    try:
        if request.embeds:
            found = await upstream.post("/v1/embeddings", embedding_request(request, model.name))
            yield embedding_update(request, found)
            return
        chat: Chat | None = None if request.chat is None else model.prompt.apply(request.chat)
        path = "/v1/completions" if chat is None else "/v1/chat/completions"
        body = (
            text_request(request, model.name, replica.dialect)
            if chat is None
            else chat_request(request, chat, model.name, replica.dialect)
        )
        if chat is not None and model.template_arguments:
            body["chat_template_kwargs"] = dict(model.template_arguments)
    except ValueError as error:
        raise UpstreamError(400, str(error)) from None
    except UpstreamError as error:
        raise _of_route(error) from None
    reader = AnswerReader(request)
    async with aclosing(upstream.events(path, body)) as chunks:
        async for chunk in chunks:
            try:
                update = reader.read(chunk)
            except (TypeError, ValueError, KeyError, AttributeError):
                raise UpstreamError(502, "the engine does not answer as OpenAI's does") from None
            if reader.error:
                raise UpstreamError(reader.error_code or 502, reader.error)
            if reader.lacks_logprobs:
                raise UpstreamError(501, "the engine leaves out log-probabilities of tokens")
            if update is not None:
                yield update
    if not reader.finish_reason:
        raise UpstreamError(502, "the engine ended its answer in the middle")
    yield reader.end()


def _of_route(error: Exception) -> UpstreamError:
    """Tell an engine without a route from one without a model."""
    if not isinstance(error, UpstreamError):
        return UpstreamError(502, str(error))
    if error.status in (404, 405):
        return UpstreamError(501, "the engine cannot do this")
    return error
