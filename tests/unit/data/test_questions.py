"""Rows without an answer are asked exactly as training rows were."""

import json
from pathlib import Path
from typing import Any

import pytest

from kamerton.core.errors import DataError
from kamerton.data.dataset import load_examples
from kamerton.data.examples import ChatExample, ClassificationExample, SourceLocation
from kamerton.data.privacy.redaction import Redactor
from kamerton.data.questions import Question, answer_form, fit_to_file, json_values, question_of
from kamerton.data.rows import Rejection, Row
from kamerton.data.settings import DataSettings

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]


def asked(
    folder: Path, learned: list[dict[str, Any]], row: dict[str, Any], **settings: Any
) -> tuple[Question | Rejection, list[str]]:
    """Learn from rows, then ask another one; return also what was noticed."""
    file = folder / "train.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in learned))
    loaded = load_examples(str(file))
    form = answer_form(loaded.schema, loaded.examples)
    schema, notices = fit_to_file(form, [row], DataSettings(train="x", **settings), "new.csv")
    return question_of(Row(SourceLocation("new.csv", 2), row), schema, None), notices


@pytest.mark.parametrize(
    "whole",
    [
        {"text": "late parcel", "label": "delivery"},
        {"prompt": "Where is it?", "completion": "On its way."},
        {"prompt": "Where is it?", "completion": "Here.", "system": "Be brief."},
        {"prompt": "Where is it?", "completion": "Here.", "context": "A box stands there."},
        {"instruction": "Translate", "input": "dom", "output": "house"},
        {"messages": [{"role": "system", "content": "Be brief."}, *TURNS]},
    ],
    ids=lambda whole: "-".join(whole),
)
def test_a_question_is_what_stood_before_the_answer(whole: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "whole.jsonl"
    file.write_text(json.dumps(whole))
    example = load_examples(str(file)).examples[0]
    answers = ("label", "completion", "output")
    without = {name: value for name, value in whole.items() if name not in answers}
    question, notices = asked(tmp_path, [whole], without)
    if isinstance(example, ClassificationExample):
        expected: Any = ({"role": "user", "content": example.text},)
    else:
        assert isinstance(example, ChatExample)
        expected = example.messages[:-1]
    assert question == Question(expected)
    assert not notices
    # An answer that is there already, as in a holdout, changes nothing.
    assert asked(tmp_path, [whole], whole)[0] == question


def test_a_single_question_may_stand_in_a_column_of_its_own(tmp_path: Path) -> None:
    question, notices = asked(tmp_path, [{"messages": TURNS}], {"question": "Hi there"})
    assert question == Question(({"role": "user", "content": "Hi there"},))
    assert notices == ["the question is read from 'question'; in training it stood in 'messages'"]


def test_columns_are_named_as_in_a_recipe(tmp_path: Path) -> None:
    learned = [{"text": "late parcel", "label": "delivery"}]
    row = {"subject": "Parcel", "mail": "Where?"}
    question, _ = asked(tmp_path, learned, row, columns={"text": "{subject}\n{mail}"})
    assert question == Question(({"role": "user", "content": "Parcel\nWhere?"},))
    same, _ = asked(tmp_path, learned, row, columns={"prompt": "{subject}\n{mail}"})
    assert same == question
    with pytest.raises(DataError, match="no row has the column 'maill'; did you mean 'mail'"):
        asked(tmp_path, learned, row, columns={"text": "maill"})
    with pytest.raises(DataError, match="no row has the column 'matter'"):
        asked(tmp_path, learned, row, columns={"text": "{subject} {matter}"})
    with pytest.raises(DataError, match="no row has the column 'text'") as caught:
        asked(tmp_path, learned, row)
    assert "data.columns.text=COLUMN" in (caught.value.hint or "")


def test_what_stood_beside_questions_is_missed_aloud(tmp_path: Path) -> None:
    learned = [{"prompt": "Where?", "completion": "Here.", "system": "Be brief."}]
    question, notices = asked(tmp_path, learned, {"prompt": "When?"})
    assert question == Question(({"role": "user", "content": "When?"},))
    assert notices == ["training rows had 'system' beside the question, this file has not"]


def test_a_row_that_cannot_be_asked_says_why(tmp_path: Path) -> None:
    learned = [{"text": "late parcel", "label": "delivery"}]
    rejected, _ = asked(tmp_path, learned, {"text": " "})
    assert str(rejected) == "new.csv:2: text: is empty"
    rejected, _ = asked(tmp_path, [{"messages": TURNS}], {"messages": TURNS[1:]})
    assert str(rejected) == "new.csv:2: messages: must have a user turn to answer"


def test_personal_data_gets_the_placeholders_of_training(tmp_path: Path) -> None:
    row = Row(SourceLocation("new.csv", 2), {"text": "mail a@b.example", "id": "c@d.example"})
    loaded = [ClassificationExample(row.location, "late", "delivery")]
    (tmp_path / "t.jsonl").write_text('{"text": "late", "label": "delivery"}')
    form = answer_form(load_examples(str(tmp_path / "t.jsonl")).schema, loaded)
    schema, _ = fit_to_file(form, [row.fields], DataSettings(train="x"), "new.csv")
    question = question_of(row, schema, Redactor())
    assert question == Question(({"role": "user", "content": "mail [EMAIL_1]"},))


def test_plain_text_asks_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="learned plain text"):
        asked(tmp_path, [{"text": "Once upon a time."}], {"text": "Once"})


def test_labels_and_fields_of_answers_are_noted(tmp_path: Path) -> None:
    def form_of(*rows: dict[str, Any]) -> Any:
        (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        loaded = load_examples(str(tmp_path / "t.jsonl"))
        return answer_form(loaded.schema, loaded.examples)

    classes = form_of({"text": "a", "label": "x"}, {"text": "b", "label": "w"})
    assert (classes.labels, classes.json_fields) == (("w", "x"), ())
    objects = [{"prompt": "p", "completion": text} for text in ('{"b": 1}', '{"a": [2], "b": 3}')]
    assert form_of(*objects).json_fields == ("b", "a")
    assert form_of(*objects, {"prompt": "p", "completion": "none"}).json_fields == ()


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (' {"a": 1, "c": 2}\n', {"a": 1, "b": None}),
        ("[1]", None),
        ('{"a": ', None),
        ("sorry", None),
    ],
)
def test_json_answers_give_their_fields(text: str, values: object) -> None:
    assert json_values(text, ("a", "b")) == values
