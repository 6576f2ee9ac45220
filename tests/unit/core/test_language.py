"""The catalogue of Russian texts, and the words that are taken from it."""

import ast
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest
from jinja2 import Environment, nodes

import kamerton
from kamerton.core.language import (
    language_of_machine,
    speaking,
    translated,
    translated_count,
    translated_number,
)

SOURCE = Path(kamerton.__file__).parent
CATALOGUE = SOURCE / "core" / "russian"


def entries() -> list[tuple[str, str | list[str]]]:
    tables = (tomllib.loads(file.read_text("utf-8")) for file in CATALOGUE.glob("*.toml"))
    return [entry for table in tables for entry in table.items()]


def texts_in_code() -> Iterator[tuple[str, str]]:
    """Give the function and the text of every call, in modules and in templates."""
    for file in SOURCE.rglob("*.py"):
        if file.name == "language.py":
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                name = node.func.id
                if name in ("translated", "translated_count"):
                    text = node.args[name == "translated_count"]
                    assert isinstance(text, ast.Constant), f"{file}:{node.lineno}: not a literal"
                    yield name, str(text.value)
    for file in SOURCE.rglob("*.j2"):
        parsed = Environment(extensions=["jinja2.ext.do"]).parse(file.read_text("utf-8"))
        for call in parsed.find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name.startswith("translated"):
                text = call.args[call.node.name == "translated_count"]
                assert isinstance(text, nodes.Const), f"{file}:{call.lineno}: not a literal"
                yield call.node.name, text.value


def fields(text: str) -> set[str]:
    try:
        return {name for _, name, _, _ in Formatter().parse(text) if name}
    except ValueError:
        # Braces of a recipe that is shown: nothing is filled in.
        return set()


def test_every_text_has_its_russian_and_none_is_left_over() -> None:
    russian, in_code = dict(entries()), dict.fromkeys(texts_in_code())
    assert sorted(text for _, text in in_code if text not in russian) == []
    assert sorted(russian.keys() - {text for _, text in in_code}) == []


def test_no_text_stands_twice() -> None:
    assert [
        text for text, times in Counter(text for text, _ in entries()).items() if times > 1
    ] == []


def test_the_russian_has_the_same_names_and_three_forms_of_counted_things() -> None:
    russian = dict(entries())
    for name, text in set(texts_in_code()):
        found = russian[text]
        if name == "translated_count":
            assert isinstance(found, list), text
            assert len(found) == 3, text
        elif isinstance(found, str):
            assert fields(found) == fields(text), text


@pytest.mark.parametrize(
    ("number", "worded"),
    [(1, "1 пример"), (2, "2 примера"), (5, "5 примеров"), (11, "11 примеров"), (21, "21 пример")],
)
def test_russian_counts_have_their_forms(number: int, worded: str) -> None:
    with speaking("ru"):
        assert translated_count(number, "item") == worded
    assert translated_count(number, "item") == f"{number} item{'s' * (number != 1)}"


def test_the_word_alone_of_a_counted_thing_is_its_first_form() -> None:
    with speaking("ru"):
        assert translated("item") == "пример"
    assert translated("item") == "item"


def test_russian_numbers_have_a_comma_and_their_thousands_apart() -> None:
    assert translated_number("+1,234.5") == "+1,234.5"
    with speaking("ru"):
        assert translated_number("+1,234.5") == "+1\N{NO-BREAK SPACE}234,5"


def test_a_text_without_values_keeps_its_braces() -> None:
    assert translated("{as it is}") == "{as it is}"


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "ru_RU.UTF-8"}, "ru"),
        ({"LANG": "ru_RU.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "en_US.UTF-8", "KAMERTON_LANGUAGE": "ru"}, "ru"),
    ],
)
def test_the_language_is_told_by_the_variable_and_then_by_the_locale(
    environment: dict[str, str], language: str
) -> None:
    assert language_of_machine(environment) == language
