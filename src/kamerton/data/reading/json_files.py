"""JSON Lines and JSON documents as rows.

Lines and the elements of a top-level array are read one by one. A document that is one object
(splits under keys, or a list per column) is held whole: use JSON Lines for large data.
"""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any

from kamerton.core.errors import DataError
from kamerton.core.language import translated
from kamerton.data.examples import SourceLocation
from kamerton.data.formats.speakers import is_service
from kamerton.data.reading.text_files import TextFile, lines_of
from kamerton.data.rows import ROW_LIMIT, Rejection, Row
from kamerton.data.settings import COLUMN_NAMES
from kamerton.data.values import JSON_DECODER, kind_of

__all__ = ["holds_lines", "read_document", "read_lines", "row_of"]

_CHUNK = 1 << 16
_SNIFF_LIMIT = 1 << 20
_SPACE = " \t\r\n"
_TOO_LONG = f"longer than {ROW_LIMIT:,} characters"
_TURN_KEYS = ("role", "from", "speaker")
_PARTS = ("question", "answer", "query", "response", "data", "meta", "metadata")


def holds_lines(file: TextFile, suffix: str) -> bool:
    """Tell JSON Lines from a JSON document by content; names are often wrong.

    Args:
        file: The text at its start; some of it is consumed.
        suffix: The file's extension, such as ".json".

    Returns:
        Whether every line is a value of its own.
    """
    full = (line for _, line in lines_of(file) if line is None or line.strip())
    first, second = next(full, ""), next(full, "")
    if first is None:
        return suffix != ".json"
    if not first or first.strip() in ("[", "{"):
        return False
    if len(first) > _SNIFF_LIMIT:
        return second != "" and first.lstrip().startswith("{")
    try:
        _decode(first)
    except (ValueError, RecursionError):
        return suffix != ".json" and not first.lstrip().startswith("[")
    return second != "" or (suffix != ".json" and first.lstrip().startswith("{"))


def read_lines(file: TextFile, name: str) -> Iterator[Row | Rejection]:
    """Read JSON Lines.

    Args:
        file: The open text.
        name: The file's name in locations.

    Yields:
        Rows, and a rejection for every line that is no row.
    """
    for number, line in lines_of(file):
        location = SourceLocation(name, number)
        if line is None:
            yield Rejection(location, "", f"line is {_TOO_LONG}")
        elif line.strip():
            try:
                value = _decode(line)
            except (ValueError, RecursionError) as error:
                yield Rejection(location, "", _reason(error))
            else:
                yield row_of(value, location)


def read_document(file: TextFile, name: str) -> Iterator[Row | Rejection]:
    """Read one JSON document, or several objects one after the other.

    Args:
        file: The open text.
        name: The file's name in locations.

    Yields:
        Rows, and a rejection for every element that is no row.

    Raises:
        DataError: If the text is not JSON; nothing after the fault could be trusted.
    """
    cursor = _Cursor(file, name)
    start = cursor.peek()
    if start == "[":
        yield from _elements(cursor, name)
    elif start:
        line, value = cursor.value(limit=None)
        if not cursor.peek():
            yield from _container(value, name, line)
            return
        for place_line, each in chain([(line, value)], cursor.rest()):
            yield row_of(each, SourceLocation(name, place_line))
    file.report(finished=True)


def row_of(value: Any, location: SourceLocation) -> Row | Rejection:
    """Make a row of one JSON value.

    Args:
        value: An object; or a text; or a pair [text, label]; or a list of messages.
        location: Location of its beginning.

    Returns:
        The row, or why it is none.
    """
    if isinstance(value, dict):
        return Row(location, value)
    if isinstance(value, str):
        return Row(location, {"text": value})
    if _is_pair(value):
        return Row(location, {"text": value[0], "label": value[1]})
    if _is_conversation(value):
        return Row(location, {"messages": value})
    return Rejection(location, "", f"a row must be an object, got {kind_of(value)}")


def _decode(line: str) -> Any:
    # `decode` leaves out the byte-order mark that some editors put on every saved piece.
    return JSON_DECODER.decode(line.removeprefix("\ufeff"))


