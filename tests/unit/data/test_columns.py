import pytest

from kamerton.core.errors import DataError
from kamerton.data.audit.audit import audit
from kamerton.data.columns import columns_of, read_column
from kamerton.data.examples import ClassificationExample
from tests.unit.data.files import load

LETTER = {"subject": "Refund", "body": "Where is it?", "meta": {"n": 3.0, "tags": ["a"]}, "x": None}


@pytest.mark.parametrize(
    ("source", "columns", "value"),
    [
        ("body", ("body",), "Where is it?"),
        ("meta.n", ("meta.n",), 3.0),
        ("{subject}\n{body}", ("subject", "body"), "Refund\nWhere is it?"),
        (
            "{meta.n} of {meta.tags.0}: {body}",
            ("meta.n", "meta.tags.0", "body"),
            "3 of a: Where is it?",
        ),
        ("{x}\n\n{body}", ("x", "body"), "Where is it?"),
        ("{subject}\\n{body}", ("subject", "body"), "Refund\nWhere is it?"),
        ("{meta.tags}", ("meta.tags",), '["a"]'),
        ("Topic: {x}", ("x",), None),
        ("a {} b", ("a {} b",), None),
    ],
)
def test_a_source_is_a_column_or_a_template(source, columns, value):
    assert columns_of(source) == columns
    assert read_column(LETTER, source) == value


def test_a_column_may_be_called_like_a_template():
    assert read_column({"{a}": "x", "a": "y"}, "{a}") == "x"


def test_columns_are_joined_by_a_template(tmp_path):
    rows = [
        {"subject": "Refund", "body": "Where is it?", "topic": "money", "note": "n"},
        {"subject": None, "body": "Hello?", "topic": "other"},
        {"subject": "", "body": None, "topic": "other"},
    ]
    columns = {"text": "{subject}\n{body}", "label": "topic"}
    loaded = load(tmp_path, rows, columns=columns)
    first, second = loaded.examples
    assert isinstance(first, ClassificationExample)
    assert (first.text, first.label, first.extra) == (
        "Refund\nWhere is it?",
        "money",
        {"note": "n"},
    )
    assert isinstance(second, ClassificationExample)
    assert second.text == "Hello?"
    assert [r.reason for r in loaded.rejections] == ["is missing or null"]
    found = audit(loaded)
    assert found.columns == columns
    assert found.unused_columns == ("note",)


def test_every_column_of_a_template_must_exist(tmp_path):
    rows = [{"subject": "s", "body": "b", "topic": "t"}]
    with pytest.raises(DataError, match="no row has the column 'bodi'; did you mean 'body'"):
        load(tmp_path, rows, columns={"text": "{subject}\n{bodi}", "label": "topic"})
