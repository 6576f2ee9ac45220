import copy

import pytest

from kamerton.data.dataset import load_examples
from kamerton.data.formats.messages import tools_of
from tests.unit.data.files import load

# As a table writes them: every row has the keys of all tools.
MOVE = {"x": {"type": "integer"}, "why": {"type": ["string", "null"]}, "colour": None}
PAINT = {"x": None, "why": None, "colour": {"type": "string"}}


def tool(name, properties):
    parameters = {"type": "object", "properties": properties, "required": None}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def row(name, arguments):
    call = {"id": None, "type": "function", "function": {"name": name, "arguments": arguments}}
    turns = [
        {"role": "user", "content": "q", "tool_calls": None},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    return {"tools": [tool("move", MOVE), tool("paint", PAINT)], "messages": turns}


ROWS = [
    row("move", {"x": 3, "why": None, "colour": None}),
    row("paint", {"x": None, "why": None, "colour": "red"}),
]


def arguments_of(loaded):
    calls = [call for e in loaded.examples for m in e.messages for call in m.get("tool_calls", ())]
    return [call["function"]["arguments"] for call in calls]


def test_nulls_that_a_table_filled_in_are_taken_out(tmp_path):
    loaded = load(tmp_path, ROWS)
    assert arguments_of(loaded) == [{"x": 3, "why": None}, {"colour": "red"}]
    schemas = [one["function"]["parameters"] for one in loaded.examples[0].tools]
    assert schemas[1] == {"type": "object", "properties": {"colour": {"type": "string"}}}


def test_parquet_gives_the_same_as_json_lines(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.parquet"
    parquet.write_table(arrow.Table.from_pylist(ROWS), path)
    assert load_examples(path).fingerprint == load(tmp_path, ROWS).fingerprint


@pytest.mark.parametrize(
    ("schema", "kept"),
    [
        ({"type": "string"}, False),
        ({"type": "str, optional"}, False),
        ({"enum": ["a", "b"]}, False),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, False),
        ({"type": ["string", "null"]}, True),
        ({"type": "string", "nullable": True}, True),
        ({"enum": ["a", None]}, True),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, True),
        ({"description": "anything"}, True),
    ],
)
def test_nulls_that_the_schema_allows_stay(tmp_path, schema, kept):
    one = copy.deepcopy(row("f", {"deep": [{"x": None, "y": 1}]}))
    inner = {"type": "object", "properties": {"x": schema, "y": {"type": "integer"}}}
    one["tools"] = [tool("f", {"deep": {"type": "array", "items": inner}})]
    wanted = {"x": None, "y": 1} if kept else {"y": 1}
    assert arguments_of(load(tmp_path, [one])) == [{"deep": [wanted]}]


def test_parameters_may_be_named_without_a_schema(tmp_path):
    one = row("f", {"x": None, "y": "a", "z": None})
    one["tools"] = [{"name": "f", "parameters": {"x": {"type": "null"}, "y": {"type": "str"}}}]
    assert arguments_of(load(tmp_path, [one])) == [{"x": None, "y": "a"}]
    assert arguments_of(load(tmp_path, [{**one, "tools": None}])) == [{"y": "a"}]


def test_schemas_keep_nulls_in_lists():
    [made] = tools_of([{"name": "f", "parameters": {"enum": [None, "a"], "title": None}}])
    assert made["function"]["parameters"] == {"enum": [None, "a"]}