def _elements(cursor: "_Cursor", name: str) -> Iterator[Row | Rejection]:
    cursor.take("[")
    if cursor.peek() == "]":
        cursor.take("]")
    else:
        while True:
            line, value = cursor.value(limit=ROW_LIMIT)
            yield row_of(value, SourceLocation(name, line))
            if cursor.take(",]") == "]":
                break
            if cursor.peek() == "]":
                raise cursor.error("a comma stands before the closing bracket")
    if cursor.peek():
        raise cursor.error("there is more text after the closing bracket")


def _container(value: Any, name: str, line: int) -> Iterator[Row | Rejection]:
    if not isinstance(value, dict):
        yield row_of(value, SourceLocation(name, line))
        return
    lists = {key: rows for key, rows in value.items() if _holds_rows(rows)}
    columns = _columns(value)
    keyed = {} if columns else _rows_by_key(value)
    if any(map(_is_conversation, value.values())):
        yield Row(SourceLocation(name, line), value)
    elif lists:
        number = 0
        for key, rows in lists.items():
            for element in rows:
                number += 1
                row = row_of(element, SourceLocation(name, number))
                if isinstance(row, Row) and len(lists) > 1:
                    row = Row(row.location, {"split": key, **row.fields})
                yield row
    elif columns:
        for number, cells in enumerate(zip(*columns.values(), strict=True), start=1):
            yield Row(SourceLocation(name, number), dict(zip(columns, cells, strict=True)))
    elif keyed:
        for number, (key, fields) in enumerate(keyed.items(), start=1):
            yield Row(SourceLocation(name, number), {"id": key, **fields})
    elif inner := _inner(value):
        yield from _container(inner, name, line)
    else:
        yield Row(SourceLocation(name, line), value)


def _holds_rows(value: Any) -> bool:
    """Tell a list of rows from the value of one field: a list of turns is one conversation."""
    if not isinstance(value, list) or not value or _is_conversation(value):
        return False
    return isinstance(value[0], dict) or _is_pair(value[0])


def _columns(value: dict[str, Any]) -> dict[str, list[Any]]:
    """Give the columns of {"text": [...], "label": [...]} or pandas' {"text": {"0": ...}}."""
    columns = {}
    for key, cells in value.items():
        if isinstance(cells, dict) and all(index.isdecimal() for index in cells):
            cells = list(cells.values())
        if not isinstance(cells, list):
            return {}
        columns[key] = cells
    return columns if len({len(cells) for cells in columns.values()}) == 1 else {}


