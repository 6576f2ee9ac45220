"""Turns that a table cell holds as text: as JSON, or as Python writes a list."""

import re
from collections.abc import Mapping
from typing import Any

from kamerton.data.formats.messages import Unusable, decoded
from kamerton.data.formats.speakers import ROLE_KEYS, is_role

__all__ = ["stored_turns"]

# A list or an object that begins with a quoted key; keys may stand in any order.
_OBJECTS = re.compile(r"""\s*(\[\s*['"]?\s*)?\{\s*\\?['"]""")
_ROLE = re.compile(rf"""\\?['"](?:{"|".join(ROLE_KEYS)})\\?['"]\s*:""")
_STYLES = (("role", "content"), ("from", "value"))
_SAID_KEYS = ("content", "value", "text", "utterance", "phrase", "tool_calls", "function_call")


def stored_turns(text: str, field: str) -> list[Any] | None:
    """Decode turns that are stored as text.

    Args:
        text: A cell.
        field: Its name in errors.

    Returns:
        The turns; None for other texts, such as an answer that happens to be JSON.

    Raises:
        Unusable: If the text begins and ends as turns do and cannot be decoded.
    """
    if not _OBJECTS.match(text) or text.rstrip()[-1] not in "]}" or not _ROLE.search(text):
        return None
    try:
        value = decoded(text, field)
        turns = value if isinstance(value, list) else [value]
        turns = [decoded(turn, field) if isinstance(turn, str) else turn for turn in turns]
    except Unusable:
        if not any(_key(key).search(text) for key in _SAID_KEYS):
            return None
        raise Unusable(
            field, "seems to hold turns, but is neither JSON nor a Python list"
        ) from None
    return turns if turns and all(map(_is_turn, turns)) else None


def _is_turn(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    if any(set(style) <= value.keys() for style in _STYLES):
        return True
    # Others may be any data, such as mails: only a known speaker makes turns of them.
    speaker = next((value[key] for key in ROLE_KEYS if value.get(key) is not None), None)
    return is_role(speaker) and any(key in value for key in _SAID_KEYS)


def _key(name: str) -> re.Pattern[str]:
    return re.compile(rf"""\\?['"]{name}\\?['"]\s*:""")
