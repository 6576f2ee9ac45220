"""Answers that a teacher has given, kept by content: an interrupted job pays nothing twice.

One JSON object in each line. A request is noted before it is sent and settled when its outcome is
known, so that what was lost on the way, even to kill -9, counts as paid. Keys are hashes: the
questions themselves are not in the file.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from kamerton.core.errors import SettingsError

__all__ = ["GivenAnswers", "Tokens", "open_answers"]

_SYNC_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens that are paid for.

    Attributes:
        prompt: Read by the teacher.
        completion: Written by it.
    """

    prompt: int = 0
    completion: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.prompt + other.prompt, self.completion + other.completion)

    def __sub__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.prompt - other.prompt, self.completion - other.completion)

    @property
    def total(self) -> int:
        """Both."""
        return self.prompt + self.completion


class GivenAnswers:
    """An open file of answers.

    Args:
        file: The file, at its end.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._synced = time.monotonic()
        self._answers: dict[str, Mapping[str, Any]] = {}
        self._paid: dict[str, Tokens] = {}
        self._open: dict[str, list[Tokens]] = {}

    def get(self, key: str) -> Mapping[str, Any] | None:
        """Give an answer.

        Args:
            key: Hash of everything that decides it.

        Returns:
            Plain values; None where it was not given yet.
        """
        return self._answers.get(key)

    def charged(self, keys: Iterable[str]) -> Tokens:
        """Add up what was paid for answers, with what was lost on the way.

        Args:
            keys: Of the answers, each once.

        Returns:
            The tokens; of a request whose outcome is not known, the most that it may have cost.
        """
        total = Tokens()
        for key in keys:
            total = sum(self._open.get(key, ()), total + self._paid.get(key, Tokens()))
        return total

    def begin(self, key: str, most: Tokens) -> None:
        """Note that a request is sent now.

        Args:
            key: Of its answer.
            most: The most that it may cost.
        """
        self._write({"key": key, "asked": [most.prompt, most.completion]})
        self._open.setdefault(key, []).append(most)

    def free(self, key: str) -> None:
        """Note that a request was refused without costs.

        Args:
            key: Of its answer.
        """
        self._write({"key": key, "free": True})
        self._open[key].pop()

    def finish(
        self, key: str, answer: Mapping[str, Any], used: Tokens | None = None, *, paid: bool = False
    ) -> None:
        """Keep an answer.

        Args:
            key: Hash of everything that decides it.
            answer: Plain values.
            used: What it cost; None where nothing was begun.
            paid: Whether it must be on the disk before this returns.
        """
        line: dict[str, Any] = {"key": key, "answer": dict(answer)}
        if used is not None:
            line["used"] = [used.prompt, used.completion]
        self._write(line, sync=paid)
        self._take(line)

    def read(self, lines: Iterable[bytes]) -> None:
        """Take in what was written before.

        Args:
            lines: Whole lines.

        Raises:
            ValueError: If a line is none of ours.
        """
        for line in lines:
            self._note(line)

    def _note(self, line: bytes) -> None:
        found = json.loads(line)
        try:
            if "asked" in found:
                self._open.setdefault(found["key"], []).append(Tokens(*found["asked"]))
            elif "free" in found:
                self._open[found["key"]].pop()
            else:
                self._take(found)
        except (KeyError, TypeError, IndexError):
            raise ValueError("this is no line of a file of answers") from None

    def _take(self, line: Mapping[str, Any]) -> None:
        key = line["key"]
        self._answers[key] = line["answer"]
        if "used" in line:
            self._open[key].pop()
            self._paid[key] = self._paid.get(key, Tokens()) + Tokens(*line["used"])

    def _write(self, line: Mapping[str, Any], *, sync: bool = False) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        if sync or time.monotonic() - self._synced >= _SYNC_EVERY_S:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()


@contextmanager
def open_answers(path: Path) -> Iterator[GivenAnswers]:
    """Open a file of answers, or begin one; a last line that was cut is dropped.

    Args:
        path: The file; its folder is made.

    Yields:
        The answers.

    Raises:
        SettingsError: If another process writes it, or it holds something else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SettingsError(
                f"{path} is being written by another process",
                hint="wait for it: the answers of one teacher are paid for once",
            ) from None
        file.seek(0)
        whole = file.read()
        end = whole.rfind(b"\n") + 1
        answers = GivenAnswers(file)
        try:
            answers.read(whole[:end].splitlines())
        except ValueError:
            raise SettingsError(
                f"{path} holds no answers of a teacher", hint="move it away"
            ) from None
        file.truncate(end)
        yield answers
