"""What one answer is worth by each kind of check: rewards are made of this."""

import math
from typing import Any

import pytest
from pydantic import TypeAdapter

from kamerton.evaluation.checks import check_answers, worth_of
from kamerton.evaluation.items import Item
from kamerton.evaluation.settings import Check

NAN = math.nan


def worth(check: dict[str, Any], *rows: tuple[str, str, dict[str, Any]]) -> list[float]:
    """What (answer, reference, extra) rows are worth."""
    items = [Item("", (), reference, extra=extra) for _, reference, extra in rows]
    settings: Check = TypeAdapter(Check).validate_python(check)
    found: list[float] = worth_of(settings, items, [text for text, _, _ in rows]).tolist()
    return found


CASES: dict[str, tuple[dict[str, Any], list[tuple[str, str, dict[str, Any]]], list[float]]] = {
    "exact": (
        {"kind": "exact"},
        [(" ДА\n", "да", {}), ("nearly", "yes", {}), ("", "", {})],
        [1, 0, 1],
    ),
    "contains": (
        {"kind": "contains", "field": "must"},
        [
            ("In 14 days.", "", {"must": ["14", "DAYS"]}),
            ("In 14 days.", "", {"must": ["14", "weeks"]}),
            ("In 0 days.", "", {"must": 0}),
            ("Anything.", "", {"must": ""}),
            ("Anything.", "", {}),
        ],
        [1, 0, 1, NAN, NAN],
    ),
    "pattern": (
        {"kind": "pattern", "pattern": r"Verdict: (\w+)", "field": "right"},
        [
            ("Verdict: no. Verdict: Yes", "", {"right": "yes"}),
            ("Verdict: no", "", {"right": "yes"}),
            ("Nothing", "", {"right": "yes"}),
            ("Verdict: false", "", {"right": False}),
            ("Verdict: yes", "", {}),
        ],
        [1, 0, 0, 1, NAN],
    ),
    # An answer has no F1 of its own: it is worth 1 where its class is right, whichever that is.
    "pattern, f1": (
        {
            "kind": "pattern", "pattern": r"(spam|ham)", "field": "right", "metric": "f1",
            "positive": "spam",
        },
        [
            ("spam", "", {"right": "spam"}),
            ("ham", "", {"right": "ham"}),
            ("spam", "", {"right": "ham"}),
        ],
        [1, 1, 0],
    ),
    "pattern, macro-F1": (
        {"kind": "pattern", "pattern": r"(\w+)$", "field": "right", "metric": "macro_f1"},
        [("It is a", "", {"right": "a"}), ("It is b", "", {"right": "a"})],
        [1, 0],
    ),
    "rules": (
        {
            "kind": "rules",
            "rules": [
                {"name": "greets", "pattern": "^Hello"},
                {"name": "quiet", "pattern": "!", "must": False},
            ],
        },
        [("Hello, Bob.", "", {}), ("Hello!", "", {}), ("Bob.", "", {})],
        [1, 0, 0],
    ),
    "refusal": (
        {"kind": "refusal"},
        [("I'm sorry, but I can't help with that.", "", {}), ("Sure.", "", {})],
        [1, 0],
    ),
    "refusal, wanted": (
        {"kind": "refusal", "expect": True},
        [("I'm sorry, but I can't help with that.", "", {}), ("Sure.", "", {})],
        [1, 0],
    ),
    "refusal, unwanted": (
        {"kind": "refusal", "expect": False},
        [("I'm sorry, but I can't help with that.", "", {}), ("Sure.", "", {})],
        [0, 1],
    ),
    "json": (
        {"kind": "json"},
        [('{"a": 1}', "", {}), ('```json\n{"a": 1}\n```', "", {}), ("a: 1", "", {})],
        [1, 1, 0],
    ),
    "only_if": (
        {"kind": "json", "only_if": "wants"},
        [("[]", "", {"wants": True}), ("no", "", {"wants": "yes"}), ("[]", "", {"wants": False})],
        [1, 0, NAN],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_answer_is_worth_0_or_1(name: str) -> None:
    check, rows, expected = CASES[name]
    assert worth(check, *rows) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("name", CASES)
def test_an_answer_is_worth_the_same_alone(name: str) -> None:
    """Answers of one prompt are judged together with others, and on the holdout alone."""
    check, rows, expected = CASES[name]
    alone = [worth(check, row)[0] for row in rows]
    assert alone == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("name", CASES)
def test_it_is_what_evaluation_measures(name: str) -> None:
    check, rows, expected = CASES[name]
    items = [Item("", (), reference, extra=extra) for _, reference, extra in rows]
    settings: Check = TypeAdapter(Check).validate_python(check)
    found = check_answers(settings, items, [text for text, _, _ in rows]).values
    assert found.tolist() == pytest.approx(expected, nan_ok=True)


def test_what_no_check_counts_is_worth_nothing_and_no_error() -> None:
    rows = [("a", "", {}), ("b", "", {"must": None})]
    assert worth({"kind": "contains", "field": "must"}, *rows) == pytest.approx(
        [NAN, NAN], nan_ok=True
    )
    assert worth({"kind": "json"}) == []
