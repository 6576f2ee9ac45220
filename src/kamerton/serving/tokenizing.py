"""`/tokenize`, `/detokenize` and `/tokenizer_info`, at the server's root as vLLM has them."""

import secrets
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kamerton.core.protocols import Generation
from kamerton.core.requests import AnswerRequest, ServedModel
from kamerton.core.tokenizing import TokenizerReply, TokenizerRequest
from kamerton.serving.admission import ensure_ready
from kamerton.serving.engine import ServingEngine
from kamerton.serving.errors import ApiError
from kamerton.serving.request_body import read_body
from kamerton.serving.resolving import resolve_model
from kamerton.serving.waiting import Deadline, unless_left
from kamerton.wire.tokenizing import DetokenizeBody, TokenizeBody

__all__ = ["detokenize", "show_tokenizer", "tokenize"]


async def tokenize(request: Request) -> Response:
    """Turn a text or a chat into token ids: `POST /tokenize`.

    Args:
        request: The HTTP request.

    Returns:
        `tokens`, `token_strs`, `count` and `max_model_len`.

    Raises:
        ApiError: If the body is wrong, the model unknown or the time over.
    """
    body = await read_body(request, TokenizeBody)
    chat = None if body.messages is None else [message.plain() for message in body.messages]
    asked = _about(
        _named(request, body.model), chat=chat, prompt=body.prompt or "", tools=body.tools or ()
    )
    reply = await _ask(request, TokenizerRequest("tokenize", asked, body.add_special_tokens))
    return JSONResponse(
        {
            "count": len(reply.tokens),
            "max_model_len": reply.max_tokens,
            "tokens": list(reply.tokens),
            "token_strs": list(reply.token_texts),
        }
    )


async def detokenize(request: Request) -> Response:
    """Turn token ids into a text: `POST /detokenize`.

    Args:
        request: The HTTP request.

    Returns:
        The text as `prompt`, special tokens spelt out.

    Raises:
        ApiError: If the body is wrong, the model unknown or the time over.
    """
    body = await read_body(request, DetokenizeBody)
    asked = _about(_named(request, body.model), prompt=tuple(body.tokens))
    reply = await _ask(request, TokenizerRequest("detokenize", asked))
    return JSONResponse({"prompt": reply.text})


async def show_tokenizer(request: Request) -> Response:
    """Tell the special tokens and the chat template: `GET /tokenizer_info`.

    Args:
        request: The HTTP request; `?model=NAME` asks for a variant's.

    Returns:
        `bos_token`, `eos_token`, `pad_token`, `chat_template` and more.

    Raises:
        ApiError: If the model is unknown or the time over.
    """
    model = _named(request, request.query_params.get("model", ""))
    asked = _about(model)
    reply = await _ask(request, TokenizerRequest("info", asked))
    return JSONResponse(dict(reply.info))


def _named(request: Request, name: str) -> ServedModel:
    """Take the base where no model is named, as clients of these routes name none."""
    engine: ServingEngine = request.app.state.engine
    bases = [model.name for model in engine.models.values() if model.kind == "base"]
    return resolve_model(request, name or next(iter([*bases, *engine.models]), ""))


async def _ask(request: Request, question: TokenizerRequest) -> TokenizerReply:
    engine: ServingEngine = request.app.state.engine
    ensure_ready(engine)
    deadline = Deadline(request.app.state.timeout_s)
    reply = await unless_left(request, engine.tokenize(question), deadline)
    if reply.error:
        raise ApiError(400, reply.error)
    return reply


def _about(model: ServedModel, **what: Any) -> AnswerRequest:
    name = f"tok-{secrets.token_hex(12)}"
    return AnswerRequest(name, model.name, Generation(), artefact=model.content_hash, **what)
