"""Answers, chunks and errors, as OpenAI's clients read them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kamerton.core.requests import AnswerUpdate, TokenLogprob
from kamerton.wire.tools import written_calls

__all__ = [
    "calls_before_end",
    "chat_answer",
    "chat_chunk",
    "error_body",
    "text_answer",
    "text_chunk",
    "usage_chunk",
    "usage_of",
]

_LOWEST = -9999.0


def error_body(
    message: str, kind: str, param: str | None = None, code: int = 400
) -> dict[str, Any]:
    """Write an error as OpenAI's clients read it.

    Args:
        message: What must hold and what was found.
        kind: Class of the error, such as "NotFoundError".
        param: The field at fault.
        code: The HTTP status.

    Returns:
        The body.
    """
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def usage_of(updates: Sequence[AnswerUpdate], num_prompts: int = 1) -> dict[str, Any]:
    """Count the tokens of a request.

    Args:
        updates: The last update of every answer.
        num_prompts: Different prompts among them; answers to one prompt stand together.

    Returns:
        OpenAI's `usage`.
    """
    each = max(len(updates) // max(num_prompts, 1), 1)
    prompt = sum(update.num_prompt_tokens for update in updates[::each])
    written = sum(update.num_tokens for update in updates)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
    }


def chat_answer(
    completion_id: str, model: str, answers: Sequence[Mapping[str, Any]], usage: Mapping[str, Any]
) -> dict[str, Any]:
    """Write whole answers to a chat.

    Args:
        completion_id: Of the request.
        model: The variant that answered.
        answers: `text`, `reasoning`, `finish_reason`, `logprobs` and `tool_calls` of each.
        usage: Token counts.

    Returns:
        The body.
    """
    choices = []
    for index, answer in enumerate(answers):
        message = {"role": "assistant", "content": answer["text"], "refusal": None}
        if answer.get("tool_calls"):
            message["content"] = answer["text"] or None
            message["tool_calls"] = written_calls(answer["tool_calls"])
        if answer["reasoning"]:
            message["reasoning_content"] = answer["reasoning"]
        choices.append(
            {
                "index": index,
                "message": message,
                "logprobs": _chat_logprobs(answer["logprobs"]),
                "finish_reason": answer["finish_reason"],
            }
        )
    return _body(completion_id, "chat.completion", model, choices, usage)


def calls_before_end(update: AnswerUpdate) -> tuple[AnswerUpdate, ...]:
    """Part the calls of an answer from its end, as OpenAI streams them.

    Its SDK for Python tells that the arguments of a call are whole when a later chunk brings the
    reason of the end; in one chunk with it, they never are.

    Args:
        update: A piece of a streamed answer.

    Returns:
        The piece, in two where it has calls.
    """
    if not update.tool_calls:
        return (update,)
    end = replace(update, text="", reasoning="", logprobs=(), tool_calls=())
    return replace(update, finish_reason=None), end


def chat_chunk(
    completion_id: str,
    model: str,
    index: int,
    update: AnswerUpdate | None,
    *,
    logprobs: bool = False,
    with_usage: bool = False,
) -> dict[str, Any]:
    """Write a piece of a streamed answer to a chat.

    Args:
        completion_id: Of the request.
        model: The variant that answers.
        index: Which of its answers.
        update: The piece; None for the first chunk, which only names the role.
        logprobs: Whether the tokens' log-probabilities stand in it.
        with_usage: Whether the chunk says that its usage is not known yet.

    Returns:
        The chunk.
    """
    delta: dict[str, Any] = {}
    if update is None:
        delta = {"role": "assistant", "content": ""}
    else:
        if update.text:
            delta["content"] = update.text
        if update.reasoning:
            delta["reasoning_content"] = update.reasoning
        if update.tool_calls:
            delta["tool_calls"] = written_calls(update.tool_calls, numbered=True)
    choice = {
        "index": index,
        "delta": delta,
        "logprobs": _chat_logprobs(update.logprobs) if update and logprobs else None,
        "finish_reason": update.finish_reason if update else None,
    }
    return _chunk(completion_id, "chat.completion.chunk", model, choice, with_usage)


def text_answer(
    completion_id: str, model: str, answers: Sequence[Mapping[str, Any]], usage: Mapping[str, Any]
) -> dict[str, Any]:
    """Write whole continuations of prompts.

    Args:
        completion_id: Of the request.
        model: The variant that answered.
        answers: `text`, `finish_reason` and `logprobs` of each.
        usage: Token counts.

    Returns:
        The body.
    """
    choices = [
        {
            "index": index,
            "text": answer["text"],
            "logprobs": _text_logprobs(answer["logprobs"]),
            "finish_reason": answer["finish_reason"],
        }
        for index, answer in enumerate(answers)
    ]
    return _body(completion_id, "text_completion", model, choices, usage)


def text_chunk(
    completion_id: str,
    model: str,
    index: int,
    update: AnswerUpdate,
    *,
    logprobs: bool = False,
    with_usage: bool = False,
) -> dict[str, Any]:
    """Write a piece of a streamed continuation.

    Args:
        completion_id: Of the request.
        model: The variant that answers.
        index: Which of its answers.
        update: The piece.
        logprobs: Whether the tokens' log-probabilities stand in it.
        with_usage: Whether the chunk says that its usage is not known yet.

    Returns:
        The chunk.
    """
    choice = {
        "index": index,
        "text": update.text,
        "logprobs": _text_logprobs(update.logprobs) if logprobs else None,
        "finish_reason": update.finish_reason,
    }
    return _chunk(completion_id, "text_completion", model, choice, with_usage)


def usage_chunk(
    completion_id: str, kind: str, model: str, usage: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the last chunk of a streamed answer, which has token counts and no choices.

    Args:
        completion_id: Of the request.
        kind: `object` of the answer's other chunks.
        model: The variant that answered.
        usage: Token counts.

    Returns:
        The chunk.
    """
    return _body(completion_id, kind, model, [], usage)


