"""A prompt: system text and worked examples that stand before every chat."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from kamerton.core.files import hash_json
from kamerton.core.protocols import Chat
from kamerton.core.settings import Settings
from kamerton.prompting.bm25 import Bm25

__all__ = ["Prompt"]


class Prompt(Settings):
    """What is said to the model before the chat itself."""

    system: str | None = None
    """System text for every chat. A chat's own system text is kept and follows it after an empty
    line."""
    demonstrations: tuple[tuple[dict[str, Any], ...], ...] = Field(default=())
    """Worked examples, each a chat of its own from the user's question to the assistant's
    answer."""
    nearest: int = Field(default=0, ge=0)
    """Show only so many worked examples: those whose questions are most like the chat's last
    question by BM25, the likest last. 0 shows all."""

    @field_validator("system")
    @classmethod
    def _not_blank(cls, system: str | None) -> str | None:
        return system if system and system.strip() else None

    @field_validator("demonstrations")
    @classmethod
    def _worked_examples(
        cls, demonstrations: tuple[tuple[dict[str, Any], ...], ...]
    ) -> tuple[tuple[dict[str, Any], ...], ...]:
        for number, chat in enumerate(demonstrations, start=1):
            roles = [message.get("role") for message in chat]
            if not roles or roles[0] != "user" or roles[-1] != "assistant" or "system" in roles:
                raise ValueError(
                    f"demonstration {number} must go from a user's turn to an assistant's turn "
                    f"without system text, found roles {roles}"
                )
        return demonstrations

    def apply(self, messages: Chat) -> tuple[Mapping[str, Any], ...]:
        """Put the prompt before a chat.

        Args:
            messages: The chat; its system text may stand anywhere.

        Returns:
            One system message with the prompt's text and then the chat's own (said once where
            they are the same), the demonstrations, the chat's other messages. The chat as it is
            when the prompt is empty.
        """
        if self.system is None and not self.demonstrations:
            return tuple(messages)
        own = [message["content"] for message in messages if message["role"] == "system"]
        parts = list(dict.fromkeys([*([self.system] if self.system else []), *map(_text, own)]))
        system = [{"role": "system", "content": "\n\n".join(parts)}] if parts else []
        shown = [dict(message) for chat in self.shown(messages) for message in chat]
        rest = [message for message in messages if message["role"] != "system"]
        return (*system, *shown, *rest)

    def shown(self, messages: Chat) -> tuple[tuple[dict[str, Any], ...], ...]:
        """Choose the worked examples that stand before a chat.

        Args:
            messages: The chat.

        Returns:
            All of them, or the nearest; one that asks the very question is never shown.
        """
        if not self.nearest:
            return self.demonstrations
        asked = [_text(message["content"]) for message in messages if message["role"] == "user"]
        question = asked[-1] if asked else ""
        questions = tuple(_text(chat[0]["content"]) for chat in self.demonstrations)
        best = [
            number
            # What asks the same is passed over, so one more may be needed for each of them.
            for number in _ranked(questions).nearest(question, len(questions))
            if questions[number] != question
        ]
        return tuple(self.demonstrations[number] for number in reversed(best[: self.nearest]))

    @property
    def num_shown(self) -> int:
        """How many worked examples stand before a chat."""
        return min(self.nearest or len(self.demonstrations), len(self.demonstrations))

    @property
    def hash(self) -> str:
        """SHA-256 over all that is said before a chat, in hex."""
        return hash_json(self.model_dump(mode="json"))

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Prompts from before `nearest` keep their hash, and their variants theirs.
        plain: dict[str, Any] = dump(self)
        return plain if self.nearest else {k: v for k, v in plain.items() if k != "nearest"}


@lru_cache(maxsize=8)
def _ranked(questions: tuple[str, ...]) -> Bm25:
    return Bm25(questions)


def _text(content: Any) -> str:
    """Read text or text parts."""
    if isinstance(content, str):
        return content
    return "".join(part if isinstance(part, str) else str(part.get("text", "")) for part in content)
