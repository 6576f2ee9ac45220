"""Replace personal data by placeholders: the same value gets the same one in a whole data set."""

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from kamerton.data.examples import Example, SourceLocation
from kamerton.data.privacy.personal import find_personal
from kamerton.data.values import JSON_DECODER

__all__ = ["Redactor"]

# Shorter numbers are no phone number; these two begin JSON with something inside.
_LEAST_NUMBER = 10**9
_JSON = ("{", "[")
_Kind = TypeVar("_Kind", bound=Example)


class Redactor:
    """Masks personal data as [EMAIL_1], [PHONE_2] and so on, in order of appearance."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], int] = {}
        self._counts: dict[str, int] = {}

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of different values masked so far, by kind."""
        return dict(self._counts)

    def redact_text(self, text: str) -> str:
        """Mask one text.

        Args:
            text: Any.

        Returns:
            The text with placeholders.
        """
        pieces, at = [], 0
        for found in find_personal(text):
            key = (found.kind, found.value)
            if key not in self._numbers:
                self._counts[found.kind] = self._counts.get(found.kind, 0) + 1
                self._numbers[key] = self._counts[found.kind]
            pieces += [text[at : found.start], f"[{found.kind.upper()}_{self._numbers[key]}]"]
            at = found.stop
        return "".join([*pieces, text[at:]]) if pieces else text

    def redact(self, example: _Kind) -> _Kind:
        """Mask every text of an example: turns, tool calls, labels, groups and other columns.

        Args:
            example: Any kind.

        Returns:
            A masked copy; its place stays.
        """
        changed: dict[str, Any] = {}
        for each in fields(example):
            value = getattr(example, each.name)
            if not isinstance(value, SourceLocation):
                changed[each.name] = self.redact_value(value)
        return replace(example, **changed)

    def redact_value(self, value: Any) -> Any:
        """Mask every text and number inside a value.

        Args:
            value: A text, number, list, tuple or mapping, nested or not; also JSON stored as text,
                whose escapes would hide what they stand beside.

        Returns:
            A masked copy; what holds nothing personal is as it was.
        """
        if isinstance(value, str):
            return self._redact_json(value) if value[:1] in _JSON else self.redact_text(value)
        if isinstance(value, Mapping):
            return {
                self.redact_value(key): self.redact_value(inner) for key, inner in value.items()
            }
        if isinstance(value, list | tuple):
            return type(value)(map(self.redact_value, value))
        if isinstance(value, int) and abs(value) >= _LEAST_NUMBER:
            masked = self.redact_text(str(value))
            return value if masked == str(value) else masked
        return value

    def _redact_json(self, text: str) -> str:
        try:
            decoded = JSON_DECODER.decode(text)
        except (ValueError, RecursionError):
            return self.redact_text(text)
        masked = self.redact_value(decoded)
        return text if masked == decoded else json.dumps(masked, ensure_ascii=False)
