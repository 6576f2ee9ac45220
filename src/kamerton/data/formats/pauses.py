"""A messenger keeps one endless chat per customer; long pauses divide it into conversations."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from kamerton.data.formats.speakers import Speakers
from kamerton.data.rows import Rejection, Row

__all__ = ["Pauses"]

# Key of the speaker to that of the date: Telegram and WhatsApp, Discord. An answer of a help desk
# may take days.
_DATES = {"from": "date", "author": "timestamp"}


@dataclass(slots=True)
class Pauses:
    """Divides chats of messengers at pauses.

    A conversation ends only after an answer, and the next one begins with the user: who waits a
    night for an answer is still waiting for it.

    Attributes:
        column: Holds the turns.
        hours: Shortest pause, above 0.
        speakers: The roles of speakers.
        num_chats: Chats that were divided.
        num_conversations: What they were divided into.
    """

    column: str
    hours: float
    speakers: Speakers
    num_chats: int = 0
    num_conversations: int = 0

    def divide(self, rows: Iterable[Row | Rejection]) -> Iterator[Row | Rejection]:
        """Divide what is a messenger's chat.

        Args:
            rows: Any.

        Yields:
            The same rows, a divided one as one for each conversation.
        """
        for row in rows:
            turns = row.fields.get(self.column) if isinstance(row, Row) else None
            parts = self._parts(turns) if isinstance(turns, list) else []
            if len(parts) < 2 or not isinstance(row, Row):
                yield row
                continue
            self.num_chats += 1
            self.num_conversations += len(parts)
            for part in parts:
                yield Row(row.location, {**row.fields, self.column: part})

    @property
    def notices(self) -> tuple[str, ...]:
        """What was done, for the user."""
        if not self.num_chats:
            return ()
        return (
            f"{self.num_chats} chats are divided into {self.num_conversations} conversations at "
            f"pauses of {self.hours:g} hours (data.pause_hours)",
        )

    def _parts(self, turns: Sequence[Any]) -> list[list[Any]]:
        parts: list[list[Any]] = [[]]
        last: datetime | None = None
        answered = False
        for turn in turns:
            date = _DATES.get(_speaker_key(turn))
            if date is None or date not in turn or self.speakers.leaves_out(turn):
                parts[-1].append(turn)
                continue
            now, role = _date(turn[date]), self.speakers.who(turn)[2]
            paused = now and last and abs(now - last) >= timedelta(hours=self.hours)
            if paused and answered and role == "user":
                parts.append([])
                answered = False
            answered = answered or role == "assistant"
            last = now or last
            parts[-1].append(turn)
        # A last question without an answer is no conversation.
        if len(parts) > 1 and not answered:
            unanswered = parts.pop()
            parts[-1] += unanswered
        return parts


def _speaker_key(turn: Any) -> str:
    return next((key for key in _DATES if isinstance(turn, Mapping) and key in turn), "")


def _date(value: Any) -> datetime | None:
    try:
        # Time zones would not compare with dates that have none.
        return datetime.fromisoformat(str(value)).replace(tzinfo=None)
    except ValueError:
        return None
