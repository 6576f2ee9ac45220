"""Chats that a messenger wrote out as text: a date, a name and a message on each line (WhatsApp).

    [12/11/24, 10:00:32] Vera: Is the kettle in stock?
    12.11.2024, 10:00 - Вера: Чайник есть?

A message may go on over several lines. What has a date and no name is the messenger's own report.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from kamerton.data.examples import SourceLocation
from kamerton.data.rows import ROW_LIMIT, Rejection, Row

__all__ = ["is_chat_log", "read_chat_log"]

# Invisible marks of the writing direction stand before names and notes.
_MARKS = re.compile("[\u200e\u200f\u202a-\u202e]")
_DATED = re.compile(
    r"\[?(?P<date>\d{1,4}[./-]\d{1,2}[./-]\d{2,4},?\s\d{1,2}:\d\d(:\d\d)?(\s?[ap]\.?\s?m\.?)?)"
    r"(\]|\s-)\s(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_SPOKEN = re.compile(r"(?P<who>[^:\n]{1,80}):\s(?P<text>.*)", re.DOTALL)
_NO_TEXT = re.compile(
    r"<(media omitted|без медиафайлов|attached: .*|прикреплено: .*)>"
    r"|(image|video|audio|sticker|gif|document) omitted"
    r"|(messages and calls are end-to-end encrypted|сообщения.* защищены сквозным шифрованием).*"
    r"|(this message was deleted|you deleted this message|данное сообщение удалено"
    r"|вы удалили данное сообщение)\.?|null",
    re.IGNORECASE,
)
# WhatsApp's own notes at the end of a message begin with a mark of the writing direction.
_NOTE = re.compile(r"\s*\u200e<[^<>\n]+>\s*$|\s*<this message was edited>\s*$", re.IGNORECASE)
_LEAST_SPOKEN = 3


def is_chat_log(lines: Sequence[str]) -> bool:
    """Tell a written-out chat from other text.

    Args:
        lines: The first lines of a text.

    Returns:
        Whether the first full line has a date, and several have a date and a name.
    """
    full = [line for line in lines if line.strip("\ufeff \t\r\n")]
    dated = [_dated(line) for line in full]
    spoken = [found for found in dated if found is not None and _SPOKEN.match(found["rest"])]
    return bool(full) and dated[0] is not None and len(spoken) >= _LEAST_SPOKEN


def read_chat_log(lines: Iterable[tuple[int, str | None]], name: str) -> Iterator[Row | Rejection]:
    """Read a written-out chat as one conversation.

    Args:
        lines: Line numbers and lines; None for one that is too long.
        name: The file's name in locations.

    Yields:
        Its row: `messages` with "from", "date" and "text"; and a rejection for a line that is too
        long.
    """
    turns: list[dict[str, str]] = []
    first = 0
    open_turn = False
    for number, line in lines:
        if line is None:
            yield Rejection(
                SourceLocation(name, number), "", f"line is longer than {ROW_LIMIT:,} characters"
            )
            continue
        found = _dated(line)
        if found is None:
            if open_turn:
                turns[-1]["text"] += line
            continue
        spoken = _SPOKEN.match(found["rest"])
        open_turn = spoken is not None
        if spoken is not None:
            first = first or number
            who = spoken["who"].strip().removeprefix("~").strip()
            turns.append({"from": who, "date": found["date"], "text": spoken["text"]})
    dates = _iso_dates([turn["date"] for turn in turns])
    for turn, date in zip(turns, dates, strict=True):
        turn["date"] = date
        text = _MARKS.sub("", _NOTE.sub("", turn["text"])).strip()
        turn["text"] = "" if _NO_TEXT.fullmatch(text) else text
    if turns:
        yield Row(SourceLocation(name, first), {"messages": turns})


def _dated(line: str) -> re.Match[str] | None:
    return _DATED.match(_MARKS.sub("", _NOTE.sub("", line)).lstrip("\ufeff"))


def _iso_dates(dates: Sequence[str]) -> Sequence[str]:
    """Bring dates into one form; which number is the day, the order of the messages tells."""
    for order in ("%d %m %Y", "%m %d %Y", "%Y %m %d"):
        found = [_parsed(date, order) for date in dates]
        whole = [date for date in found if date is not None]
        if len(whole) == len(found) and whole == sorted(whole):
            return [date.isoformat() for date in whole]
    return dates


def _parsed(date: str, order: str) -> datetime | None:
    numbers = re.findall(r"\d+", date)
    letter = re.search(r"[ap](?=\.?\s?m)", date, re.IGNORECASE)
    hour, minute, second = (int(number) for number in (*numbers[3:], "0")[:3])
    if letter is not None:
        hour = hour % 12 + (12 if letter[0] in "pP" else 0)
    parts = dict(zip(order.split(), map(int, numbers[:3]), strict=True))
    year = parts["%Y"] + (2000 if parts["%Y"] < 100 else 0)
    try:
        return datetime(year, parts["%m"], parts["%d"], hour, minute, second)
    except ValueError:
        return None
