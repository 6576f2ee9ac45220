"""The word lists and sentence templates of the corpus, read from the TOML files in `texts`."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "texts"


@dataclass(frozen=True)
class Topic:
    """One theme of a service desk: openers, answers, later turns and facts with questions."""

    name: str
    asks: list[str]
    answers: list[str]
    later: list[tuple[str, str]]
    facts: list[tuple[str, str, str]]


@functools.cache
def read(name: str) -> dict[str, Any]:
    """Return the content of one file of texts, for example "words"."""
    return tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


@functools.cache
def topics(language: str) -> tuple[Topic, ...]:
    """Return all topics of a language ("en" or "ru")."""
    return tuple(
        Topic(
            entry["name"],
            entry["asks"],
            entry["answers"],
            [(question, answer) for question, answer in entry["later"]],
            [(fact, question, answer) for fact, question, answer in entry["facts"]],
        )
        for entry in read(f"topics_{language}")["topic"]
    )


def words(language: str, kind: str) -> list[Any]:
    """Return one word list of a language, for example ("en", "colours")."""
    entries: list[Any] = read("words")[language][kind]
    return entries


def phrases(language: str, kind: str) -> list[Any]:
    """Return one list of phrases of a language, for example ("ru", "hello")."""
    entries: list[Any] = read("phrases")[language][kind]
    return entries
