"""Parquet files as rows, a batch at a time."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kamerton.core.errors import DataError, MissingExtraError
from kamerton.core.wording import first_line
from kamerton.data.examples import SourceLocation
from kamerton.data.reading.text_files import is_gzip, open_bytes
from kamerton.data.rows import ReportBytes, Row
from kamerton.data.values import plain_value

__all__ = ["read_parquet"]

_BATCH_ROWS = 1024


def read_parquet(path: Path, name: str, report: ReportBytes | None) -> Iterator[Row]:
    """Read a Parquet file.

    Args:
        path: The file, gzip or not.
        name: The file's name in locations.
        report: Called with the progress of reading.

    Yields:
        Rows; dates and decimals become text, binary values a note of their size.

    Raises:
        DataError: If the file is damaged.
        MissingExtraError: If pyarrow is not installed.
    """
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet", "Parquet files") from None

    with open_bytes(path) as source, tempfile.TemporaryFile() as unzipped:
        seekable: Any = source
        if is_gzip(path):
            # Parquet is read from its end; a gzip stream cannot be.
            shutil.copyfileobj(source, unzipped)
            seekable = unzipped
        size = path.stat().st_size
        number = 0
        # A damaged file can make the library raise almost anything.
        try:
            table = ParquetFile(seekable)
            total = max(1, table.metadata.num_rows)
            batches = table.iter_batches(batch_size=_BATCH_ROWS)
        except Exception as error:
            raise _damaged(name, error) from None
        while True:
            try:
                batch = next(batches, None)
                rows = [] if batch is None else batch.to_pylist()
            except Exception as error:
                raise _damaged(name, error) from None
            if batch is None:
                break
            for fields in rows:
                number += 1
                yield Row(
                    SourceLocation(name, number), {k: plain_value(v) for k, v in fields.items()}
                )
            if report is not None:
                report(size * min(number, total) // total, size)
    if report is not None:
        report(size, size)


def _damaged(name: str, error: Exception) -> DataError:
    return DataError(f"{name}: cannot be read as Parquet: {first_line(error)}")
