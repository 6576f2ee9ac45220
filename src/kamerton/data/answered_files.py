"""Rows of a file with new columns, written as CSV, JSON Lines or Parquet."""

import codecs
import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from kamerton.core.errors import MissingExtraError, SettingsError
from kamerton.core.files import atomic_file
from kamerton.data.reading.encodings import encoding_of
from kamerton.data.reading.tables import dialect_of
from kamerton.data.reading.text_files import lines_of, open_bytes, open_text

__all__ = ["TableForm", "ensure_writable_form", "new_names", "table_form", "write_answered"]

_TABLES = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_LINES = (".jsonl", ".ndjson")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_SAMPLE_LINES = 200


@dataclass(frozen=True, slots=True)
class TableForm:
    """How a table is written.

    Attributes:
        delimiter: Between cells.
        has_mark: Whether a byte order mark begins it, which Excel needs to read UTF-8.
    """

    delimiter: str = ","
    has_mark: bool = True


def ensure_writable_form(to: Path) -> None:
    """Refuse a file whose ending says no format, before hours of work rather than after.

    Args:
        to: The file to write.

    Raises:
        SettingsError: If the ending is unknown.
        MissingExtraError: If an optional package is needed for it.
    """
    known = (*_TABLES, *_LINES, ".parquet")
    if to.suffix.lower() not in known:
        raise SettingsError(
            f"--to: the ending must say the format, got '{to.name}'",
            hint=f"known: {', '.join(known)}",
        )
    if to.suffix.lower() == ".parquet":
        _parquet()


def table_form(source: Path, to: Path, encoding: str = "auto") -> TableForm:
    """Choose how a table is written: as the table that was read, where that was one.

    Args:
        source: The file that was read.
        to: The file to write.
        encoding: Encoding of the source; "auto" finds it out.

    Returns:
        The separator of the source where both are CSV; a byte order mark unless the source was a
        table in UTF-8 without one.
    """
    delimiter = _TABLES.get(to.suffix.lower(), ",")
    endings = [suffix.lower() for suffix in source.suffixes if suffix.lower() != ".gz"]
    ending = endings[-1] if endings else ""
    if ending not in (*_TABLES, ".txt"):
        return TableForm(delimiter)
    if encoding == "auto":
        with open_bytes(source) as file:
            encoding = encoding_of(iter(lambda: file.read(1 << 20), b""), source.name)
    with open_text(source, source.name, encoding, None) as text:
        sample = [line for _, line in zip(range(_SAMPLE_LINES), _lines(text), strict=False)]
    found = sample[0][4] if sample and sample[0].lower().startswith("sep=") else ""
    found = found or dialect_of(sample).delimiter
    # A table of one column has no separator; one with tabs is no CSV for Excel.
    if to.suffix.lower() == ".csv" and found in (",", ";", "|"):
        delimiter = found
    return TableForm(delimiter, codecs.lookup(encoding).name != "utf-8")


def _lines(text: Any) -> Any:
    return (line or "" for _, line in lines_of(text))


def new_names(columns: Sequence[str], names: Sequence[str], prefix: str) -> dict[str, str]:
    """Name new columns so that none hides a column of the file.

    Args:
        columns: Columns of the file.
        names: The new ones.
        prefix: Put before a name that is taken.

    Returns:
        Each new name with the one under which it is written.

    Raises:
        SettingsError: If the name with the prefix is taken too.
    """
    found = {name: f"{prefix}{name}" if name in columns else name for name in names}
    for name in found.values():
        if name in columns:
            raise SettingsError(
                f"the file has a column '{name}' already, which an earlier answer wrote",
                hint="rename or delete that column",
            )
    return found


def write_answered(
    to: Path,
    rows: Sequence[Mapping[str, Any]],
    new: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    names: Sequence[str],
    form: TableForm,
    parquet: tuple[Path, Sequence[int]] | None = None,
) -> None:
    """Write rows with their new columns; the file appears whole or not at all.

    Args:
        to: The file; its ending says the format.
        rows: The rows as they were read.
        new: The new values of each row, by the names of `names`.
        columns: All columns of the rows, in order.
        names: The new columns, in order.
        form: How a table is written.
        parquet: A Parquet file with the position of each row in it, whose types are kept; None
            where the rows came from elsewhere.
    """
    ending = to.suffix.lower()
    with atomic_file(to) as file:
        if ending in _TABLES:
            _write_table(file, rows, new, columns, names, form)
        elif ending in _LINES:
            for row, own in zip(rows, new, strict=True):
                line = {**row, **{name: own.get(name) for name in names}}
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        else:
            _write_parquet(file, rows, new, columns, names, parquet)


def _write_table(
    file: BinaryIO,
    rows: Sequence[Mapping[str, Any]],
    new: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    names: Sequence[str],
    form: TableForm,
) -> None:
    text = io.TextIOWrapper(file, "utf-8-sig" if form.has_mark else "utf-8", newline="")
    writer = csv.writer(text, delimiter=form.delimiter, lineterminator="\r\n")
    # A model may name a field; the header is a cell like others.
    writer.writerow([*columns, *map(_harmless, names)])
    for row, own in zip(rows, new, strict=True):
        written = [_cell(row.get(column)) for column in columns]
        writer.writerow([*written, *(_harmless(_cell(own.get(name))) for name in names)])
    text.flush()
    text.detach()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _harmless(cell: str) -> str:
    """Keep a spreadsheet from running a text as a formula; numbers stay numbers."""
    if not cell.startswith(_FORMULA):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def _parquet() -> Any:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet", "Parquet files") from None
    return pyarrow, parquet


def _write_parquet(
    file: BinaryIO,
    rows: Sequence[Mapping[str, Any]],
    new: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    names: Sequence[str],
    source: tuple[Path, Sequence[int]] | None,
) -> None:
    pyarrow, parquet = _parquet()
    if source is not None:
        with open_bytes(source[0]) as read:
            table = parquet.read_table(io.BytesIO(read.read())).take(pyarrow.array(source[1]))
    else:
        arrays = {column: _array(pyarrow, [row.get(column) for row in rows]) for column in columns}
        table = pyarrow.table(arrays)
    for name in names:
        table = table.append_column(name, _array(pyarrow, [own.get(name) for own in new]))
    parquet.write_table(table, file)


def _array(pyarrow: Any, values: list[Any]) -> Any:
    """Make a column; values of several kinds become texts, and one without any value too."""
    if all(value is None for value in values):
        return pyarrow.array(values, pyarrow.string())
    try:
        return pyarrow.array(values)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError):
        return pyarrow.array([None if value is None else _cell(value) for value in values])
