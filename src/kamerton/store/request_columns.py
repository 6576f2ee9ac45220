"""Columns of recorded requests as arrays: what reads many rows makes no object of each.

Letters: r rows of requests.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    JSON,
    Boolean,
    Connection,
    DateTime,
    Float,
    Integer,
    String,
    select,
    type_coerce,
)

from kamerton.store import tables
from kamerton.store.traffic import between

__all__ = ["RequestColumns", "answers_of", "as_columns", "numbered", "request_columns"]

_NAMED = 500
"""Most ids in one statement."""


@dataclass(frozen=True, slots=True)
class RequestColumns:
    """Some columns of requests, in the order in which these came.

    Attributes:
        arrays: By name, [r]: moments as datetime64 in microseconds; numbers and truths as float64,
            NaN where there is none; all else as objects.
    """

    arrays: Mapping[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.arrays[name]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))


def request_columns(
    connection: Connection,
    names: Collection[str],
    since: datetime | None = None,
    until: datetime | None = None,
    **equal: str,
) -> RequestColumns:
    """Read some columns of requests in the order in which these came; shadows are left out.

    Args:
        connection: Of `Store.begin`.
        names: The columns, at least one.
        since: The first moment, UTC; None takes all.
        until: The first moment after the last, UTC; None takes all.
        **equal: Columns with the value that they must have.

    Returns:
        The columns.
    """
    wanted = between(select(*map(_raw, names)), since, until, **equal)
    return as_columns(tuple(names), connection.execute(wanted).fetchall())


def as_columns(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> RequestColumns:
    """Make columns of rows.

    Args:
        names: Of the columns.
        rows: A value for each name.

    Returns:
        The columns.
    """
    lists = list(zip(*rows, strict=True)) or [() for _ in names]
    return RequestColumns(
        {name: _array(name, values) for name, values in zip(names, lists, strict=True)}
    )


def answers_of(connection: Connection, ids: Iterable[str]) -> dict[str, str]:
    """Read the answers of some requests.

    Args:
        connection: Of `Store.begin`.
        ids: The completions' ids.

    Returns:
        By id; those that the policy does not keep are left out.
    """
    table, named, found = tables.requests, list(ids), {}
    for first in range(0, len(named), _NAMED):
        some = named[first : first + _NAMED]
        wanted = select(table.c.id, table.c.answer).where(table.c.id.in_(some))
        for name, answer in connection.execute(wanted.where(table.c.answer.is_not(None))):
            found[name] = answer
    return found


def numbered(values: Iterable[Any]) -> tuple[NDArray[np.int64], list[Any]]:
    """Put numbers in the place of values; sorting words, as `numpy.unique` does, takes longer.

    Args:
        values: Words or tuples, [r].

    Returns:
        The number of each value, [r], and the different values in the order of their numbers,
        which is that of their first appearance.
    """
    numbers: dict[Any, int] = {}
    found = [numbers.setdefault(value, len(numbers)) for value in values]
    return np.array(found, np.int64), list(numbers)


def _raw(name: str) -> Any:
    """Select a column as the driver gives it: numpy reads moments and truths faster."""
    column = tables.requests.c[name]
    if isinstance(column.type, DateTime | JSON):
        return type_coerce(column, String)
    return type_coerce(column, Integer) if isinstance(column.type, Boolean) else column


def _array(name: str, values: Sequence[Any]) -> NDArray[Any]:
    kind = tables.requests.c[name].type
    if isinstance(kind, DateTime):
        return np.array(values, "datetime64[us]")
    if isinstance(kind, Boolean | Integer | Float):
        return np.array(values, np.float64)
    if isinstance(kind, JSON):
        # SQLite gives texts, few of them different; PostgreSQL's driver has read them.
        read = {each: json.loads(each) for each in set(_texts(values))}
        values = [read[each] if isinstance(each, str) else each for each in values]
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _texts(values: Iterable[Any]) -> Iterator[str]:
    return (each for each in values if isinstance(each, str))
