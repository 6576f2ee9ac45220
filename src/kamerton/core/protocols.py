"""The engine seam: whatever generates text and scores given tokens.

The embedded engine, an HTTP engine and the fake in `kamerton.testing` satisfy it. Prompting,
labelling and evaluation know nothing more about models.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

__all__ = [
    "Chat",
    "Completion",
    "Engine",
    "Generation",
    "Sample",
    "Score",
    "TokenEvent",
    "ToolCall",
    "ToolSchemas",
]

Chat = Sequence[Mapping[str, Any]]
"""Messages as chat templates take them: `role`, `content`, sometimes `tool_calls`."""

ToolSchemas = Sequence[Mapping[str, Any]]
"""The functions that a model may call, as chat templates take them."""


@dataclass(frozen=True, slots=True)
class Generation:
    """How to generate.

    Attributes:
        max_tokens: Most tokens to add, at least 1.
        temperature: 0 is greedy.
        top_p: Nucleus mass in (0, 1].
        top_k: 0 keeps all.
        stop: Texts at which generation ends; they are not part of the answer.
        seed: Makes sampling repeatable.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function, in a form in which equal calls are equal.

    Attributes:
        name: The function.
        arguments: JSON text with its keys in order; whole numbers have no fraction.
    """

    name: str
    arguments: str

    def __str__(self) -> str:
        return f'{{"name": {json.dumps(self.name)}, "arguments": {self.arguments}}}'


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One step of one answer: `text` may be empty while a character is incomplete."""

    index: int
    """Which of the given chats."""
    text: str
    """More of the answer: neither reasoning nor what a chat template writes around it."""
    finish_reason: str | None = None
    """`stop`, `length`, or None while going on."""
    reasoning: str = ""
    """More of what the model thinks before it answers; no part of the answer."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer."""

    text: str
    finish_reason: str
    num_prompt_tokens: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Sample:
    """An answer as a model that is being trained wrote it.

    Attributes:
        ids: Its tokens, with the one that ended it.
        logprobs: Natural-log probability of each of `ids` among the whole vocabulary at
            temperature 1, as training computes it.
        text: Its text, without special tokens, reasoning and what the template writes around it.
        ended: Whether the model ended it; else it was cut at `max_tokens` or the context's end.
        reasoning: The model's reasoning before its answer.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    ended: bool
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """Natural-log probability of an answer given its chat: the sum over its tokens."""

    logprob: float
    num_tokens: int


@runtime_checkable
class Engine(Protocol):
    """Generates and scores."""

    def stream(
        self, chats: Sequence[Chat], generation: Generation, tools: Sequence[ToolSchemas] = ()
    ) -> Iterator[TokenEvent]:
        """Answer several chats together, yielding token events as they come.

        `tools` are the functions that each chat may call; empty when none may call any.
        """
        ...

    def score(
        self,
        chats: Sequence[Chat],
        answers: Sequence[Sequence[str]],
        tools: Sequence[ToolSchemas] = (),
    ) -> list[list[Score]]:
        """Score every candidate answer of every chat."""
        ...
