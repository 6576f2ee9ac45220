"""Data sets of the Hugging Face Hub as rows, streamed."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kamerton.core.errors import DataError, MissingExtraError
from kamerton.core.wording import first_line
from kamerton.data.examples import SourceLocation
from kamerton.data.rows import ReportBytes, Row
from kamerton.data.values import plain_value

__all__ = ["HubSource", "LoadRows", "hub_source", "read_hub"]

LoadRows = Callable[["HubSource"], Iterable[Mapping[str, Any]]]
"""Gives the rows of a data set."""

_PREFIX = "hub:"
_IDENTIFIER = re.compile(
    r"(?P<name>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<config>[\w.-]+))?(?::(?P<split>[\w\[\]%+:.-]+))?"
)


@dataclass(frozen=True, slots=True)
class HubSource:
    """Which rows of the Hub.

    Attributes:
        name: "owner/name", or "name" for old data sets.
        config: Which of its configurations; None for the only one.
        split: Such as "train".
    """

    name: str
    config: str | None = None
    split: str = "train"

    def __str__(self) -> str:
        config = f"@{self.config}" if self.config else ""
        return f"{_PREFIX}{self.name}{config}:{self.split}"


def hub_source(source: str) -> HubSource | None:
    """Read a Hub id.

    Args:
        source: "hub:owner/name", "hub:owner/name@config:split", or without the prefix where it
            has exactly one slash.

    Returns:
        What it means, or None when it is no Hub id.
    """
    match = _IDENTIFIER.fullmatch(source.removeprefix(_PREFIX))
    if match is None or set(match["name"].split("/")) & {".", ".."}:
        return None
    if not source.startswith(_PREFIX) and "/" not in match["name"]:
        return None
    return HubSource(match["name"], match["config"], match["split"] or "train")


def read_hub(
    source: HubSource, report: ReportBytes | None, load: LoadRows | None = None
) -> Iterator[Row]:
    """Read a data set of the Hub.

    Args:
        source: Which one.
        report: Called with the number of rows so far; the size in bytes is not known.
        load: Replaces the `datasets` package.

    Yields:
        Rows.

    Raises:
        DataError: If the data set cannot be found or read.
        MissingExtraError: If the `datasets` package is not installed.
    """
    number = 0
    # The network, the Hub and a data set's files fail in ways too many to list.
    try:
        rows = iter((load or _stream)(source))
    except (DataError, MissingExtraError):
        raise
    except Exception as error:
        raise _failed(source, error) from None
    while True:
        try:
            fields = next(rows, None)
        except Exception as error:
            raise _failed(source, error) from None
        if fields is None:
            break
        number += 1
        yield Row(
            SourceLocation(str(source), number), {k: plain_value(v) for k, v in fields.items()}
        )
        if report is not None and number % 1000 == 0:
            report(number, None)


def _stream(source: HubSource) -> Iterable[Mapping[str, Any]]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise MissingExtraError("datasets", "hub", "data sets of the Hub") from None
    rows: Iterable[Mapping[str, Any]] = load_dataset(
        source.name, source.config, split=source.split, streaming=True
    )
    return rows


def _failed(source: HubSource, error: Exception) -> DataError:
    return DataError(
        f"{source}: cannot be read from the Hub: {first_line(error)}",
        hint="check the id, the split and the network; 'hub:owner/name@config:split' names all",
    )
