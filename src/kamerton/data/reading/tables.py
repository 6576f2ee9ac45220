"""CSV and TSV as rows, whatever the file's name says about the delimiter.

Quoting is read strictly: a quote that opens and never closes would otherwise swallow the rest of
the file as one cell. A line that cannot be read costs that line only.
"""

import csv
import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from kamerton.core.errors import DataError
from kamerton.core.language import translated
from kamerton.data.examples import SourceLocation
from kamerton.data.reading.text_files import TextFile, lines_of
from kamerton.data.rows import ROW_LIMIT, Rejection, Row

__all__ = ["Dialect", "dialect_of", "read_table"]

_DELIMITERS = (",", "\t", ";", "|")
_SAMPLE_LINES = 200
_TITLE_LINES = 5
_LEAST_RECORDS = 3
# Excel's own way to name the delimiter; Excel hides the line.
_SEPARATOR_LINE = re.compile(r"\ufeff?\"?sep=(.)\"?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How cells are written.

    Attributes:
        delimiter: Between cells.
        quoting: `csv.QUOTE_MINIMAL`, or `csv.QUOTE_NONE` where quotes mean themselves.
        escape: Character before a quote inside quotes; None when quotes are doubled.
    """

    delimiter: str
    quoting: int = csv.QUOTE_MINIMAL
    escape: str | None = None

    def cells(self, lines: Iterator[str]) -> Iterator[list[str]]:
        """Read records.

        Args:
            lines: Text lines with their ends.

        Returns:
            Lists of cells; raises `csv.Error` at a broken record.
        """
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quoting=self.quoting,  # type: ignore[arg-type]
            escapechar=self.escape,
            doublequote=self.escape is None,
            strict=True,
        )


# The unit separator stands in no text, so a file of one column keeps its commas.
_ONE_COLUMN = Dialect("\x1f")


def dialect_of(sample: Sequence[str], delimiters: Sequence[str] = _DELIMITERS) -> Dialect:
    """Tell how a table is written from its first lines.

    Args:
        sample: Lines with their ends.
        delimiters: What may stand between cells.

    Returns:
        The dialect under which most records are as wide as the header.
    """
    fits = [(*_fit(sample, Dialect(delimiter)), -i) for i, delimiter in enumerate(delimiters)]
    best = max(fits)
    if not best[1]:
        return _ONE_COLUMN
    dialect = Dialect(delimiters[-best[2]])
    if best[0] == 1:
        return dialect
    others = [Dialect(delimiter, csv.QUOTE_NONE) for delimiter in delimiters]
    if any('\\"' in line for line in sample):
        others.insert(0, Dialect(dialect.delimiter, escape="\\"))
    # Another way of quoting must be clearly better, or one stray quote would turn quoting off.
    better = max(others, key=lambda other: _fit(sample, other))
    return better if _fit(sample, better)[0] > best[0] + 0.1 else dialect


def read_table(
    file: TextFile, name: str, lines: Iterator[tuple[int, str | None]] | None = None
) -> Iterator[Row | Rejection]:
    """Read a table whose first line names the columns; Excel's line "sep=;" may stand before it.

    Args:
        file: The open text.
        name: The file's name in locations.
        lines: The lines of the text, where some have been read.

    Yields:
        Rows of text cells, and a rejection for every record that is no row.

    Raises:
        DataError: If two columns have one name, or the first line is a title or an example.
    """
    # The module's only setting is global; its default of 131,072 is too small for documents.
    csv.field_size_limit(ROW_LIMIT)
    records = iter(_Records(lines or lines_of(file)))
    head = list(islice(records, _SAMPLE_LINES))
    header: list[str] | None = None
    for number, last, cells in chain(head, records):
        location = SourceLocation(name, number)
        if header is None:
            if isinstance(cells, str):
                raise DataError(
                    translated(
                        "{location}: the header cannot be read: {cells}",
                        location=location,
                        cells=cells,
                    )
                )
            _check_header(cells, [r[::2] for r in head[1:] if not isinstance(r[2], str)], location)
            header = _header(cells, location)
        elif isinstance(cells, str):
            yield Rejection(location, "", cells)
        elif any(cells):
            while len(cells) > len(header) and not cells[-1]:
                cells.pop()
            if cells == header:
                yield Rejection(location, "", "repeats the header")
            elif len(cells) == len(header):
                fields = dict(zip(header, cells, strict=True))
                fields.pop("", None)
                yield Row(location, fields)
            else:
                span = f" (lines {number} to {last})" if last > number else ""
                yield Rejection(
                    location, "", f"has {len(cells)} cells, the header {len(header)}{span}"
                )


def _check_header(
    cells: Sequence[str], records: Sequence[tuple[int, Sequence[str]]], location: SourceLocation
) -> None:
    """Refuse a first line that is no header: a title, or an example of a table without header."""
    named = [cell for cell in cells if cell.strip()]
    full = [(number, found) for number, found in records if any(found)]
    wide = [number for number, found in full if sum(map(bool, found)) > 1]
    if len(named) == 1 and len(wide) > max(1, len(full) / 2):
        raise DataError(
            translated(
                "{location}: line {line} is no header: it has one cell, most lines below have more",
                location=location,
                line=location.line,
            ),
            hint=translated(
                "the header seems to be line {wide}: delete the lines above it", wide=wide[0]
            ),
        )
    if len(named) == 1 and len(cells) == 1 and (first := _first_of_table(full)):
        raise DataError(
            translated(
                "{location}: line {line} is no header: the lines below have several cells",
                location=location,
                line=location.line,
            ),
            hint=translated(
                "the header seems to be line {first}: delete the lines above it", first=first
            ),
        )
    for column, name in enumerate(cells):
        same = [
            number
            for number, found in full
            if found[column : column + 1] == [name] and list(found) != list(cells)
        ]
        # Once may be chance: a broken record, or a word that is a name and a value.
        if name.strip() and 1 < len(same) < len(full):
            raise DataError(
                translated(
                    "{location}: line {line} is an example and no header: '{name}' stands in "
                    "the same column of line {same}",
                    location=location,
                    line=location.line,
                    name=name,
                    same=same[0],
                ),
                hint=translated(
                    "put a line before it that names the columns, such as text;label or "
                    "prompt;completion"
                ),
            )


def _first_of_table(records: Sequence[tuple[int, Sequence[str]]]) -> int | None:
    """Find a table below a title that has no delimiter, so that all lines became one cell."""
    lines = [cells[0] + "\n" for _, cells in records if len(cells) == 1]
    if len(lines) < len(records) or len(lines) < _LEAST_RECORDS:
        return None
    for start in range(min(_TITLE_LINES, len(lines) - _LEAST_RECORDS + 1)):
        for delimiter in _DELIMITERS:
            share, width = _fit(lines[start:], Dialect(delimiter))
            # Commas stand in prose as well.
            if share == 1 and width >= (3 if delimiter == "," else 2):
                return records[start][0]
    return None


def _header(cells: Sequence[str], location: SourceLocation) -> list[str]:
    names = [cell.strip().removeprefix("\ufeff") for cell in cells]
    while names and not names[-1]:
        names.pop()
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise DataError(
            translated(
                "{location}: two columns are named '{twice}'", location=location, twice=twice[0]
            ),
            hint=translated("the first line must name every column once"),
        )
    # pandas writes its index as a first column without a name, and reads it back as "Unnamed: 0".
    return ["" if name == "Unnamed: 0" else name for name in names]


def _fit(sample: Sequence[str], dialect: Dialect) -> tuple[float, int]:
    """Share of records that are as wide as the first, and that width; (0, 0) below two columns."""
    widths: list[int] = []
    pending = deque(sample)
    broken = 0
    while pending:
        taken: list[str] = []
        try:
            for cells in dialect.cells(_recorded(pending, taken)):
                if cells:
                    widths.append(len(cells))
                taken.clear()
        except csv.Error:
            # An open quote at the end of the sample is no fault: its record goes on.
            if not pending and widths and len(sample) >= _SAMPLE_LINES:
                break
            broken += 1
            pending.extendleft(reversed(taken[1:]))
    if not widths or widths[0] < 2:
        return (0.0, 0)
    return (sum(width == widths[0] for width in widths) / (len(widths) + broken), widths[0])


def _recorded(pending: deque[str], taken: list[str]) -> Iterator[str]:
    while pending:
        line = pending.popleft()
        taken.append(line)
        yield line


class _Records:
    """Gives (first line, last line, cells), or a reason in place of cells."""

    def __init__(self, lines: Iterator[tuple[int, str | None]]) -> None:
        self._lines = lines
        sample = [(n, line) for n, line in islice(self._lines, _SAMPLE_LINES)]
        self._pending: deque[tuple[int, str | None]] = deque(sample)
        head = [line for _, line in sample if line is not None]
        separator = _SEPARATOR_LINE.fullmatch(head[0]) if head else None
        if separator is not None:
            del head[0]
            self._pending.popleft()
        self._dialect = dialect_of(head, separator[1] if separator else _DELIMITERS)
        self._taken: list[tuple[int, str]] = []
        self._too_long: int | None = None

    def __iter__(self) -> Iterator[tuple[int, int, list[str] | str]]:
        while True:
            try:
                for cells in self._dialect.cells(self._feed()):
                    if self._taken:
                        yield self._taken[0][0], self._taken[-1][0], cells
                    self._taken.clear()
            except csv.Error as error:
                first = self._taken[0][0]
                self._pending.extendleft(reversed(self._taken[1:]))
                self._taken.clear()
                yield first, first, f"quotes do not pair up ({error})"
                continue
            if self._too_long is None:
                return
            number, self._too_long = self._too_long, None
            yield number, number, f"line is longer than {ROW_LIMIT:,} characters"

    def _feed(self) -> Iterator[str]:
        while self._too_long is None:
            number, line = self._pending.popleft() if self._pending else next(self._lines, (0, ""))
            if line is None:
                self._too_long = number
            elif not line:
                return
            else:
                self._taken.append((number, line))
                yield line
