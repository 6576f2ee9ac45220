import json
import tracemalloc

import pytest

from kamerton.core.errors import DataError
from kamerton.data.reading.readers import read_rows
from kamerton.data.rows import ROW_LIMIT, Row
from tests.unit.data.files import rejections_of, rows_of, write

ROWS = [{"text": "a", "label": "x"}, {"text": "б\u2028в", "label": "y"}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json", "a.JSONL", "a.unknown"])
def test_lines_are_read_whatever_the_name(tmp_path, name):
    assert rows_of(write(tmp_path, name, LINES)) == ROWS


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize(
    "content",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        json.dumps({"data": ROWS}, indent=1),
        json.dumps({"version": "1", "rows": ROWS}, indent=1),
        json.dumps({"text": ["a", "б\u2028в"], "label": ["x", "y"]}, indent=1),
        json.dumps({"text": {"0": "a", "1": "б\u2028в"}, "label": {"0": "x", "1": "y"}}, indent=1),
        json.dumps([["a", "x"], ["б\u2028в", "y"]], indent=1),
        "\n".join(json.dumps(row, indent=2) for row in ROWS),
    ],
)
def test_documents_are_read_whatever_the_name(tmp_path, name, content):
    assert rows_of(write(tmp_path, name, content)) == ROWS


def test_document_on_one_line_is_no_lines_file(tmp_path):
    assert rows_of(write(tmp_path, "a.json", json.dumps({"data": ROWS}))) == ROWS


def test_splits_under_keys_are_named(tmp_path):
    path = write(tmp_path, "a.json", json.dumps({"train": [["a", "x"]], "val": [["b", "y"]]}))
    assert rows_of(path) == [
        {"split": "train", "text": "a", "label": "x"},
        {"split": "val", "text": "b", "label": "y"},
    ]


def test_one_conversation_alone_in_a_file_is_one_row(tmp_path):
    row = {
        "tools": [{"name": "search"}],
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
    }
    assert rows_of(write(tmp_path, "a.json", json.dumps(row, indent=1))) == [row]
    assert rows_of(write(tmp_path, "b.jsonl", json.dumps(row))) == [row]


def test_bare_texts_and_bare_conversations_are_rows(tmp_path):
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    path = write(tmp_path, "a.json", json.dumps(["one", turns]))
    assert rows_of(path) == [{"text": "one"}, {"messages": turns}]


def test_places_are_lines(tmp_path):
    array = write(tmp_path, "a.json", json.dumps(ROWS, indent=1))
    lines = write(tmp_path, "b.jsonl", "\n" + LINES)
    assert [row.location.line for row in read_rows(array)] == [2, 6]
    assert [row.location.line for row in read_rows(lines)] == [2, 3]


def test_a_line_that_was_cut_says_where(tmp_path):
    path = write(tmp_path, "a.jsonl", LINES + '{"prompt": "x", "chosen": \n' + LINES)
    (rejection,) = rejections_of(path)
    assert rejection.reason == "not valid JSON: expecting value at character 26"


def test_a_comma_after_each_line_is_named(tmp_path):
    (rejection,) = rejections_of(write(tmp_path, "a.jsonl", LINES + '{"text": "x"},\n'))
    assert rejection.reason.endswith("(a comma stands after the row)")


def test_bad_lines_are_listed_and_cost_nothing_else(tmp_path):
    bad = ['{"text": "cut', "[1, 2]", "7", "null", "[" * 100_000, '{"n": ' + "9" * 5000 + "}"]
    path = write(tmp_path, "a.jsonl", LINES + "\n".join(bad) + "\n" + LINES)
    found = list(read_rows(path))
    assert [row.fields["text"] for row in found if isinstance(row, Row)] == 2 * ["a", "б\u2028в"]
    rejections = rejections_of(path)
    assert [rejection.location.line for rejection in rejections] == [3, 4, 5, 6, 7, 8]
    assert "not valid JSON" in rejections[0].reason
    assert rejections[1].reason == "a row must be an object, got a list"
    assert rejections[2].reason == "a row must be an object, got a number"
    assert rejections[4].reason == "nested too deeply"
    assert str(rejections[3]) == f"{path}:6: a row must be an object, got null"


