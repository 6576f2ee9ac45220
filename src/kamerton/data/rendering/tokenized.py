"""What rendering takes and gives: its settings, rows, pairs, and examples as chats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from kamerton.core.errors import RenderingError
from kamerton.core.protocols import Chat
from kamerton.core.settings import Settings
from kamerton.data.examples import (
    ChatExample,
    ClassificationExample,
    Example,
    Message,
    PreferenceExample,
    SourceLocation,
    TextExample,
)
from kamerton.data.rendering.assembly import TrainOn
from kamerton.data.rendering.turns import Tools

__all__ = [
    "RenderSettings",
    "TokenizedExample",
    "TokenizedFeedback",
    "TokenizedGroup",
    "TokenizedPair",
    "TokenizedPrompt",
    "TrainingExample",
    "chat_of",
    "num_tokens",
    "untrained",
]

_GIVEN = "the renderer gives it"
_OWN_ARGUMENTS = {
    "enable_thinking": "set render.thinking",
    "thinking": "set render.thinking",
    "strftime_now": "set render.date",
    "tools": "tools come from the data",
    **dict.fromkeys(
        ("conversation", "messages", "documents", "chat_template", "add_generation_prompt",
         "continue_final_message", "tokenize", "sanitize_control_tokens", "padding", "truncation",
         "max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask",
         "tokenizer_kwargs"),
        _GIVEN,
    ),
}  # fmt: skip


class RenderSettings(Settings):
    """How examples become tokens."""

    train_on: TrainOn = "assistant"
    """Which tokens are learnt: every answer of the assistant, only the last one, or all text."""
    max_tokens: int = Field(default=1024, ge=2)
    """Longest example in tokens, prompt and answer together. 2 or more. Longer plain texts are cut
    into windows, whatever `overlong` says."""
    overlong: Literal["drop", "shorten"] = "drop"
    """What to do with longer ones: "drop" them, or "shorten" them by leaving out the oldest turns
    (system text and the last answer stay). Both are reported."""
    thinking: bool = False
    """Let the model think before it answers, where its template has a switch for that. False puts
    the closed, empty thinking block into the prompt; then answers must hold no reasoning."""
    date: str = ""
    """Day that a chat template is told when it asks for today's date, such as "2026-11-30". Empty:
    the day on which the run begins, which it keeps when it is resumed, and so does the variant."""
    template_arguments: dict[str, str | bool | int | float] = Field(default_factory=dict)
    """What else the chat template is given, by the names that it reads, such as
    { reasoning_effort = "low" } or { date_string = "30 Nov 2026" }."""

    def seen_by_the_model(self) -> dict[str, Any]:
        """Give what changes the prompts that a model reads: a variant is always asked so.

        Returns:
            Plain values; the other settings say what is learned from examples.
        """
        return self.model_dump(mode="json", include={"thinking", "date", "template_arguments"})

    @field_validator("date", mode="before")
    @classmethod
    def _is_date(cls, value: Any) -> str:
        # TOML has dates of its own.
        try:
            return str(value and date.fromisoformat(str(value)).isoformat())
        except ValueError:
            raise ValueError(f'must be a day such as "2026-11-30", got {value!r}') from None

    @field_validator("template_arguments")
    @classmethod
    def _free_arguments(
        cls, value: dict[str, str | bool | int | float]
    ) -> dict[str, str | bool | int | float]:
        for name in value:
            if other := _OWN_ARGUMENTS.get(name):
                raise ValueError(f"must not hold {name!r}: {other}")
            if not name.isidentifier():
                raise ValueError(f"must have names that a template can read, got {name!r}")
        return value


@dataclass(frozen=True, eq=False, slots=True)
class TokenizedExample:
    """A row for training.

    Attributes:
        ids: [T] int32 token ids.
        loss_mask: [T] bool, True where the token at that position is a target of the loss; never at
            position 0.
        location: Location that the example came from.
        notes: What was left out or changed, one sentence each.
    """

    ids: NDArray[np.int32]
    loss_mask: NDArray[np.bool_]
    location: SourceLocation | None = None
    notes: tuple[str, ...] = ()

    @property
    def num_prompt(self) -> int:
        """Tokens that several answers share: none, there is one text."""
        return 0

    @property
    def answers(self) -> tuple["TokenizedExample", ...]:
        """The one text."""
        return (self,)

    @property
    def is_desirable(self) -> bool | None:
        """Whether users liked it: not known."""
        return None


@dataclass(frozen=True, eq=False, slots=True)
class TokenizedPair:
    """A better and a worse answer to one prompt.

    Attributes:
        num_prompt: Tokens at the start that both rows share: the prompt.
        chosen: The prompt with the better answer.
        rejected: The prompt with the worse answer.
        margin: By how much the better answer should be ahead of the worse, for a reward model;
            None when the data do not say.
    """

    num_prompt: int
    chosen: TokenizedExample
    rejected: TokenizedExample
    margin: float | None = None

    @property
    def location(self) -> SourceLocation | None:
        """Where the pair came from."""
        return self.chosen.location

    @property
    def answers(self) -> tuple[TokenizedExample, ...]:
        """The better row, then the worse."""
        return self.chosen, self.rejected

    @property
    def is_desirable(self) -> bool | None:
        """A pair is judged as a pair."""
        return None

    @property
    def prompt_ids(self) -> NDArray[np.int32]:
        """The ids of the prompt, [P]."""
        return self.chosen.ids[: self.num_prompt]

    @property
    def chosen_ids(self) -> NDArray[np.int32]:
        """The ids of the better answer, [C]."""
        return self.chosen.ids[self.num_prompt :]

    @property
    def rejected_ids(self) -> NDArray[np.int32]:
        """The ids of the worse answer, [R]."""
        return self.rejected.ids[self.num_prompt :]


@dataclass(frozen=True, eq=False, slots=True)
class TokenizedFeedback:
    """An answer that was liked or not, and another prompt's answer to compare with.

    Attributes:
        num_prompt: Tokens at the start that both rows share: the prompt.
        answer: The prompt with its own answer.
        other: The prompt with an answer that belongs to another one.
        is_desirable: Whether the own answer was liked.
    """

    num_prompt: int
    answer: TokenizedExample
    other: TokenizedExample
    is_desirable: bool

    @property
    def location(self) -> SourceLocation | None:
        """Where the feedback came from."""
        return self.answer.location

    @property
    def answers(self) -> tuple[TokenizedExample, ...]:
        """The own row, then the other."""
        return self.answer, self.other


@dataclass(frozen=True, eq=False, slots=True)
class TokenizedPrompt:
    """A prompt that the model answers itself.

    Attributes:
        ids: [P] int32 token ids of the prompt.
        messages: The same as messages, without what the recipe puts before them.
        extra: The row's other columns.
        location: Location that it came from.
        reference: The answer that the row brings, as text; empty where there is none.
        given: Answers to learn from beside the model's own, as rows: the better one, then the
            worse; or none.
        texts: The same as texts.
    """

    ids: NDArray[np.int32]
    messages: Chat
    extra: Mapping[str, Any]
    location: SourceLocation | None
    reference: str = ""
    given: tuple[TokenizedExample, ...] = ()
    texts: tuple[str, ...] = ()

    @property
    def num_prompt(self) -> int:
        """Tokens of the prompt."""
        return len(self.ids)

    @property
    def answers(self) -> tuple[TokenizedExample, ...]:
        """Those that are there before the model writes."""
        return self.given

    @property
    def is_desirable(self) -> bool | None:
        """Nobody has judged it."""
        return None

    def answered(self, answers: Sequence[Sequence[int]]) -> "TokenizedGroup":
        """Put answers behind the given ones.

        Args:
            answers: Token ids of each, up to their end.

        Returns:
            What can be learned from.
        """
        rows = list(self.given)
        for answer in answers:
            ids = np.concatenate([self.ids, np.array(answer, dtype=np.int32)])
            rows.append(TokenizedExample(ids, np.arange(len(ids)) >= len(self.ids), self.location))
        return TokenizedGroup(self.num_prompt, tuple(rows))


@dataclass(frozen=True, eq=False, slots=True)
class TokenizedGroup:
    """Several answers to one prompt.

    Attributes:
        num_prompt: Tokens at the start that all rows share: the prompt.
        answers: The prompt with each answer; at least one.
    """

    num_prompt: int
    answers: tuple[TokenizedExample, ...]

    @property
    def location(self) -> SourceLocation | None:
        """Where the prompt came from."""
        return self.answers[0].location

    @property
    def is_desirable(self) -> bool | None:
        """Rewards judge it, not users."""
        return None


TrainingExample = (
    TokenizedExample | TokenizedPair | TokenizedFeedback | TokenizedPrompt | TokenizedGroup
)
"""What a step of training is made of: one text, or one prompt with several answers."""


def num_tokens(example: TrainingExample) -> int:
    """Count the tokens of an example that are computed.

    Args:
        example: One.

    Returns:
        Tokens, those of a shared prompt once.
    """
    own = sum(len(row.ids) - example.num_prompt for row in example.answers)
    return example.num_prompt + own


def chat_of(example: Example) -> tuple[tuple[Message, ...], Tools]:
    """Write any example but plain text as a chat.

    Args:
        example: The class of a text becomes its answer; a preference gives its better answer.

    Returns:
        Messages, those answers marked with `weight` 0 that are no part of what is learnt; tools.

    Raises:
        RenderingError: If it is plain text.
    """
    if isinstance(example, ChatExample):
        return example.messages, example.tools
    if isinstance(example, ClassificationExample):
        return (
            {"role": "user", "content": example.text},
            {"role": "assistant", "content": example.label},
        ), ()
    if isinstance(example, TextExample):
        raise RenderingError("plain text is no chat: it has no question and no answer")
    answer = example.chosen if isinstance(example, PreferenceExample) else example.completion
    return (*untrained(example.prompt), *answer), example.tools


def untrained(messages: Chat) -> tuple[Message, ...]:
    """Mark messages as context.

    Args:
        messages: Any.

    Returns:
        Copies with `weight` 0, whose answers are not trained.
    """
    return tuple({**message, "weight": 0} for message in messages)
