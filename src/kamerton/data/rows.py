"""Rows: what the readers give before anyone has asked what the fields mean."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kamerton.data.examples import SourceLocation

__all__ = ["ROW_LIMIT", "Rejection", "ReportBytes", "Row"]

ROW_LIMIT = 1 << 25
"""Most characters of one row; a longer one is nearly always a broken file."""

ReportBytes = Callable[[int, int | None], None]
"""Called with bytes read so far and bytes in all (None when unknown)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a data set.

    Attributes:
        location: Location of its beginning.
        fields: Column or key to value, as read.
    """

    location: SourceLocation
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that cannot be used.

    Attributes:
        location: Location of its beginning.
        field: The offending field, dotted for nested ones; empty when it is the whole row.
        reason: What must hold and what was found.
    """

    location: SourceLocation
    field: str
    reason: str

    def __str__(self) -> str:
        field = f"{self.field}: " if self.field else ""
        return f"{self.location}: {field}{self.reason}"
