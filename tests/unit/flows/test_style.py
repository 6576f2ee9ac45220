"""Style checks of a recipe: whose texts they compare, and when they are left out."""

import json
from pathlib import Path
from typing import Any

import pytest

from kamerton.core.errors import DataError
from kamerton.core.events import Event, Notice
from kamerton.data.examples import (
    ChatExample,
    Example,
    FeedbackExample,
    PreferenceExample,
    SourceLocation,
)
from kamerton.evaluation.comparison import compare
from kamerton.evaluation.reliability import StyleReliability
from kamerton.evaluation.results import Comparison
from kamerton.evaluation.settings import EvaluationSettings, ExactCheck, StyleCheck
from kamerton.evaluation.style import FittedStyle, fit_style
from kamerton.evaluation.style_text import style_text
from kamerton.evaluation.table import markdown_table
from kamerton.flows.report import write_evaluation_report
from kamerton.flows.style import fit_styles
from tests.unit.evaluation.compared import SETTINGS, answered, spoken
from tests.unit.flows.test_evaluate import Project

FACTS = ("order", "parcel", "lamp", "invoice", "desk", "refund", "shelf", "box", "label", "note")


def cold(number: int) -> str:
    return f"NO!!! Read the rules about the {FACTS[number % 10]} {number}!!!"


def warm(number: int) -> str:
    return f"Thank you, we gladly see to your {FACTS[number % 10]} {number}."


def chats(num: int, before: Any = cold, after: Any = warm) -> list[Example]:
    return [
        ChatExample(
            SourceLocation("f", number + 1),
            (
                {"role": "user", "content": f"Rewrite politely: {before(number)}"},
                {"role": "assistant", "content": after(number)},
            ),
        )
        for number in range(num)
    ]


def fitted(
    train: list[Example], folder: Path, notices: list[str] | None = None, **check: Any
) -> list[Any]:
    def sink(event: Event) -> None:
        assert isinstance(event, Notice)
        assert notices is not None, event.message
        notices.append(event.message)

    settings = EvaluationSettings.parse(
        {"checks": [{"kind": "exact"}, {"kind": "style", **check}]}, source="recipe"
    )
    found = fit_styles(settings, train, folder, sink)
    assert isinstance(found[0], ExactCheck)
    return list(found[1:])


def test_answers_are_told_from_what_was_asked_without_the_instruction(tmp_path: Path) -> None:
    (style,) = fitted(chats(40), tmp_path)
    assert isinstance(style, FittedStyle)
    assert style.reliability.against == "the questions"
    assert style.reliability.num_brand == style.reliability.num_others == 40
    # The instruction stands in every question, and is no mark of a bad style.
    judged = style.classifier.sounds_like_brand([warm(3), cold(3), f"Rewrite politely: {warm(3)}"])
    assert judged.tolist() == [True, False, True]


def test_of_pairs_and_feedback_the_better_answers_are_the_brand(tmp_path: Path) -> None:
    def turn(text: str) -> tuple[dict[str, str], ...]:
        return ({"role": "assistant", "content": text},)

    place, asked = SourceLocation("f", 1), ({"role": "user", "content": "Where?"},)
    pairs: list[Example] = [
        PreferenceExample(place, asked, turn(warm(n)), turn(cold(n))) for n in range(30)
    ]
    (style,) = fitted(pairs, tmp_path)
    assert style.reliability.against == "the worse answers"
    assert style.classifier.sounds_like_brand([warm(1), cold(1)]).tolist() == [True, False]
    thumbs: list[Example] = [
        FeedbackExample(place, ({"role": "user", "content": cold(n)},), turn(answer(n)), liked)
        for n in range(30)
        for answer, liked in ((warm, True), (cold, False))
    ]
    (style,) = fitted(thumbs, tmp_path)
    assert style.reliability.num_brand == 30


def test_files_of_texts_stand_in_for_the_examples(tmp_path: Path) -> None:
    # A text a line, or paragraphs with empty lines between them.
    for name, text, between in (("brand", warm, "\n"), ("rivals", cold, "\n\n")):
        (tmp_path / f"{name}.txt").write_text(between.join(text(n) for n in range(30)))
    (style,) = fitted(chats(3), tmp_path, name="tone", texts="brand.txt", against="rivals.txt")
    assert (style.title, style.reliability.against) == ("tone", "rivals.txt")
    assert (style.reliability.num_brand, style.reliability.num_others) == (30, 30)
    with pytest.raises(DataError):
        fitted(chats(3), tmp_path, texts="nowhere.txt")


def test_a_check_that_cannot_hear_the_style_is_left_out_and_says_why(tmp_path: Path) -> None:
    notices: list[str] = []

    def either(number: int) -> str:
        return warm(number) if number % 2 else warm(number).replace("gladly", "with pleasure")

    assert fitted(chats(40, lambda n: either(n + 1), either), tmp_path, notices) == []
    (said,) = notices
    assert "That may be less than 75 %, so this check is left out" in said


def test_with_few_texts_the_check_is_left_out_and_names_the_key(tmp_path: Path) -> None:
    notices: list[str] = []
    assert fitted(chats(12), tmp_path, notices) == []
    assert 'as there are 12; name a file with more of them: texts = "brand.txt"' in notices[0]
    (tmp_path / "few.txt").write_text("one\ntwo")
    assert fitted(chats(30), tmp_path, notices, against="few.txt") == []
    assert 'as there are 2; name a file with more of them: against = "others.txt"' in notices[1]


def test_the_reliability_stands_beside_the_metric_everywhere(tmp_path: Path) -> None:
    project = Project(tmp_path)
    rows = [{"question": cold(n), "answer": warm(n)} for n in range(40)]
    checks = [{"kind": "style", "name": "sounds like us"}]
    variant = project.make(
        rows[:30], rows[30:], evaluate={"max_new_tokens": 4, "shots": 0, "checks": checks}
    )
    evaluated = project.evaluate(variant)
    comparison = evaluated.comparison
    assert comparison.metrics == ("sounds like us", "loss")
    said = "sounds like us: of texts that it did not see"
    assert said in markdown_table(comparison)
    values = json.loads(json.dumps(comparison.to_json()))
    assert values["styles"][0]["balanced_accuracy"] > 0.9
    assert values["styles"][0]["num_brand"] == 30
    report = tmp_path / "report.html"
    write_evaluation_report(report, evaluated, project.workspace, variant.name)
    assert said in report.read_text("utf-8")


def test_a_style_that_the_base_has_already_is_said_to_show_nothing() -> None:
    reliability = StyleReliability("tone", "rivals", 30, 30, 0.9, 0.8, 1.0, 0.9, 0.1)
    items = spoken(10)
    classifier = fit_style([warm(n) for n in range(30)], [cold(n) for n in range(30)])
    checks = (FittedStyle(StyleCheck(name="tone"), classifier, reliability),)

    def comparison(num_warm: int) -> Comparison:
        made = (("zero-shot", num_warm), ("lora", 10))
        answers = [answered(items, lambda n, k=k: (warm if n < k else cold)(n), v) for v, k in made]
        return compare(items, answers, SETTINGS, against=["zero-shot"], checks=checks)

    easy = "The answers of zero-shot pass as often as the brand's own texts"
    for num, is_easy in ((8, False), (9, True)):
        found = comparison(num)
        assert (easy in style_text(found, found.styles[0])) == is_easy
        assert (easy in markdown_table(found)) == is_easy
