"""What an answer must follow, as clients of OpenAI and of vLLM write it."""

import json

import pytest
from pydantic import ValidationError

from kamerton.core.requests import Grammar
from kamerton.wire.bodies import ChatRequest

ASKED = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
AS_TEXT = json.dumps(SCHEMA)
ANY = Grammar("json_schema", '{"type": "object"}')


@pytest.mark.parametrize(
    ("fields", "grammar"),
    [
        ({}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, ANY),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": SCHEMA, "strict": True},
                }
            },
            Grammar("json_schema", AS_TEXT),
        ),
        ({"guided_json": SCHEMA}, Grammar("json_schema", AS_TEXT)),
        ({"guided_json": AS_TEXT}, Grammar("json_schema", AS_TEXT)),
        ({"guided_regex": "a+"}, Grammar("regex", "a+")),
        ({"guided_choice": ["да", "no"]}, Grammar("choice", '["да", "no"]')),
        ({"structured_outputs": {"json": SCHEMA}}, Grammar("json_schema", AS_TEXT)),
        ({"structured_outputs": {"regex": "a+"}}, Grammar("regex", "a+")),
        ({"structured_outputs": {"choice": ["a"]}}, Grammar("choice", '["a"]')),
        ({"structured_outputs": {"json_object": True}}, ANY),
    ],
)
def test_all_spellings_are_read(fields, grammar):
    assert ChatRequest.model_validate({**ASKED, **fields}).grammar == grammar


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "json_schema is needed"),
        ({"guided_choice": []}, "choice"),
        ({"guided_choice": [""]}, "no empty text"),
        ({"guided_grammar": "root ::= x"}, "cannot be followed"),
        ({"structured_outputs": {"grammar": "root ::= x"}}, "cannot be followed"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "only one"),
        ({"guided_regex": "a", "response_format": {"type": "json_object"}}, "can follow one"),
    ],
)
def test_what_cannot_be_followed_is_named(fields, said):
    with pytest.raises(ValidationError, match=said):
        ChatRequest.model_validate({**ASKED, **fields})
