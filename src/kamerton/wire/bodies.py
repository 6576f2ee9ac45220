"""Bodies of requests, as OpenAI's clients and those of vLLM send them.

Fields that are not known are accepted and have no effect, as clients of other servers send many.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, model_validator

from kamerton.core.requests import Grammar, Reweighting
from kamerton.wire.structured import ResponseFormat, StructuredOutputs
from kamerton.wire.tools import NamedTool, Tool, ToolChoice, forced_calls

__all__ = ["ChatMessage", "ChatRequest", "CompletionRequest", "StreamOptions"]

_MOST_CHOICES = 64
_MOST_BIASED = 1024
_MOST_TOOLS = 128


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
        default=None, max_length=_MOST_BIASED
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
    n: int = Field(default=1, ge=1, le=_MOST_CHOICES)
    """Number of answers."""
    stop: str | list[str] | None = None
    """Texts that end the answer and are not part of it."""
    stream: bool = False
    """Whether the answer comes piece by piece."""
    stream_options: StreamOptions | None = None
    """Options of a streamed answer."""
    user: str | None = None
    """Who asks: the unit that splits and experiments assign."""

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
    tools: list[Tool] = Field(default=[], max_length=_MOST_TOOLS)
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
    def limit_tokens(self) -> int | None:
        """Most tokens of an answer; None where the request says nothing."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def num_top_logprobs(self) -> int | None:
        """Alternatives per token; None reports no log-probabilities."""
        return self.top_logprobs if self.logprobs else None

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

    prompt: str | list[str] | list[StrictInt] | list[list[StrictInt]]
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
    def limit_tokens(self) -> int:
        """Most tokens of each answer."""
        return self.max_tokens

    @property
    def num_top_logprobs(self) -> int | None:
        """Alternatives per token; None reports no log-probabilities."""
        return self.logprobs

    @property
    def prompts(self) -> list[str | tuple[int, ...]]:
        """The prompts, each a text or token ids."""
        given = self.prompt
        if isinstance(given, str):
            return [given]
        if given and isinstance(given[0], int):
            return [tuple(token for token in given if isinstance(token, int))]
        return [each if isinstance(each, str) else tuple(each) for each in given]  # type: ignore[arg-type]
