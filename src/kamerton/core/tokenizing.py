"""Questions to an engine about its tokenizer, which are answered without computing anything."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kamerton.core.requests import AnswerRequest

__all__ = ["TokenizerReply", "TokenizerRequest"]


@dataclass(frozen=True, slots=True)
class TokenizerRequest:
    """A question about the tokenizer of a served model.

    Attributes:
        kind: "tokenize" gives the tokens of `asked`, "detokenize" the text of its token ids, "info"
            what is known of the tokenizer.
        asked: Has the id, the model and the chat, text or tokens; nothing is generated.
        add_special_tokens: Whether a plain text gets the tokens that the tokenizer adds.
    """

    kind: Literal["tokenize", "detokenize", "info"]
    asked: AnswerRequest
    add_special_tokens: bool = True

    @property
    def id(self) -> str:
        """Unique among the requests of an engine."""
        return self.asked.id


@dataclass(frozen=True, slots=True)
class TokenizerReply:
    """What the engine says of its tokenizer.

    Attributes:
        id: The request's.
        tokens: Token ids.
        token_texts: The text of each.
        text: Of the token ids that were given.
        max_tokens: Most tokens of prompt and answer; None where the base knows no bound.
        info: Special tokens and chat template.
        error: Why there is no answer; empty where there is one.
    """

    id: str
    tokens: tuple[int, ...] = ()
    token_texts: tuple[str, ...] = ()
    text: str = ""
    max_tokens: int | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
