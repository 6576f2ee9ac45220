"""`kamerton check --redact`: a copy of a data set without personal data."""

import json
from dataclasses import dataclass
from pathlib import Path

from kamerton.core.errors import DataError
from kamerton.core.events import Progress, Sink
from kamerton.core.files import atomic_file
from kamerton.core.language import translated
from kamerton.data.privacy.redaction import Redactor
from kamerton.data.reading.readers import read_rows
from kamerton.data.rows import Row
from kamerton.data.settings import DataSettings

__all__ = ["Redacted", "write_redacted"]


@dataclass(frozen=True, slots=True)
class Redacted:
    """The result of redacting a data set.

    Attributes:
        num_values: Different values that were replaced.
        num_rows: Rows in the copy, usable or not.
        num_left_out: Rows that cannot be read; nobody knows what is in them.
    """

    num_values: int
    num_rows: int
    num_left_out: int


def write_redacted(settings: DataSettings, path: Path, sink: Sink) -> Redacted:
    """Copy rows as JSON Lines with e-mails, phone numbers and the like replaced.

    Columns and values stay as they are, also those that no example needs.

    Args:
        settings: `train` names the data set.
        path: The file to write; ends in .jsonl.
        sink: Receives progress.

    Returns:
        The result.

    Raises:
        DataError: If the path has another ending or is the data set itself, or the data set
            cannot be read.
    """
    if path.suffix != ".jsonl":
        raise DataError(
            translated("--redact writes JSON Lines, got the name '{path}'", path=path),
            hint=translated("--redact {with_suffix}", with_suffix=path.with_suffix(".jsonl")),
        )
    if path.resolve() == Path(settings.train).resolve():
        raise DataError(
            translated("{path}: the copy must not replace the data set", path=path),
            hint=translated("give --redact another name"),
        )

    def report(done: int, total: int | None) -> None:
        sink(Progress(translated("redacting"), done, total, "bytes"))

    redactor = Redactor()
    num_rows = num_left_out = 0
    with atomic_file(path) as file:
        for row in read_rows(settings.train, encoding=settings.encoding, report=report):
            line = _line(row, redactor) if isinstance(row, Row) else None
            if line is None:
                num_left_out += 1
            else:
                num_rows += 1
                file.write(line)
    return Redacted(sum(redactor.counts.values()), num_rows, num_left_out)


def _line(row: Row, redactor: Redactor) -> bytes | None:
    try:
        fields = redactor.redact_value(dict(row.fields))
        text = json.dumps(fields, ensure_ascii=False) + "\n"
    except RecursionError:
        return None
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Half a character: escaped, so that it is found again at its place.
        return (json.dumps(fields) + "\n").encode()
