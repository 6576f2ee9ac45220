"""The order of messages by their dates: some exports have the newest first."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kamerton.core.wording import counted
from kamerton.data.rows import Rejection, Row

__all__ = ["OldestFirst", "sortable_dates"]

_DATES = ("date", "timestamp", "ts", "created_at", "createdAt", "created_date", "time")
_SORTABLE = re.compile(r"\d{4}-\d\d-\d\d|\d+(\.\d+)?$")


def sortable_dates(turns: Sequence[Mapping[str, Any]]) -> list[float] | list[str] | None:
    """Give the dates of messages, where all have one of the same kind.

    Args:
        turns: The turns that were read.

    Returns:
        Numbers, or texts that sort as the dates do (ISO 8601); None where there are none.
    """
    for key in _DATES:
        dates = [str(turn.get(key)) for turn in turns]
        if all(map(_SORTABLE.match, dates)):
            numbers = all(date.replace(".", "", 1).isdecimal() for date in dates)
            return [float(date) for date in dates] if numbers else dates
    return None


@dataclass(slots=True)
class OldestFirst:
    """Turns conversations round whose newest message stands first (VK, Intercom, e-mail).

    A conversation whose dates go up and down is left as it is: dates of its turns may mean
    something else.

    Attributes:
        column: Holds the turns.
        num_turned: Conversations that were turned round.
    """

    column: str
    num_turned: int = 0

    def apply(self, rows: Iterable[Row | Rejection]) -> Iterator[Row | Rejection]:
        """Turn round what stands newest first.

        Args:
            rows: Any.

        Yields:
            The same rows, with the turns of some in the other order.
        """
        for row in rows:
            turns = row.fields.get(self.column) if isinstance(row, Row) else None
            if isinstance(row, Row) and isinstance(turns, list) and _is_newest_first(turns):
                self.num_turned += 1
                row = Row(row.location, {**row.fields, self.column: turns[::-1]})
            yield row

    @property
    def notices(self) -> tuple[str, ...]:
        """What was done, for the user."""
        if not self.num_turned:
            return ()
        number = counted(self.num_turned, "conversation stands", "conversations stand")
        return (f"{number} newest message first: the oldest is read first",)


def _is_newest_first(turns: Sequence[Any]) -> bool:
    if len(turns) < 2 or not all(isinstance(turn, Mapping) for turn in turns):
        return False
    dates = sortable_dates(turns)
    return dates is not None and dates[0] != dates[-1] and dates[::-1] == sorted(dates)
