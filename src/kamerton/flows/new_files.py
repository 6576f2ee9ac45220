"""Several files for one project: joined, or a training file with a test file beside it."""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from kamerton.core.errors import SettingsError
from kamerton.core.files import write_atomically
from kamerton.core.language import translated, translated_count
from kamerton.data.reading.readers import read_rows
from kamerton.data.rows import Row

__all__ = ["Sources", "sources_of"]

_SAMPLE_ROWS = 200
_JOINED = "examples.jsonl"
_PARTS: Mapping[str, frozenset[str]] = {
    "test": frozenset(("test", "тест")),
    "holdout": frozenset(("holdout", "valid", "validation", "val", "dev", "проверка")),
}


@dataclass(frozen=True, slots=True)
class Sources:
    """The files of a project by what they are for.

    Attributes:
        train: The file to learn from.
        holdout: A file to choose the step by; empty where a share of `train` is.
        test: A file that only an evaluation reads; empty likewise.
        told: What was done with them, one sentence each.
        joined: The file that was made of several; None where there is one.
    """

    train: str
    holdout: str = ""
    test: str = ""
    told: tuple[str, ...] = ()
    joined: Path | None = None

    def undo(self) -> None:
        """Remove what was joined, and its folder, so that the same command may be given again."""
        if self.joined is not None:
            self.joined.unlink(missing_ok=True)
            with suppress(OSError):
                self.joined.parent.rmdir()


def sources_of(files: Sequence[str], folder: Path) -> Sources:
    """Tell what each of several files is for.

    A file with "test" among the words of its name is the test set, one with "holdout", "valid" or
    "dev" the holdout. What is left must have the same columns, and several are joined in a file of
    the project.

    Args:
        files: At least one.
        folder: The project's folder, which gets the joined file.

    Returns:
        The files to read.

    Raises:
        SettingsError: If a file stands there twice, two are for the same, none is left to learn
            from, or the columns differ.
        DataError: If a file cannot be read.
    """
    places = [Path(file).resolve() for file in files]
    twice = next((file for file in files if places.count(Path(file).resolve()) > 1), None)
    if twice is not None:
        raise SettingsError(
            translated("{twice} is given twice", twice=twice),
            hint=translated("name each file once"),
        )
    named: dict[str, str] = {}
    learned: list[str] = []
    for file in files:
        part = _part_of(file) if len(files) > 1 else ""
        if not part:
            learned.append(file)
        elif part in named:
            raise SettingsError(
                translated(
                    "there is one {part} set, and two files are called so: {named} and {file}",
                    part=part,
                    named=named[part],
                    file=file,
                ),
                hint=translated("give one of them another name to learn from it"),
            )
        else:
            named[part] = file
    if not learned:
        raise SettingsError(
            translated(
                "none of {files} is there to learn from: their names say {listed}",
                files=translated_count(len(files), "file"),
                listed=" and ".join(named),
            ),
            hint=translated("give the file with the training examples too"),
        )
    _ensure_same_columns([*learned, *named.values()])
    told = [
        translated("{file} is the test set, by its name", file=file)
        if part == "test"
        else translated("{file} chooses the step that training keeps, by its name", file=file)
        for part, file in named.items()
    ]
    train, joined = learned[0], None
    if len(learned) > 1:
        joined, num_left_out = _join(learned, folder)
        train = str(joined)
        files_told = ", ".join(learned)
        told.append(translated("joined {files} in {train}", files=files_told, train=train))
        if num_left_out:
            told.append(
                translated(
                    "rows that cannot be read and are left out of it: {num}; kamerton check on "
                    "each file lists them",
                    num=num_left_out,
                )
            )
    return Sources(train, named.get("holdout", ""), named.get("test", ""), tuple(told), joined)


def _part_of(file: str) -> str:
    words = set(re.findall(r"[^\W\d_]+", Path(file).name.casefold()))
    return next((part for part, names in _PARTS.items() if words & names), "")


def _ensure_same_columns(files: Sequence[str]) -> None:
    first, *others = ((file, _columns(file)) for file in files)
    for file, columns in others:
        if columns != first[1]:
            only = [
                f"{name} has {', '.join(sorted(own - other)) or 'none besides'}"
                for name, own, other in ((first[0], first[1], columns), (file, columns, first[1]))
            ]
            raise SettingsError(
                translated(
                    "files of one project must have the same columns: {listed}",
                    listed="; ".join(only),
                ),
                hint=translated("give the columns the same names, or make a project of each file"),
            )


def _columns(file: str) -> set[str]:
    rows = islice(read_rows(file), _SAMPLE_ROWS)
    return {name for row in rows if isinstance(row, Row) for name in row.fields}


def _join(files: Sequence[str], folder: Path) -> tuple[Path, int]:
    """Write the rows of several files in one; give it, and how many rows could not be read."""
    rows = [row for file in files for row in read_rows(file)]
    lines = [
        json.dumps(row.fields, ensure_ascii=False, default=str)
        for row in rows
        if isinstance(row, Row)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / _JOINED, "".join(f"{line}\n" for line in lines).encode())
    return folder / _JOINED, len(rows) - len(lines)