def _rows_by_key(value: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Give the rows of {"T-1": {"question": ...}, "T-2": {"question": ...}}.

    Parts of one row are told from rows by their names, or because they do not look alike.
    """
    if len(value) < 2 or value.keys() & {*COLUMN_NAMES, *_PARTS}:
        return {}
    if not all(isinstance(row, dict) and len(row) > 1 for row in value.values()):
        return {}
    # A row may lack some keys; those that most rows have make them alike.
    numbers = Counter(key for row in value.values() for key in row)
    common = {key for key, number in numbers.items() if number > len(value) / 2}
    alike = all(len(common & row.keys()) > len(row) / 2 for row in value.values())
    return value if common and alike else {}


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value)


def _is_conversation(value: Any) -> bool:
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        return False
    # Messengers put what nobody said between the turns, such as a call.
    turns = [turn for turn in value if not is_service(turn)]
    named = all(any(key in turn for key in _TURN_KEYS) for turn in turns)
    # Discord's; a list of texts with authors has plain names.
    return bool(turns) and (
        named or all(isinstance(t.get("author"), dict) and "timestamp" in t for t in turns)
    )


def _inner(value: dict[str, Any]) -> dict[str, Any] | None:
    """Find the one nested object that holds rows, as {"chats": {"list": [...]}}."""
    inner = [one for one in value.values() if isinstance(one, dict)]
    holding = [
        one
        for one in inner
        if any(_holds_rows(rows) or _is_conversation(rows) for rows in one.values())
    ]
    return holding[0] if len(inner) == len(holding) == 1 else None


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        reason = error.msg.lower().removesuffix(" at")
        # A text that is cut short ends before its line break, not after it.
        at = min(error.pos, len(error.doc.rstrip()))
        column = at - error.doc.rfind("\n", 0, at)
        why = _why(error)
        return f"not valid JSON: {reason} at character {column}{why and f' ({why})'}"
    return f"not valid JSON: {error}"


def _why(error: json.JSONDecodeError) -> str:
    """Name the usual causes of a fault; empty for others."""
    rest = error.doc[error.pos :].lstrip()
    before = error.doc[: error.pos].rstrip()
    if rest.startswith("'"):
        return "texts and keys stand in double quotes"
    if error.msg.startswith("Illegal trailing comma") or (
        rest[:1] in ("]", "}") and before.endswith(",")
    ):
        return "a comma stands before the closing bracket"
    if error.msg.startswith("Invalid control character"):
        return "a line break or a tab inside a text is written \\n or \\t"
    if error.msg == "Extra data":
        return "a comma stands after the row" if rest.startswith(",") else ""
    names = {"None": "null", "True": "true", "False": "false"}
    return next(
        (f"JSON writes {names[one]}, not {one}" for one in names if rest.startswith(one)), ""
    )


class _Cursor:
    """Decodes JSON values one after the other from a text that is read in pieces."""

    def __init__(self, file: TextFile, name: str) -> None:
        self._file = file
        self._name = name
        self._buffer = ""
        self._at = 0
        self._line = 1
        self._ended = False
        if self.peek() == "\ufeff":
            self._at += 1

    def error(self, reason: str) -> DataError:
        return DataError(
            translated(
                "{name}:{line}: not valid JSON: {reason}",
                name=self._name,
                line=self._line,
                reason=reason,
            ),
            hint=translated(
                "mend the file, or save it as JSON Lines: there one bad line costs one row"
            ),
        )

    def peek(self) -> str:
        """Skip white space; give the next character, or nothing at the end."""
        while True:
            while self._at < len(self._buffer) and self._buffer[self._at] in _SPACE:
                self._line += self._buffer[self._at] == "\n"
                self._at += 1
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more(_CHUNK):
                return ""

    def take(self, allowed: str) -> str:
        character = self.peek()
        if not character or character not in allowed:
            found = f"'{character}'" if character else "the end of the file"
            raise self.error(f"{' or '.join(map(repr, allowed))} must come here, found {found}")
        self._at += 1
        return character

    def value(self, *, limit: int | None) -> tuple[int, Any]:
        """Decode the next value, at most `limit` characters long; give its line as well."""
        self.peek()
        line = self._line
        while True:
            try:
                value, end = JSON_DECODER.raw_decode(self._buffer, self._at)
            except RecursionError:
                raise self.error("nested too deeply") from None
            except json.JSONDecodeError as error:
                if self._ended or self._is_certain(error):
                    self._line += self._buffer.count("\n", self._at, error.pos)
                    raise self.error(self._fault(error)) from None
            except ValueError as error:
                raise self.error(str(error)) from None
            else:
                # A number at the end of the buffer may go on.
                if end < len(self._buffer) or self._ended or not isinstance(value, int | float):
                    self._line += self._buffer.count("\n", self._at, end)
                    self._at = end
                    return line, value
            if limit is not None and len(self._buffer) - self._at > limit:
                raise self.error(f"an element is {_TOO_LONG}")
            self._more(max(_CHUNK, len(self._buffer) - self._at))

    def rest(self) -> Iterator[tuple[int, Any]]:
        while self.peek():
            yield self.value(limit=ROW_LIMIT)

    def _fault(self, error: json.JSONDecodeError) -> str:
        cut = "\\u" in self._buffer[-5:] or error.msg.startswith("Unterminated string")
        if cut or error.pos >= len(self._buffer.rstrip()):
            return "the text ends in the middle of a value"
        reason, why = error.msg.lower().removesuffix(" at"), _why(error)
        return f"{reason} ({why})" if why else reason

    def _is_certain(self, error: json.JSONDecodeError) -> bool:
        # Near the end of the buffer, or in an open string, more text may cure the fault.
        near = len(self._buffer) - error.pos < 16
        return not near and not error.msg.startswith("Unterminated string")

    def _more(self, size: int) -> bool:
        piece = self._file.text.read(size)
        self._file.report()
        self._buffer = self._buffer[self._at :] + piece
        self._at = 0
        self._ended = not piece
        return bool(piece)
