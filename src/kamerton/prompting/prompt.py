"""A prompt: system text and worked examples that stand before every chat."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator

from kamerton.core.files import hash_json
from kamerton.core.protocols import Chat
from kamerton.core.settings import Settings

__all__ = ["Prompt"]


class Prompt(Settings):
    """What is said to the model before the chat itself."""

    system: str | None = None
    """System text for every chat. A chat's own system text is kept and follows it after an empty
    line."""
    demonstrations: tuple[tuple[dict[str, Any], ...], ...] = Field(default=())
    """Worked examples, each a chat of its own from the user's question to the assistant's
    answer."""

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
        shown = [dict(message) for chat in self.demonstrations for message in chat]
        rest = [message for message in messages if message["role"] != "system"]
        return (*system, *shown, *rest)

    @property
    def hash(self) -> str:
        """SHA-256 over system text and demonstrations, in hex."""
        return hash_json(self.model_dump(mode="json"))


def _text(content: Any) -> str:
    """Read text or text parts."""
    if isinstance(content, str):
        return content
    return "".join(part if isinstance(part, str) else str(part.get("text", "")) for part in content)
