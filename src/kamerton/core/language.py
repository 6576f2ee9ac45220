"""The language of messages and reports: English in the code, Russian in one catalogue beside it.

`translated("{count} rows of {source}", ...)` gives the English text, or what `core/russian/*.toml`
has for it. English text is the key, so the code reads as its user does. A test holds that every
text has its Russian, that none stands in two files, and that none is left over.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from kamerton.core.wording import counted

__all__ = [
    "VARIABLE",
    "Language",
    "current_language",
    "language_of_machine",
    "speak",
    "speaking",
    "translated",
    "translated_count",
    "translated_number",
]

Language = Literal["en", "ru"]

VARIABLE = "KAMERTON_LANGUAGE"
"""Environment variable that says `en` or `ru`, before the locale does."""

_spoken: ContextVar[Language | None] = ContextVar("language", default=None)
_of_process: Language = "en"


def language_of_machine(environment: Mapping[str, str] | None = None) -> Language:
    """Tell which language this machine's user reads.

    Args:
        environment: Variables by name; None takes the process's own.

    Returns:
        What `KAMERTON_LANGUAGE` says; else Russian where the locale is Russian; else English.
    """
    variables = os.environ if environment is None else environment
    named = (VARIABLE, "LC_ALL", "LC_MESSAGES", "LANG")
    said = next((variables[name] for name in named if variables.get(name)), "")
    return "ru" if said.lower().startswith("ru") else "en"


def current_language() -> Language:
    """Give the language in which messages are worded now."""
    return _spoken.get() or _of_process


def speak(language: Language) -> None:
    """Word all messages of this process in a language, in every thread, and those of its children.

    Args:
        language: The language.
    """
    global _of_process
    _of_process = language
    os.environ[VARIABLE] = language


@contextmanager
def speaking(language: Language) -> Iterator[None]:
    """Word messages in a language for a while.

    Args:
        language: The language.

    Yields:
        Nothing; the earlier language is spoken again afterwards.
    """
    before = _spoken.set(language)
    try:
        yield
    finally:
        _spoken.reset(before)


def translated(text: str, /, **values: Any) -> str:
    """Word a text in the current language.

    Args:
        text: English, a literal, with names in braces; of a counted thing the word alone.
        **values: What stands for the names.

    Returns:
        The text, filled in.
    """
    found = _russian().get(text, text) if current_language() == "ru" else text
    found = found if isinstance(found, str) else found[0]
    return found.format(**values) if values else found


def translated_count(number: int, one: str, many: str = "") -> str:
    """Word a count in the current language: "1 pair", "2 pairs", "5 пар".

    Args:
        number: Number of things.
        one: English, a literal: what follows 1.
        many: English: what follows other numbers, where that is not the same with an "s".

    Returns:
        Number and words; thousands apart.
    """
    forms = _russian().get(one) if current_language() == "ru" else None
    if forms is None:
        return counted(number, one, many)
    assert not isinstance(forms, str), f"{one!r} has one Russian form, and a count needs three"
    return f"{number:,} {forms[_plural(number)]}".replace(",", "\N{NO-BREAK SPACE}")


def translated_number(text: str) -> str:
    """Write a number as the current language does.

    Args:
        text: The number as English has it, such as "+1,234.5".

    Returns:
        The same; in Russian with a decimal comma and a no-break space between thousands.
    """
    if current_language() == "ru":
        return text.translate({ord(","): "\N{NO-BREAK SPACE}", ord("."): ","})
    return text


def _plural(number: int) -> int:
    """Give the place of the Russian form: after 1, after 2 to 4, after the others."""
    last, last_two = abs(number) % 10, abs(number) % 100
    if last == 1 and last_two != 11:
        return 0
    return 1 if last in (2, 3, 4) and last_two not in (12, 13, 14) else 2


@cache
def _russian() -> Mapping[str, str | list[str]]:
    """Read the catalogue: English to Russian, or to three forms of a counted thing."""
    found: dict[str, str | list[str]] = {}
    for file in sorted(files("kamerton.core").joinpath("russian").iterdir(), key=str):
        if file.name.endswith(".toml"):
            found |= tomllib.loads(file.read_text(encoding="utf-8"))
    return found
