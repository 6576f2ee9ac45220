"""Text files: decompressed, decoded and cut into lines, never held whole."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from kamerton.core.errors import DataError
from kamerton.core.language import translated
from kamerton.data.reading.encodings import encoding_of
from kamerton.data.rows import ROW_LIMIT, ReportBytes

__all__ = ["TextFile", "is_gzip", "lines_of", "open_bytes", "open_text", "unreadable"]

_CHUNK_BYTES = 1 << 20
_REPORT_BYTES = 1 << 20


class TextFile:
    """An open text and how far it has been read.

    Args:
        text: Decoded text; line ends are kept as they are. Bytes that do not decode become lone
            surrogates, so that only their row is rejected.
        raw: The file below it, before decompression.
        encoding: How the text is decoded.
        report: Called with the progress of reading, about every megabyte.
    """

    def __init__(
        self, text: TextIO, raw: BinaryIO, encoding: str, report: ReportBytes | None
    ) -> None:
        self.text = text
        self.encoding = encoding
        self._raw = raw
        self._report = report
        self._reported = -_REPORT_BYTES
        self._size = raw.seek(0, io.SEEK_END)
        raw.seek(0)

    def report(self, *, finished: bool = False) -> None:
        """Tell how far reading is.

        Args:
            finished: Whether the end has been reached.
        """
        if self._report is None:
            return
        done = self._size if finished else self._raw.tell()
        if finished or done - self._reported >= _REPORT_BYTES:
            self._reported = done
            self._report(done, self._size)


def is_gzip(path: Path) -> bool:
    """Tell a gzip file by its first bytes, whatever its name.

    Args:
        path: The file.

    Returns:
        Whether it is one.
    """
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a file, decompressed when it is gzip.

    Args:
        path: The file.

    Yields:
        Its content.
    """
    with path.open("rb") as raw:
        if is_gzip(path):
            with gzip.GzipFile(fileobj=raw) as unzipped:
                yield cast(BinaryIO, unzipped)
        else:
            yield raw


@contextmanager
def open_text(
    path: Path, name: str, encoding: str, report: ReportBytes | None
) -> Iterator[TextFile]:
    """Open a text file.

    Args:
        path: The file, gzip or not.
        name: Its name in errors.
        encoding: A codec, or "auto".
        report: Called with the progress of reading.

    Yields:
        The open text.

    Raises:
        DataError: If the encoding cannot be told.
    """
    if encoding == "auto":
        with open_bytes(path) as file:
            encoding = encoding_of(iter(lambda: file.read(_CHUNK_BYTES), b""), name)
    # The wide encodings cannot carry broken bytes as surrogates.
    errors = "replace" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
    with path.open("rb") as raw:
        source = gzip.GzipFile(fileobj=raw) if is_gzip(path) else raw
        text = io.TextIOWrapper(cast(BinaryIO, source), encoding, errors, newline="")
        yield TextFile(text, cast(BinaryIO, raw), encoding, report)


@contextmanager
def unreadable(name: str) -> Iterator[None]:
    """Turn what a damaged file raises while it is read into a `DataError`.

    Args:
        name: The file's name in errors.

    Yields:
        Nothing.

    Raises:
        DataError: If reading fails.
    """
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            translated("{name}: cannot be read to its end: {error}", name=name, error=error),
            hint=translated("the file is damaged or was cut short; copy or download it again"),
        ) from None
    except UnicodeError as error:
        raise DataError(
            translated("{name}: cannot be decoded: {error}", name=name, error=error),
            hint=translated(
                'save the file as UTF-8, or name its encoding: data.encoding = "cp1251"'
            ),
        ) from None


def lines_of(file: TextFile) -> Iterator[tuple[int, str | None]]:
    """Cut a text into lines.

    Args:
        file: The open text.

    Yields:
        Line number from 1, and the line with its end; None for a line beyond `ROW_LIMIT`.
    """
    number = 0
    read = file.text.readline
    while line := read(ROW_LIMIT):
        number += 1
        too_long = len(line) == ROW_LIMIT
        while len(line) == ROW_LIMIT and not line.endswith(("\n", "\r")):
            line = read(ROW_LIMIT)
        yield number, None if too_long else line
        if number % 64 == 0:
            file.report()
    file.report(finished=True)
