"""What a data set says and no field takes: columns of text, and keys of turns."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kamerton.core.language import translated
from kamerton.data.formats.cells import stored_turns
from kamerton.data.formats.detection import Schema
from kamerton.data.formats.messages import unused_keys

__all__ = ["Unused", "UnusedTexts"]

_DEPTH = 3
_PROSE_WORDS = 4
_TURNS = ("messages", "prompt", "completion", "chosen", "rejected")


@dataclass(frozen=True, slots=True)
class Unused:
    """Texts that nothing learns from; checks and rewards may use columns.

    Attributes:
        columns: Dotted column to the number of rows that have text in it, most frequent first.
        prose: Those columns whose texts have at least four words on average.
        keys: Key of a turn to the number of turns that have a value under it, likewise.
    """

    columns: Mapping[str, int] = field(default_factory=dict)
    prose: tuple[str, ...] = ()
    keys: Mapping[str, int] = field(default_factory=dict)

    @property
    def named(self) -> str:
        """All of it in words; empty where there is nothing."""
        parts = []
        if self.columns:
            parts.append(translated("the columns {names}", names=", ".join(self.columns)))
        if self.keys:
            parts.append(translated("the keys of turns {names}", names=", ".join(self.keys)))
        return translated(" and ").join(parts)


class UnusedTexts:
    """Counts them, row by row.

    Args:
        schema: Format of the rows.
    """

    def __init__(self, schema: Schema) -> None:
        used = {*schema.used, schema.group, "split"} - {""}
        self._used = {_without_numbers(path) for path in used}
        self._turns = [name for name in _TURNS if name in schema.sources]
        self._schema = schema
        self._columns: Counter[str] = Counter()
        self._words: Counter[str] = Counter()
        self._keys: Counter[str] = Counter()

    def add(self, fields: Mapping[str, Any]) -> None:
        """Count a row.

        Args:
            fields: As read; the row can be used.
        """
        speakers, said = self._schema.speakers, set[str]()
        for name in self._turns:
            turns = self._schema.value(fields, name)
            turns = (stored_turns(turns, name) or turns) if isinstance(turns, str) else turns
            for turn in turns if isinstance(turns, list) else [turns]:
                if isinstance(turn, Mapping):
                    self._keys.update(unused_keys(turn, speakers))
                    said.add(str(speakers.said(turn)[1]).strip())
        # A help desk gives a ticket's first message a column of its own as well.
        texts = dict(self._texts(fields, "", _DEPTH))
        for path, text in texts.items():
            if text.strip() not in said:
                self._columns[path] += 1
                self._words[path] += len(text.split())
        if self._is_overruled(fields):
            self._columns[self._schema.sources["system"]] += 1

    @property
    def found(self) -> Unused:
        """What was counted so far."""
        prose = (
            path
            for path, number in self._columns.items()
            if self._words[path] >= _PROSE_WORDS * number
        )
        return Unused(
            dict(self._columns.most_common()), tuple(sorted(prose)), dict(self._keys.most_common())
        )

    def _is_overruled(self, fields: Mapping[str, Any]) -> bool:
        """Tell system text that gives way to the system turn with which the messages begin."""
        if "system" not in self._schema.sources:
            return False
        text = self._schema.value(fields, "system")
        turns = self._schema.value(fields, "messages") or self._schema.value(fields, "prompt")
        first = turns[0] if isinstance(turns, list) and turns else None
        if not isinstance(text, str) or not isinstance(first, Mapping):
            return False
        return "system" in first.values() and text.strip() not in map(str, first.values())

    def _texts(self, value: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
        if path in self._used:
            return
        if isinstance(value, str):
            if value.strip():
                yield path, value
        elif isinstance(value, Mapping) and depth:
            for key, inner in value.items():
                yield from self._texts(inner, f"{path}.{key}" if path else str(key), depth - 1)
        elif isinstance(value, list) and depth:
            for inner in value:
                yield from self._texts(inner, path, depth - 1)


def _without_numbers(path: str) -> str:
    return ".".join(part for part in path.split(".") if not part.isdecimal())
