"""What a client asked for, as the answers to compute and how they are written."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kamerton.core.protocols import Generation
from kamerton.core.requests import AnswerRequest, AnswerUpdate, ServedModel
from kamerton.serving.errors import ApiError
from kamerton.wire.answers import (
    chat_answer,
    chat_chunk,
    text_answer,
    text_chunk,
    usage_chunk,
    usage_of,
)
from kamerton.wire.bodies import ChatRequest, CompletionRequest

__all__ = ["CompletionJob", "make_job"]


@dataclass(frozen=True)
class CompletionJob:
    """A request of a client: the answers to compute and how they are written.

    Attributes:
        id: Of the completion.
        model: Who answers.
        requests: One per answer; answers to one prompt stand together.
        num_prompts: Different prompts among them.
        is_chat: Whether the answers are a chat's.
        wants_usage: Whether a streamed answer ends with token counts.
    """

    id: str
    model: ServedModel
    requests: tuple[AnswerRequest, ...]
    num_prompts: int
    is_chat: bool
    wants_usage: bool

    @property
    def openings(self) -> list[dict[str, Any]]:
        """The first chunks of a stream, which name the role; a plain text has none."""
        if not self.is_chat:
            return []
        return [
            chat_chunk(self.id, self.model.name, index, None, with_usage=self.wants_usage)
            for index in range(len(self.requests))
        ]

    def chunk(self, index: int, update: AnswerUpdate) -> dict[str, Any]:
        """Write a piece of one of the answers.

        Args:
            index: Which answer.
            update: The piece.

        Returns:
            The chunk.
        """
        write = chat_chunk if self.is_chat else text_chunk
        logprobs = self.requests[index].num_top_logprobs is not None
        return write(
            self.id, self.model.name, index, update, logprobs=logprobs, with_usage=self.wants_usage
        )

    def usage_chunk(self, last: Sequence[AnswerUpdate]) -> dict[str, Any]:
        """Write the chunk that ends a stream with token counts.

        Args:
            last: The last update of every answer.

        Returns:
            The chunk.
        """
        kind = "chat.completion.chunk" if self.is_chat else "text_completion"
        return usage_chunk(self.id, kind, self.model.name, usage_of(last, self.num_prompts))

    def answer(
        self, answers: Sequence[Mapping[str, Any]], last: Sequence[AnswerUpdate]
    ) -> dict[str, Any]:
        """Write whole answers.

        Args:
            answers: `text`, `reasoning`, `finish_reason`, `logprobs` and `tool_calls` of each.
            last: The last update of every answer.

        Returns:
            The body.
        """
        write = chat_answer if self.is_chat else text_answer
        return write(self.id, self.model.name, answers, usage_of(last, self.num_prompts))


def make_job(body: ChatRequest | CompletionRequest, model: ServedModel) -> CompletionJob:
    """Turn the body of a request into the answers to compute.

    Args:
        body: What the client sent.
        model: Who answers.

    Returns:
        The job, with `n` answers per prompt.

    Raises:
        ApiError: If a prompt is empty.
    """
    contents = _contents(body)
    is_chat = isinstance(body, ChatRequest)
    name = f"{'chatcmpl' if is_chat else 'cmpl'}-{secrets.token_hex(12)}"
    generation = _generation(body, model)
    requests = tuple(
        AnswerRequest(
            f"{name}-{index}",
            model.name,
            # Each answer to one prompt has random numbers of its own.
            replace(generation, seed=generation.seed + index),
            num_top_logprobs=body.num_top_logprobs,
            reweighting=body.reweighting,
            grammar=body.grammar,
            artefact=model.content_hash,
            **content,
        )
        for index, content in enumerate(each for each in contents for _ in range(body.n))
    )
    return CompletionJob(name, model, requests, len(contents), is_chat, body.wants_usage)


def _contents(body: ChatRequest | CompletionRequest) -> list[dict[str, Any]]:
    """Give the fields of an `AnswerRequest` that say what it goes on from, for each prompt."""
    if isinstance(body, ChatRequest):
        chat = [message.plain() for message in body.messages]
        tools, parallel = body.offered_tools, body.parallel_tool_calls
        return [{"chat": chat, "tools": tools, "parallel_calls": parallel}]
    if not body.prompts or not all(body.prompts):
        raise ApiError(400, "prompt: every prompt needs at least one token", "prompt")
    return [{"prompt": prompt, "echo": body.echo} for prompt in body.prompts]


def _generation(body: ChatRequest | CompletionRequest, model: ServedModel) -> Generation:
    """Take what the request asks for, else what the variant was made for."""
    given = {
        "max_tokens": body.limit_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": None if body.top_k is None else max(body.top_k, 0),
        "seed": secrets.randbelow(1 << 31) if body.seed is None else body.seed,
        "stop": body.stops or None,
    }
    asked: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    return replace(model.defaults, **asked)