def _chunk(
    completion_id: str, kind: str, model: str, choice: Mapping[str, Any], with_usage: bool
) -> dict[str, Any]:
    body = _body(completion_id, kind, model, [choice])
    return {**body, "usage": None} if with_usage else body


def _body(
    completion_id: str,
    kind: str,
    model: str,
    choices: Sequence[Mapping[str, Any]],
    usage: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    body = {
        "id": completion_id,
        "object": kind,
        "created": int(time.time()),
        "model": model,
        "choices": list(choices),
    }
    return body if usage is None else {**body, "usage": dict(usage)}


def _chat_logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any] | None:
    if not tokens:
        return None
    return {
        "content": [
            {
                **_token(token.text, token.logprob),
                "top_logprobs": [_token(text, logprob) for text, logprob in token.top],
            }
            for token in tokens
        ],
        "refusal": None,
    }


def _token(text: str, logprob: float | None) -> dict[str, Any]:
    return {"token": text, "logprob": _finite(logprob), "bytes": list(text.encode())}


def _finite(logprob: float | None) -> float | None:
    """Bound from below, as vLLM does: JSON has no infinity, and no NaN, which becomes the bound."""
    return None if logprob is None else max(_LOWEST, logprob)


def _text_logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any] | None:
    if not tokens:
        return None
    offsets, at = [], 0
    for token in tokens:
        offsets.append(at)
        at += len(token.text)
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [_finite(token.logprob) for token in tokens],
        "top_logprobs": [_alternatives(token) for token in tokens],
        "text_offset": offsets,
    }


def _alternatives(token: TokenLogprob) -> dict[str, float | None] | None:
    """Write the likeliest tokens and the one that stands there."""
    if token.logprob is None:
        return None
    return {text: _finite(logprob) for text, logprob in (*token.top, (token.text, token.logprob))}
