"""Requests to an engine that serves many clients, and what comes back.

They are plain values: the gateway and the engine are two processes.
"""

from dataclasses import dataclass, field
from typing import Literal

from kamerton.core.audience import AudienceSettings
from kamerton.core.errors import KamertonError
from kamerton.core.protocols import Chat, Generation, ToolCall, ToolSchemas

__all__ = [
    "AnswerRequest",
    "AnswerUpdate",
    "EngineReply",
    "Grammar",
    "HeldVariant",
    "ListVariants",
    "LoadVariant",
    "ReleaseVariant",
    "Reweighting",
    "ServedModel",
    "TokenLogprob",
]


@dataclass(frozen=True, slots=True)
class Reweighting:
    """How the probabilities of tokens are changed before one is chosen; nothing is by itself.

    Attributes:
        min_p: Keeps tokens that are at least this share as probable as the likeliest; 0 to 1.
        presence_penalty: Taken from the logit of every token that the answer has; -2 to 2.
        frequency_penalty: Taken as often as the answer has the token; -2 to 2.
        repetition_penalty: Divides the positive logits of tokens of prompt and answer, multiplies
            negative ones; 0.01 to 10, and 1 changes nothing.
        logit_bias: Token ids with what is added to their logits, -100 to 100.
    """

    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()

    @property
    def changes_logits(self) -> bool:
        """Whether more than `min_p` is asked for."""
        return self != Reweighting(min_p=self.min_p)


@dataclass(frozen=True, slots=True)
class Grammar:
    """What an answer must follow.

    Attributes:
        kind: What `text` is.
        text: A JSON schema, a regular expression, or a JSON list of the texts to choose from.
    """

    kind: Literal["json_schema", "regex", "choice"]
    text: str


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """One answer that somebody waits for.

    Attributes:
        id: Unique among the requests of an engine.
        model: Name of a served model: a variant or the base.
        generation: How to generate.
        chat: Messages that end with the turn to be answered; None for a plain text.
        prompt: A text or token ids to go on from; used where `chat` is None.
        tools: The functions that the answer may call.
        parallel_calls: Whether it may call more than one.
        num_top_logprobs: Alternatives to report per token, 0 or more; None reports nothing.
        reweighting: What changes the probabilities of tokens; reported ones stay the model's.
        grammar: What the answer must follow; it has no reasoning before it then.
        echo: Whether a plain prompt comes back before the answer, with the log-probabilities of
            its tokens where `num_top_logprobs` asks for any. `max_tokens` may be 0 then.
        embeds: Whether the end of the answer has the mean of the prompt's last hidden states.
        artefact: Content hash that `model` meant when the request came; empty for what the engine
            takes it for.
    """

    id: str
    model: str
    generation: Generation
    chat: Chat | None = None
    prompt: str | tuple[int, ...] = ""
    tools: ToolSchemas = ()
    parallel_calls: bool = True
    num_top_logprobs: int | None = None
    reweighting: Reweighting = field(default_factory=Reweighting)
    grammar: Grammar | None = None
    echo: bool = False
    embeds: bool = False

    @property
    def reads_prompt(self) -> bool:
        """Whether all tokens of the prompt must be computed: none may come out of a cache."""
        return self.embeds or self.wants_prompt_logprobs

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Whether log-probabilities of the prompt's tokens are reported."""
        return self.echo and self.num_top_logprobs is not None

    artefact: str = ""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token with its probability at temperature 1.

    Attributes:
        text: Its text; a part of a character stands as the replacement character.
        logprob: Natural logarithm; None for the first of a prompt, which nothing stands before.
        top: The likeliest tokens with theirs, the best first.
    """

    text: str
    logprob: float | None
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerUpdate:
    """More of an answer, or its end.

    Attributes:
        id: The request's.
        text: More of the answer; may be empty.
        reasoning: More of what the model thinks before it answers.
        finish_reason: "stop", "length" or "tool_calls" at the end, else None.
        error: Why there is no answer; empty where there is one.
        is_client_error: Whether the request caused the error.
        num_prompt_tokens: Tokens of the prompt.
        num_tokens: Tokens written so far.
        logprobs: Of the tokens that are new in this update.
        tool_calls: Functions that the answer calls, at its end.
        embedding: [E], of length one, where the request embeds.
    """

    id: str
    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    error: str = ""
    is_client_error: bool = False
    num_prompt_tokens: int = 0
    num_tokens: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    embedding: tuple[float, ...] = ()

    @property
    def is_last(self) -> bool:
        """Whether nothing follows."""
        return self.finish_reason is not None or bool(self.error)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A name that clients may ask for.

    Attributes:
        name: What the client writes as `model`.
        kind: Method of the adapter; "prompt only" without one; "base" for the plain base.
        content_hash: Of the variant; of the base's weights for the plain base.
        base: Name of the base.
        num_bytes: Memory that its adapter takes beside the base; 0 without one.
        created: Unix time at which it was made; 0 when unknown.
        defaults: How it answers where a request says nothing.
        place: Folder that it was read from; empty for the base.
        audience: Who may use it.
    """

    name: str
    kind: str
    content_hash: str
    base: str
    num_bytes: int = 0
    created: int = 0
    defaults: Generation = field(default_factory=Generation)
    place: str = ""
    audience: AudienceSettings = field(default_factory=AudienceSettings)


@dataclass(frozen=True, slots=True)
class LoadVariant:
    """Asks an engine to hold a variant, from now until it is released.

    Attributes:
        id: Unique among everything that the engine is asked.
        place: Folder of the variant.
        content_hash: What must be there; empty for whatever is there.
    """

    id: str
    place: str
    content_hash: str = ""


@dataclass(frozen=True, slots=True)
class ReleaseVariant:
    """Tells an engine that no name means a variant any more; its requests are still answered.

    Attributes:
        id: Unique among everything that the engine is asked.
        content_hash: Which variant; an unknown one does no harm.
    """

    id: str
    content_hash: str


@dataclass(frozen=True, slots=True)
class ListVariants:
    """Asks an engine what it holds.

    Attributes:
        id: Unique among everything that the engine is asked.
    """

    id: str


@dataclass(frozen=True, slots=True)
class HeldVariant:
    """A variant that an engine answers for.

    Attributes:
        content_hash: Which.
        num_bytes: Memory that its adapter takes when it is resident.
        is_resident: Whether it is in memory, else it is read from disk when it is asked for.
        num_requests: Requests that it answers now.
        is_leaving: Whether it goes when these have ended.
    """

    content_hash: str
    num_bytes: int
    is_resident: bool
    num_requests: int
    is_leaving: bool


@dataclass(frozen=True, slots=True)
class EngineReply:
    """What an engine says to a `LoadVariant`, `ReleaseVariant` or `ListVariants`.

    Attributes:
        id: The message's.
        model: The variant that was loaded, under the name that it has on disk.
        held: What is held, where that was asked.
        error: Why it was not done; None where it was.
    """

    id: str
    model: ServedModel | None = None
    held: tuple[HeldVariant, ...] = ()
    error: KamertonError | None = None
