"""Rows of any source: a file in one of many formats, or a data set of the Hub."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from kamerton.core.errors import DataError
from kamerton.core.language import translated
from kamerton.data.examples import SourceLocation
from kamerton.data.reading.chat_logs import is_chat_log, read_chat_log
from kamerton.data.reading.hub import hub_source, read_hub
from kamerton.data.reading.json_files import holds_lines, read_document, read_lines
from kamerton.data.reading.parquet import read_parquet
from kamerton.data.reading.tables import read_table
from kamerton.data.reading.text_files import TextFile, lines_of, open_bytes, open_text, unreadable
from kamerton.data.rows import ROW_LIMIT, Rejection, ReportBytes, Row

__all__ = ["READABLE", "read_rows"]

# Up to its closing quote, or to the end of what was looked at.
_QUOTED_CELL = re.compile(r'(?:(?<=[\t\n])|^)"(?:[^"]|"")*(?:"(?=[\t\r\n]|$)|\Z)')
_JSON = (".json", ".jsonl", ".ndjson")
_TABLE = (".csv", ".tsv", ".tab")
_TEXT = (".txt", ".md")
_OFFICE = (".xlsx", ".xls", ".ods", ".docx", ".doc", ".odt", ".rtf")
_SAMPLE_LINES = 100
READABLE = (*_JSON, *_TABLE, *_TEXT, ".parquet")
"""Extensions that say how to read a file; each may be followed by .gz."""


def read_rows(
    source: str | Path, *, encoding: str = "auto", report: ReportBytes | None = None
) -> Iterator[Row | Rejection]:
    """Read a data set row by row, without holding it.

    Args:
        source: A file, or a Hub id.
        encoding: Encoding of text files; "auto" finds it out.
        report: Called with the progress of reading, in bytes.

    Yields:
        Rows, and a rejection for every part that is no row, in order.

    Raises:
        DataError: If the source is missing, damaged or of an unknown kind.
        MissingExtraError: If an optional package is needed for it.
    """
    name = str(source)
    path = Path(source)
    if not _exists(path):
        # A name with a known extension is a file that is missing, whatever its slashes.
        hub = hub_source(name)
        if hub is None or (not name.startswith("hub:") and _suffix(path) in READABLE):
            hint = "give a path, or a data set of the Hub as hub:owner/name"
            if not name.isprintable():
                # "C:\temp" in a recipe has a tab in it.
                name = ascii(name)[1:-1]
                hint = (
                    "write the path with / or in single quotes: \\t and \\n mean other characters"
                )
            raise DataError(translated("{name}: no such file", name=name), hint=hint)
        yield from read_hub(hub, report)
        return
    if path.is_dir():
        raise DataError(
            translated("{name}: must be a file, found a folder", name=name),
            hint=translated("name one file of the folder"),
        )
    with unreadable(name):
        kind = _kind(path, name)
        if kind == ".parquet":
            yield from read_parquet(path, name, report)
        elif kind in _JSON:
            with open_text(path, name, encoding, None) as file:
                lines = holds_lines(file, kind)
            with open_text(path, name, encoding, report) as file:
                yield from read_lines(file, name) if lines else read_document(file, name)
        else:
            read = read_table if kind in _TABLE else _read_text
            with open_text(path, name, encoding, report) as file:
                yield from read(file, name)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        # Too long a name, or a NUL in it.
        return False


def _suffix(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _kind(path: Path, name: str) -> str:
    """Tell how to read a file: by its first bytes where they are sure, else by its extension."""
    with open_bytes(path) as file:
        head = file.read(4096)
    if head.startswith(b"PAR1"):
        return ".parquet"
    suffix = _suffix(path)
    if suffix in READABLE:
        return suffix
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if start in (b"{", b"["):
        return ".json"
    hint = f"known: {', '.join(READABLE)}, each also with .gz"
    if suffix in _OFFICE:
        hint = "save it as CSV (UTF-8) in the office program, a document as plain text"
    raise DataError(translated("{name}: unknown kind of file", name=name), hint=hint)


def _read_text(file: TextFile, name: str) -> Iterator[Row | Rejection]:
    lines = lines_of(file)
    head = list(itertools.islice(lines, _SAMPLE_LINES))
    lines = itertools.chain(head, lines)
    full = [line for _, line in head if line is not None and line.strip()]
    # A cell may hold line breaks; it stands in quotes then.
    lone = _QUOTED_CELL.sub('""', "".join(full)).splitlines()
    tabs = {line.count("\t") for line in lone}
    if len(lone) > 1 and len(tabs) == 1 and 0 not in tabs:
        # Excel's "Unicode text".
        yield from read_table(file, name, lines)
    elif is_chat_log(full):
        yield from read_chat_log(lines, name)
    else:
        yield from _read_paragraphs(lines, name)


def _read_paragraphs(
    lines: Iterator[tuple[int, str | None]], name: str
) -> Iterator[Row | Rejection]:
    """Read plain text: blank lines stand between rows."""
    paragraph: list[str] = []
    first = size = 0
    for number, line in itertools.chain(lines, [(0, "")]):
        if line is None:
            yield Rejection(
                SourceLocation(name, number), "", f"line is longer than {ROW_LIMIT:,} characters"
            )
            continue
        if line.strip() and size + len(line) <= ROW_LIMIT:
            first = first or number
            paragraph.append(line)
            size += len(line)
            continue
        if paragraph:
            yield Row(SourceLocation(name, first), {"text": "".join(paragraph).strip()})
        paragraph = [line] if line.strip() else []
        first, size = (number if paragraph else 0), len(line)
