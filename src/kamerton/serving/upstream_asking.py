"""One request to one engine: written in its words, and its answer read."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from kamerton.core.protocols import Chat
from kamerton.core.requests import AnswerRequest, AnswerUpdate
from kamerton.core.tokenizing import TokenizerReply, TokenizerRequest
from kamerton.serving.replicas import Replica
from kamerton.serving.upstream import UpstreamError
from kamerton.serving.upstream_models import UpstreamModel
from kamerton.wire.upstream_answers import AnswerReader, embedding_update, read_info
from kamerton.wire.upstream_requests import (
    chat_request,
    embedding_request,
    text_request,
    tokenizer_request,
)

__all__ = ["ask", "ask_tokenizer"]


async def ask(
    replica: Replica, request: AnswerRequest, model: UpstreamModel
) -> AsyncGenerator[AnswerUpdate, None]:
    """Ask an engine for an answer and read what it sends.

    Args:
        replica: The engine.
        request: What is asked for.
        model: How it is asked for there.

    Yields:
        Pieces; the last has a finish reason.

    Raises:
        UpstreamError: If there is no answer, or it breaks off.
    """
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
            except ValueError as error:
                raise UpstreamError(502, str(error)) from None
            if reader.error:
                raise UpstreamError(reader.error_code or 502, reader.error)
            if reader.lacks_logprobs:
                raise UpstreamError(501, "the engine leaves out log-probabilities of tokens")
            if update is not None:
                yield update
    if not reader.finish_reason:
        raise UpstreamError(502, "the engine ended its answer in the middle")
    yield reader.end()


async def ask_tokenizer(
    replica: Replica, question: TokenizerRequest, model: UpstreamModel
) -> TokenizerReply:
    """Ask an engine about a tokenizer, in vLLM's words.

    Args:
        replica: The engine.
        question: The question.
        model: How its model is asked for there.

    Returns:
        The reply.

    Raises:
        UpstreamError: If there is none.
    """
    chat = None if question.asked.chat is None else model.prompt.apply(question.asked.chat)
    try:
        if question.kind == "info":
            info = await replica.upstream.get("/tokenizer_info")
            return TokenizerReply(question.id, info=dict(info))
        body = tokenizer_request(question, chat, model.name)
        if chat is not None and model.template_arguments:
            body["chat_template_kwargs"] = dict(model.template_arguments)
        found = await replica.upstream.post(f"/{question.kind}", body)
        return read_info(question.id, found)
    except (UpstreamError, ValueError, TypeError) as error:
        raise _of_route(error) from None


def _of_route(error: Exception) -> UpstreamError:
    """Tell an engine without a route from one without a model."""
    if not isinstance(error, UpstreamError):
        return UpstreamError(502, str(error))
    if error.status in (404, 405):
        return UpstreamError(501, "the engine cannot do this")
    return error
