"""The part of OpenAI's API that clients rely on: requests, answers, chunks and errors.

Fields that are not known are accepted and have no effect, as clients of other servers send many.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kamerton.core.requests import AnswerUpdate, Grammar, Reweighting, TokenLogprob
from kamerton.wire.structured import ResponseFormat, StructuredOutputs
from kamerton.wire.tools import NamedTool, Tool, ToolChoice, forced_calls, written_calls

__all__ = [
    "ChatMessage",
    "ChatRequest",
    "CompletionRequest",
    "StreamOptions",
    "chat_answer",
    "chat_chunk",
    "error_body",
    "text_answer",
    "text_chunk",
    "usage_chunk",
    "usage_of",
]

MOST_CHOICES = 64
MOST_BIASED = 1024
MOST_TOOLS = 128
_LOWEST = -9999.0


class StreamOptions(BaseModel):
    """Options of a streamed answer."""

    model_config = ConfigDict(extra="allow")

    include_usage: bool = False
    """Whether a last chunk without choices tells the token counts."""


class _Request(BaseModel):
    model_config = ConfigDict(extra="allow")

    model: str
    """Name of a variant, or of the base."""
    temperature: float | None = Field(default=None, ge=0, le=100)
    """0 is greedy; the variant's own where it is not given."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Nucleus mass."""
    top_k: int | None = Field(default=None, ge=-1)
    """0 and -1 keep all."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """Keeps tokens at least this share as probable as the likeliest."""
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    """Lowers tokens that the answer has already."""
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    """Lowers tokens by how often the answer has them."""
    repetition_penalty: float = Field(default=1.0, ge=0.01, le=10)
    """Lowers tokens of prompt and answer; 1 changes nothing."""
    logit_bias: dict[int, Annotated[float, Field(ge=-100, le=100)]] | None = Field(
        default=None, max_length=MOST_BIASED
    )
    """Token ids with what is added to their logits."""
    response_format: ResponseFormat | None = None
    """Whether the answer is JSON, and which."""
    structured_outputs: StructuredOutputs | None = None
    """What the answer must follow, in vLLM's form."""
    guided_json: dict[str, Any] | str | None = None
    """vLLM's older name of `structured_outputs.json`."""
    guided_regex: str | None = None
    """vLLM's older name of `structured_outputs.regex`."""
    guided_choice: list[str] | None = None
    """vLLM's older name of `structured_outputs.choice`."""
    guided_grammar: str | None = None
    """vLLM's older name of `structured_outputs.grammar`, which cannot be followed."""
    seed: int | None = None
    """Makes sampling repeatable."""
    n: int = Field(default=1, ge=1, le=MOST_CHOICES)
    """Number of answers."""
    stop: str | list[str] | None = None
    """Texts that end the answer and are not part of it."""
    stream: bool = False
    """Whether the answer comes piece by piece."""
    stream_options: StreamOptions | None = None
    """Options of a streamed answer."""
    user: str | None = None
    """Who asks; not used yet."""

    @model_validator(mode="before")
    @classmethod
    def _null_says_nothing(cls, body: Any) -> Any:
        if not isinstance(body, Mapping):
            return body
        return {key: value for key, value in body.items() if value is not None}

    @model_validator(mode="after")
    def _one_grammar(self) -> Self:
        if len(self._grammars) > 1:
            raise ValueError("an answer can follow one schema, regex or list of choices")
        return self

    @property
    def grammar(self) -> Grammar | None:
        """What the answer must follow."""
        return next(iter(self._grammars), None)

    @property
    def _grammars(self) -> list[Grammar]:
        guided = {
            "json": self.guided_json,
            "regex": self.guided_regex,
            "choice": self.guided_choice,
            "grammar": self.guided_grammar,
        }
        found = StructuredOutputs.model_validate(guided).grammars
        found += self.structured_outputs.grammars if self.structured_outputs else []
        own = self.response_format.grammar if self.response_format else None
        return [*found, own] if own else found

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop texts that are not empty."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(text for text in given if text)

    @property
    def reweighting(self) -> Reweighting:
        """What changes the probabilities of tokens."""
        return Reweighting(
            self.min_p,
            self.presence_penalty,
            self.frequency_penalty,
            self.repetition_penalty,
            tuple((self.logit_bias or {}).items()),
        )

    @property
    def wants_usage(self) -> bool:
        """Whether a streamed answer ends with the token counts."""
        return self.stream_options is not None and self.stream_options.include_usage


