"""One line of JSON per request. It never holds a text of a prompt or an answer, nor a key."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path

from kamerton.core.errors import SettingsError
from kamerton.serving.record import RequestRecord

__all__ = ["access_line", "access_log"]

_QUIET = ("/health", "/live", "/metrics", "/ready")
"""Probes: what they ask is logged only where the answer is an error."""


@contextmanager
def access_log(place: Path) -> Iterator[Callable[[RequestRecord], None]]:
    """Hold an access log open.

    Args:
        place: A file, which is appended to and may be moved away while the server runs; "-" is
            standard error.

    Yields:
        Writes the line of a request that is over.

    Raises:
        SettingsError: If the file cannot be written.
    """
    try:
        handler = logging.StreamHandler() if str(place) == "-" else WatchedFileHandler(place)
    except OSError as error:
        raise SettingsError(
            f"--access-log {place} cannot be written: {error.strerror or error}"
        ) from None
    logger = logging.Logger("kamerton.access", logging.INFO)
    logger.addHandler(handler)

    def write(record: RequestRecord) -> None:
        if record.path not in _QUIET or record.status >= 400:
            logger.info("%s", access_line(record))

    try:
        yield write
    finally:
        handler.close()


def access_line(record: RequestRecord) -> str:
    """Write what is known of a request that is over.

    Args:
        record: Of the request.

    Returns:
        A JSON object in one line; times are in seconds.
    """
    came_at = datetime.fromtimestamp(record.came_at, UTC)
    line: dict[str, object] = {
        "time": came_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "request_id": record.id,
        "method": record.method,
        "path": record.path[:200],
        "status": record.status,
        "duration_s": round(record.duration_s, 6),
    }
    if record.key:
        line["key"] = record.key
    if record.answers:
        first = record.time_to_first_token_s
        line |= {
            "model": record.model,
            "answers": len(record.answers),
            "prompt_tokens": record.num_prompt_tokens,
            "completion_tokens": record.num_tokens,
            "time_to_first_token_s": None if first is None else round(first, 6),
        }
    return json.dumps(line)
