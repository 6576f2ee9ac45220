"""Replace personal data by placeholders: the same value gets the same one in a whole data set."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from kamerton.data.examples import Example, Place
from kamerton.data.personal import find_personal

__all__ = ["Redactor"]

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
            if not isinstance(value, Place):
                changed[each.name] = self._masked(value)
        return replace(example, **changed)

    def _masked(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.redact_text(value)
        if isinstance(value, Mapping):
            return {self._masked(key): self._masked(inner) for key, inner in value.items()}
        if isinstance(value, tuple):
            return tuple(self._masked(inner) for inner in value)
        if isinstance(value, list):
            return [self._masked(inner) for inner in value]
        return value