class ChatMessage(BaseModel):
    """A message of a conversation, as clients send it."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    """Who speaks; "developer" means system."""
    content: str | list[dict[str, Any]] | None = None
    """A text, or parts of which each is a text."""
    tool_calls: list[dict[str, Any]] | None = None
    """Functions that the assistant called."""

    @model_validator(mode="after")
    def _only_text(self) -> Self:
        if isinstance(self.content, list):
            for part in self.content:
                if part.get("type") != "text" or not isinstance(part.get("text"), str):
                    raise ValueError(
                        f"only parts of type text can be read, got {part.get('type')!r}"
                    )
        if self.content is None and not self.tool_calls:
            raise ValueError("content is needed where no function is called")
        return self

    def plain(self) -> dict[str, Any]:
        """Give the message as chat templates take it.

        Returns:
            With its content as one text, "" where there is none.
        """
        content = self.content
        if isinstance(content, list):
            content = "".join(part["text"] for part in content)
        role = "system" if self.role == "developer" else self.role
        message = self.model_dump(exclude_none=True, exclude={"role", "content"})
        return {"role": role, "content": content or "", **message}


class ChatRequest(_Request):
    """Body of `POST /v1/chat/completions`."""

    messages: list[ChatMessage] = Field(min_length=1)
    """The conversation, ending with the turn to be answered."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Most tokens of the answer."""
    max_completion_tokens: int | None = Field(default=None, ge=1)
    """The newer name of `max_tokens`; it wins."""
    tools: list[Tool] = Field(default=[], max_length=MOST_TOOLS)
    """Functions that may be called."""
    tool_choice: ToolChoice = "auto"
    """Whether functions may be called, must be, or which must be."""
    parallel_tool_calls: bool = True
    """Whether an answer may make more than one call."""
    logprobs: bool = False
    """Whether every token comes with its log-probability."""
    top_logprobs: int = Field(default=0, ge=0, le=20)
    """Alternatives per token."""

    @model_validator(mode="after")
    def _calls_can_be_made(self) -> Self:
        names = [tool.function.name for tool in self.tools]
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise ValueError(f"tool_choice: no tool is called {self.tool_choice.function.name!r}")
        if self.tool_choice == "required" and not names:
            raise ValueError("tool_choice: 'required' needs tools")
        if self._must_call and self._grammars:
            raise ValueError("tool_choice: an answer that follows a schema can call nothing")
        return self

    @property
    def _must_call(self) -> bool:
        return self.tool_choice not in ("none", "auto")

    @property
    def offered_tools(self) -> list[dict[str, Any]]:
        """The functions that the model is told of, as chat templates take them."""
        if self.tool_choice == "none":
            return []
        return [tool.model_dump(exclude_unset=True) for tool in self.tools]

    @property
    def grammar(self) -> Grammar | None:
        """What the answer must follow: a schema, or calls that it must make."""
        if not self._must_call:
            return super().grammar
        chosen = self.tools
        if isinstance(self.tool_choice, NamedTool):
            name = self.tool_choice.function.name
            chosen = [tool for tool in self.tools if tool.function.name == name]
        several = self.parallel_tool_calls and self.tool_choice == "required"
        return forced_calls(chosen, several=several)


class CompletionRequest(_Request):
    """Body of `POST /v1/completions`."""

    prompt: str | list[str] | list[int] | list[list[int]]
    """A text, token ids, or several of either."""
    max_tokens: int = Field(default=16, ge=0)
    """Most tokens of each answer; 0 only reads the prompt."""
    logprobs: int | None = Field(default=None, ge=0, le=20)
    """Alternatives per token; None reports no log-probabilities."""
    echo: bool = False
    """Whether the prompt comes back before the answer, with its log-probabilities if asked for."""
    suffix: str = ""
    """Text after the gap; only an empty one is possible."""
    best_of: int | None = None
    """Answers to choose from; only `n` is possible."""

    @model_validator(mode="after")
    def _only_what_is_done(self) -> Self:
        if self.suffix:
            raise ValueError("suffix must be empty: text before a suffix cannot be written")
        if self.best_of not in (None, self.n):
            raise ValueError(f"best_of must be n ({self.n}), got {self.best_of}")
        return self

    @property
    def prompts(self) -> list[str | tuple[int, ...]]:
        """The prompts, each a text or token ids."""
        given = self.prompt
        if isinstance(given, str):
            return [given]
        if given and isinstance(given[0], int):
            return [tuple(token for token in given if isinstance(token, int))]
        return [each if isinstance(each, str) else tuple(each) for each in given]  # type: ignore[arg-type]


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
    body = _body(completion_id, "chat.completion.chunk", model, [choice])
    return {**body, "usage": None} if with_usage else body


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
    body = _body(completion_id, "text_completion", model, [choice])
    return {**body, "usage": None} if with_usage else body


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
