"""Requests as the gateway writes them to another engine that speaks OpenAI's API."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationError

from kamerton.core.protocols import Chat, Generation
from kamerton.core.requests import AnswerRequest, Grammar
from kamerton.core.tokenizing import TokenizerRequest
from kamerton.wire.tools import Tool, forced_calls

__all__ = [
    "LEFT_TO_ENGINE",
    "Dialect",
    "chat_request",
    "embedding_request",
    "text_request",
    "tokenizer_request",
]

Dialect = Literal["vllm", "llama-cpp-python", "other"]
"""Whose words an engine understands beyond OpenAI's: vLLM and Kamerton take vLLM's."""

LEFT_TO_ENGINE = Generation(max_tokens=-1, temperature=-1.0, top_p=-1.0, top_k=-1)
"""Defaults of a model that has its own in its engine: what is below 0 is not sent."""


def chat_request(
    request: AnswerRequest, chat: Chat, model: str, dialect: Dialect
) -> dict[str, Any]:
    """Write a request for the answer to a chat, as a stream.

    Args:
        request: What is asked for.
        chat: Its messages, those of a variant's prompt included.
        model: Name of the model in the engine.
        dialect: What the engine understands.

    Returns:
        The body.

    Raises:
        ValueError: If the engine cannot be told what the answer must follow.
    """
    body = {**_common(request, model, dialect), "messages": [dict(message) for message in chat]}
    if request.num_top_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": request.num_top_logprobs}
    if request.tools:
        choice = _tool_choice(request)
        body |= {"tools": [dict(tool) for tool in request.tools], "tool_choice": choice}
        if not request.parallel_calls:
            body["parallel_tool_calls"] = False
        if choice != "auto":
            # The grammar was made from the choice: the engine makes its own.
            return body
    return body | _followed(request.grammar, dialect)


def text_request(request: AnswerRequest, model: str, dialect: Dialect) -> dict[str, Any]:
    """Write a request for the continuation of a text or of token ids.

    Args:
        request: What is asked for.
        model: Name of the model in the engine.
        dialect: What the engine understands.

    Returns:
        The body; an answer that repeats its prompt is asked for as a whole, others as a stream.

    Raises:
        ValueError: If the engine cannot be told what the answer must follow, or to write nothing.
    """
    if request.generation.max_tokens == 0 and dialect != "vllm":
        # llama.cpp takes 0 for no limit.
        raise ValueError("max_tokens must be at least 1: this engine cannot only read a prompt")
    prompt = request.prompt if isinstance(request.prompt, str) else list(request.prompt)
    body = {**_common(request, model, dialect), "prompt": prompt}
    if request.num_top_logprobs is not None:
        body["logprobs"] = request.num_top_logprobs
    if request.echo:
        # Engines differ in whether a stream begins with the prompt.
        body |= {"echo": True, "stream": False}
        del body["stream_options"]
    return body | _followed(request.grammar, dialect)


def embedding_request(request: AnswerRequest, model: str) -> dict[str, Any]:
    """Write a request for the embedding of a prompt.

    Args:
        request: What is asked for.
        model: Name of the model in the engine.

    Returns:
        The body.
    """
    prompt = request.prompt if isinstance(request.prompt, str) else list(request.prompt)
    # Not every engine takes a single list of token ids.
    given = prompt if isinstance(prompt, str) else [prompt]
    return {"model": model, "input": given, "encoding_format": "float"}


def tokenizer_request(question: TokenizerRequest, chat: Chat | None, model: str) -> dict[str, Any]:
    """Write a question to vLLM's `/tokenize` or `/detokenize`.

    Args:
        question: The question.
        chat: Messages, those of a variant's prompt included; None where a text is asked about.
        model: Name of the model in the engine.

    Returns:
        The body.
    """
    if question.kind == "detokenize":
        return {"model": model, "tokens": list(question.asked.prompt)}
    body: dict[str, Any] = {"model": model, "return_token_strs": True}
    if chat is None:
        special = question.add_special_tokens
        return {**body, "prompt": question.asked.prompt, "add_special_tokens": special}
    body["messages"] = [dict(message) for message in chat]
    tools = [dict(tool) for tool in question.asked.tools]
    return {**body, "tools": tools} if tools else body


def _common(request: AnswerRequest, model: str, dialect: Dialect) -> dict[str, Any]:
    how, change = request.generation, request.reweighting
    body: dict[str, Any] = {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "seed": how.seed,
    }
    sampled = {
        "max_tokens": how.max_tokens,
        "temperature": how.temperature,
        "top_p": how.top_p,
        "top_k": how.top_k,
    }
    body |= {key: value for key, value in sampled.items() if value >= 0}
    if how.stop:
        body["stop"] = list(how.stop)
    if change.min_p or how.top_k >= 0:
        # llama.cpp drops unlikely tokens unless it is told not to.
        body["min_p"] = change.min_p
    if change.presence_penalty:
        body["presence_penalty"] = change.presence_penalty
    if change.frequency_penalty:
        body["frequency_penalty"] = change.frequency_penalty
    if change.repetition_penalty != 1:
        body["repetition_penalty"] = change.repetition_penalty
        if dialect != "vllm":
            body["repeat_penalty"] = change.repetition_penalty
    if change.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in change.logit_bias}
    return body


def _followed(grammar: Grammar | None, dialect: Dialect) -> dict[str, Any]:
    """Say what the answer must follow."""
    if grammar is None:
        return {}
    if grammar.kind == "json_schema":
        schema = json.loads(grammar.text)
        if schema == {"type": "object"}:
            return {"response_format": {"type": "json_object"}}
        if dialect == "llama-cpp-python":
            return {"response_format": {"type": "json_object", "schema": schema}}
        named = {"name": "answer", "schema": schema, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    if dialect != "vllm":
        # An engine that does not know the field would answer without it.
        raise ValueError(f"the engine follows JSON schemas, and no {grammar.kind}")
    value = json.loads(grammar.text) if grammar.kind == "choice" else grammar.text
    return {"structured_outputs": {grammar.kind: value}}


def _tool_choice(request: AnswerRequest) -> str | Mapping[str, Any]:
    """Find out which calls the client asked for: the request holds the grammar made of them."""
    try:
        tools = [Tool.model_validate(tool) for tool in request.tools]
    except ValidationError:
        return "auto"
    if request.grammar == forced_calls(tools, several=request.parallel_calls):
        return "required"
    for tool in tools:
        if request.grammar == forced_calls([tool], several=False):
            return {"type": "function", "function": {"name": tool.function.name}}
    return "auto"
