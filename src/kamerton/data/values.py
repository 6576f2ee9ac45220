"""Values of columns: reach into nested ones, make them plain, find text that is broken."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

__all__ = [
    "JSON_DECODER",
    "broken_text",
    "is_blank",
    "kind_of",
    "number_text",
    "paths_of",
    "plain_value",
    "value_at",
]

# White space and what has no shape: joiners, marks of direction, byte-order marks, soft hyphens.
_BLANK = re.compile(
    r"[\s\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202f"
    r"\u205f-\u206f\u2800\u3164\ufe0e\ufe0f\ufeff\uffa0]*"
)
_DEPTH_LIMIT = 100
_NAMED_DEPTH = 3
# Beyond it not every whole number has a float of its own, and digits would be made up.
_WHOLE_LIMIT = 2.0**53


def _constant(_name: str) -> None:
    # pandas writes NaN for an empty cell; JSON itself has no such number.
    return None


def _number(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


JSON_DECODER = json.JSONDecoder(parse_constant=_constant, parse_float=_number)
"""Decodes JSON with numbers that are none (NaN, 1e999) as null."""


def value_at(fields: Mapping[str, Any], path: str) -> Any:
    """Reach a value.

    Args:
        fields: A row.
        path: A key, or a dotted path such as "meta.intent" or "turns.0.text"; a name takes it from
            each item of a list, as in "answers.score".

    Returns:
        The value, or None where there is none; a list of such where the path names one.
    """
    if path in fields:
        return fields[path]
    value: Any = fields
    parts = path.split(".")
    for i, part in enumerate(parts):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal():
            value = value[int(part)] if int(part) < len(value) else None
        elif isinstance(value, list):
            rest = ".".join(parts[i:])
            found = [value_at(v, rest) if isinstance(v, Mapping) else None for v in value]
            return found if any(one is not None for one in found) else None
        else:
            return None
    return value


def paths_of(fields: Mapping[str, Any], depth: int = _NAMED_DEPTH) -> list[str]:
    """Name what a row holds, for a message.

    Args:
        fields: A row.
        depth: How many levels of nested values are entered.

    Returns:
        Its keys; in place of a key with nested values, dotted paths to them; in place of a list,
        the paths to its first item.
    """
    paths: list[str] = []
    for key, value in fields.items():
        inner = value[0] if isinstance(value, list) and value else value
        middle = f"{key}.0" if isinstance(value, list) else str(key)
        if depth and isinstance(inner, Mapping) and inner:
            paths += [f"{middle}.{path}" for path in paths_of(inner, depth - 1)]
        else:
            paths.append(str(key))
    return paths


def plain_value(value: Any) -> Any:
    """Turn a value from Parquet or a Hub data set into what JSON holds.

    Args:
        value: Anything.

    Returns:
        Numbers, texts, lists and mappings; NaN becomes None, dates and decimals text, bytes a
        note of their size.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        # Keys that only other rows have are null here, as in JSON Lines written from a table.
        return {str(k): plain_value(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(v) for v in value]
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} bytes>"
    return str(value)


def number_text(value: bool | float) -> str:
    """Write a number so that no two come out the same.

    Args:
        value: A number, true or false; tables make floats of whole numbers beside empty cells.

    Returns:
        Such as "12345601" for 12345601.0, "0.1", "true".
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE_LIMIT:
        value = int(value)
    return repr(value)


def kind_of(value: Any) -> str:
    """Name the kind of a JSON value in a message.

    Args:
        value: The decoded value.

    Returns:
        Such as "a list".
    """
    if value is None:
        return "null"
    names = {str: "text", list: "a list", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "an object")


def is_blank(text: str) -> bool:
    """Tell a text in which there is nothing to see.

    Args:
        text: Any.

    Returns:
        Whether it holds no more than white space and characters without a shape.
    """
    return _BLANK.fullmatch(text) is not None


def broken_text(fields: Mapping[str, Any]) -> tuple[str, str] | None:
    """Find text that no tokenizer or database takes.

    Args:
        fields: A row.

    Returns:
        Dotted field and reason of the first fault, or None.
    """
    # A stack of our own, because a hostile row may be nested deeper than Python calls.
    pending: list[tuple[str, Any, int]] = [("", fields, 0)]
    while pending:
        path, value, depth = pending.pop()
        if isinstance(value, str):
            reason = _fault(value)
            if reason:
                return path, reason
        elif isinstance(value, Mapping | list):
            if depth >= _DEPTH_LIMIT:
                return path.split(".")[0], f"nested deeper than {_DEPTH_LIMIT} levels"
            items = value.items() if isinstance(value, Mapping) else enumerate(value)
            for key, inner in items:
                where = f"{path}.{key}" if path else str(key)
                if isinstance(key, str) and _fault(key):
                    return path, f"a name in it {_fault(key)}"
                pending.append((where, inner, depth + 1))
    return None


def _fault(text: str) -> str:
    if text.isascii():
        return "holds a NUL character" if "\0" in text else ""
    if "\0" in text:
        return "holds a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        if 0xDC80 <= code <= 0xDCFF:
            return f"holds the byte 0x{code - 0xDC00:02X}, which the file's encoding does not have"
        return f"holds half a character (a lone surrogate, U+{code:04X})"
    return ""