def test_first_line_may_be_bad(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"text": \n' + LINES)
    assert [type(row).__name__ for row in read_rows(path)] == ["Rejection", "Row", "Row"]


def test_numbers_that_are_none_become_null(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"a": NaN, "b": Infinity, "c": 1e999, "d": 1.5}\n')
    assert rows_of(path) == [{"a": None, "b": None, "c": None, "d": 1.5}]


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        ('[{"a": 1},\n{"a": 2]', 2, "delimiter"),
        ('[{"a": 1}\n{"a": 2}]', 2, "must come here"),
        ('[{"a": 1}] tail', 1, "after the closing bracket"),
        ('[{"a": 1},', 1, "ends in the middle"),
        ('{"data": [\n1,\n2', 3, "ends in the middle"),
        ('[{"a": "cut', 1, "ends in the middle"),
        ('[{"a": "cut \\u04', 1, "ends in the middle"),
        ('[{"a": 1},\n{"a": 2},\n]', 3, "a comma stands before the closing bracket"),
        ('[\n{"a": 1,}]', 2, "a comma stands before the closing bracket"),
        ("[{'a': 1}]", 1, "stand in double quotes"),
        ('[{"a": "b\nc"}]', 1, r"is written \\n"),
        ('[{"a": None}]', 1, "writes null, not None"),
        ("[" * 100_000, 1, "nested too deeply"),
    ],
)
def test_broken_document_is_an_error_with_its_line(tmp_path, content, line, reason):
    path = write(tmp_path, "a.json", content)
    with pytest.raises(DataError, match=f":{line}: not valid JSON: .*{reason}") as caught:
        list(read_rows(path))
    assert caught.value.hint is not None


def test_elements_across_read_boundaries(tmp_path):
    rows = [{"text": "x" * size, "label": str(size)} for size in (65_530, 1, 131_072, 3, 65_536)]
    assert rows_of(write(tmp_path, "a.json", json.dumps(rows))) == rows


def test_too_long_a_line_is_rejected_alone(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"text": "' + "x" * ROW_LIMIT + '"}\n' + LINES)
    found = list(read_rows(path))
    assert [type(row).__name__ for row in found] == ["Rejection", "Row", "Row"]
    assert [row.location.line for row in found] == [1, 2, 3]


@pytest.mark.parametrize("as_array", [False, True])
def test_large_file_is_streamed(tmp_path, as_array):
    path = tmp_path / "a.json"
    line = json.dumps({"text": "x" * 2000, "label": "y"})
    num_rows = 10_000
    with path.open("w") as file:
        file.write("[" if as_array else "")
        for i in range(num_rows):
            file.write(("," if as_array and i else "") + line + "\n")
        file.write("]" if as_array else "")
    assert path.stat().st_size > 20_000_000
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_rows(path)) == num_rows
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000


@pytest.mark.parametrize(
    "rows",
    [
        {"T-1": {"question": "q", "answer": "a"}, "T-2": {"question": "r", "answer": "b"}},
        {"1": {"text": "t", "label": "x"}, "2": {"text": "u", "label": "y", "note": "n"}},
    ],
)
def test_rows_may_stand_under_their_ids(tmp_path, rows):
    path = write(tmp_path, "a.json", json.dumps(rows, indent=1))
    assert rows_of(path) == [{"id": key, **row} for key, row in rows.items()]


@pytest.mark.parametrize(
    "row",
    [
        {"question": {"text": "q", "lang": "en"}, "answer": {"text": "a", "lang": "en"}},
        {"first": {"text": "q", "lang": "en"}, "second": {"size": 3, "unit": "m"}},
        {"one": {"text": "q", "label": "x"}},
        {"one": {"text": "q"}, "two": {"text": "q"}, "three": 3},
    ],
)
def test_parts_of_one_row_are_no_rows(tmp_path, row):
    assert rows_of(write(tmp_path, "a.json", json.dumps(row, indent=1))) == [row]


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("{'text': 'x'}", "texts and keys stand in double quotes"),
        ('{"text": "x"},', "a comma stands after the row"),
        ('{"text": "x\n', "inside a text is written"),
        ('{"text": "x", "n": None}', "JSON writes null, not None"),
    ],
)
def test_the_usual_causes_of_broken_lines_are_named(tmp_path, line, cause):
    found = rejections_of(write(tmp_path, "a.jsonl", f'{{"text": "t"}}\n{line}\n'))
    assert found[0].location.line == 2
    assert cause in found[0].reason


def test_a_comma_after_the_last_row_is_named(tmp_path):
    path = write(tmp_path, "a.json", '[\n{"text": "x"},\n]\n')
    with pytest.raises(DataError, match="a.json:3: .*a comma stands before the closing bracket"):
        list(read_rows(path))
