"""Answers that were computed so far, a line each: what `kamerton predict` goes on from."""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from kamerton.core.errors import SettingsError

__all__ = ["AnswerJournal", "open_journal"]

_SYNC_EVERY_S = 1.0


class AnswerJournal:
    """An open journal.

    Args:
        file: The file, at its end.
        answers: Row to its answer, as far as known.
        facts: What was found out once for all rows.
    """

    def __init__(
        self, file: BinaryIO, answers: dict[int, Mapping[str, Any]], facts: dict[str, Any]
    ) -> None:
        self._file = file
        self._synced = time.monotonic()
        self.answers = answers
        self.facts = facts

    def add(self, row: int, answer: Mapping[str, Any]) -> None:
        """Keep an answer.

        Args:
            row: The row, from 0.
            answer: Plain values.
        """
        self.answers[row] = answer
        self._write({"row": row, **answer})

    def note(self, name: str, value: Any) -> None:
        """Keep what was found out once for all rows.

        Args:
            name: Its name.
            value: Plain values.
        """
        self.facts[name] = value
        self._write({"fact": name, "value": value})

    def _write(self, line: Mapping[str, Any]) -> None:
        # What is flushed survives our end; only a power cut needs the disk.
        self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        if time.monotonic() - self._synced >= _SYNC_EVERY_S:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()


@contextmanager
def open_journal(path: Path, made_of: Mapping[str, str]) -> Iterator[AnswerJournal]:
    """Open a journal to go on with, or begin one.

    Args:
        path: The file.
        made_of: Name to hash of everything that decides the answers.

    Yields:
        The journal. A last line that was cut is dropped.

    Raises:
        SettingsError: If it was begun with something else, or another process writes it.
    """
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SettingsError(
                f"{path} is being written by another process",
                hint="wait for it, or choose another --to",
            ) from None
        answers, facts = _read(file, path, made_of)
        yield AnswerJournal(file, answers, facts)


def _read(
    file: BinaryIO, path: Path, made_of: Mapping[str, str]
) -> tuple[dict[int, Mapping[str, Any]], dict[str, Any]]:
    file.seek(0)
    whole = file.read()
    header = json.dumps({"made_of": dict(made_of)}).encode() + b"\n"
    if len(whole) < len(header) and header.startswith(whole):
        file.truncate(0)
        file.write(header)
        file.flush()
        return {}, {}
    end = whole.rfind(b"\n") + 1
    lines = whole[:end].splitlines()
    try:
        first, *others = (json.loads(line) for line in lines)
        begun = first["made_of"]
        changed = [name for name in made_of if begun.get(name) != made_of[name]]
        answers = {line.pop("row"): line for line in others if "row" in line}
        facts = {line["fact"]: line["value"] for line in others if "fact" in line}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SettingsError(
            f"{path} holds no unfinished answers", hint="move it away, or choose another --to"
        ) from None
    if changed:
        raise SettingsError(
            f"{path} was begun with another {' and another '.join(changed)}",
            hint="delete it to begin anew, or choose another --to",
        )
    # Only now is it sure that the file is ours.
    file.truncate(end)
    return answers, facts
