"""Dialogues written as text, a speaker and a colon before each turn.

Клиент: Чайник есть?
Оператор: Да, два.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from kamerton.data.formats.speakers import Speakers

__all__ = ["dialogue_column", "dialogue_of"]

_TURN = re.compile(r"[ \t]*(?P<who>[^:\n]{1,60}):(?:[ \t]+(?P<said>.*)|)$")
_LEAST_SHARE = 0.9


def dialogue_of(text: str, speakers: Speakers) -> list[Mapping[str, str]] | None:
    """Split a text at the lines that begin with a speaker.

    Args:
        text: Any.
        speakers: The roles of speakers; lines that begin with other names belong to the turn
            before.

    Returns:
        Turns; None where the text does not begin with a speaker, or the user and the assistant do
        not both speak.
    """
    turns: list[dict[str, str]] = []
    roles = set()
    for line in text.strip().splitlines():
        found = _TURN.match(line)
        role = None if found is None else speakers.who({"role": found["who"]})[2]
        if found is not None and role is not None:
            turns.append({"role": found["who"].strip(), "content": found["said"] or ""})
            roles.add(role)
        elif turns:
            turns[-1]["content"] += "\n" + line
        else:
            return None
    for turn in turns:
        turn["content"] = turn["content"].strip()
    return list(turns) if {"user", "assistant"} <= roles else None


def dialogue_column(sample: Sequence[Mapping[str, Any]], speakers: Speakers) -> str:
    """Find a column of dialogues written as text.

    Args:
        sample: The first rows of a data set.
        speakers: The roles of speakers.

    Returns:
        The column in nearly all of whose rows stands one; empty where there is none or several.
    """
    columns = dict.fromkeys(column for fields in sample for column in fields)
    found = []
    for column in columns:
        texts = [fields[column] for fields in sample if isinstance(fields.get(column), str)]
        num = sum(dialogue_of(text, speakers) is not None for text in texts)
        if num and num >= _LEAST_SHARE * len(sample):
            found.append(column)
    return found[0] if len(found) == 1 else ""
