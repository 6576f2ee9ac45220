"""Calls of functions are read back from what templates of well-known shapes write."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from kamerton.core.protocols import ToolCall
from kamerton.data.rendering.renderer import Renderer
from kamerton.data.rendering.tool_calls import CallForm, answer_ids, calls_of, find_call_form
from tests.unit.data.rendering.cases import CASES
from tests.unit.data.rendering.chats import message, renderer_of

_ITEMS = "{%- for key, value in call.function.arguments | items %}BODY{%- endfor %}"
_QWEN_CODER_ARGUMENT = (
    "{{- '\\n<parameter=' + key + '>\\n' + (value if value is string else value | tojson) "
    "+ '\\n</parameter>' }}"
)
_GLM_ARGUMENT = (
    "{{- '\\n<arg_key>' + key + '</arg_key>\\n<arg_value>' "
    "+ (value if value is string else value | tojson) + '</arg_value>' }}"
)
_ONE = "{%- for call in m.tool_calls or [] %}BODY{%- endfor %}"
SHAPES = {
    "hermes": '{{- \'\\n<tool_call>\\n{"name": "\' + call.function.name + \'", "arguments": \' '
    "+ call.function.arguments | tojson + '}\\n</tool_call>' }}",
    "llama3": '{{- \'<|python_tag|>{"name": "\' + call.function.name + \'", "parameters": \' '
    "+ call.function.arguments | tojson + '}' }}",
    "cohere": "{{- 'Action: [' + {'tool_name': call.function.name, "
    "'parameters': call.function.arguments} | tojson + ']' }}",
    "mistral-new": "{{- '[TOOL_CALLS]' + call.function.name + '[ARGS]' "
    "+ call.function.arguments | tojson }}",
    "deepseek": "{{- '<|sep|>function<|sep|>' + call.function.name + '\\n```json\\n' "
    "+ call.function.arguments | tojson + '\\n```<|sep|>' }}",
    "harmony": "{{- ' to=functions.' + call.function.name + '<|channel|>commentary json<|message|>'"
    " + call.function.arguments | tojson }}",
    "qwen-coder": "{{- '\\n<tool_call>\\n<function=' + call.function.name + '>' }}"
    + _ITEMS.replace("BODY", _QWEN_CODER_ARGUMENT)
    + "{{- '\\n</function>\\n</tool_call>' }}",
    "glm": "{{- '\\n<tool_call>' + call.function.name }}"
    + _ITEMS.replace("BODY", _GLM_ARGUMENT)
    + "{{- '\\n</tool_call>' }}",
}
"""What each writes for one call; their control tokens are `special` below."""
SPECIAL = ("<|python_tag|>", "[TOOL_CALLS]", "[ARGS]", "<|sep|>", "<|channel|>", "<|message|>")
CALLS = [
    {"name": "get_weather", "arguments": {"city": "Paris", "days": 3, "units": ["C", "F"]}},
    {"name": "add-note.v2", "arguments": {"text": 'He said: "no" {x}\nand left', "urgent": True}},
]


def shaped(name: str) -> Renderer:
    chatml = CASES["chatml"]
    template = (
        "{%- if tools %}{{ '<|im_start|>system\\n' + tools | tojson + '<|im_end|>\\n' }}{% endif %}"
        "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content }}"
        + _ONE.replace("BODY", SHAPES[name])
        + "{{- '<|im_end|>\\n' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    return renderer_of(replace(chatml, template=template, special=(*chatml.special, *SPECIAL)))


def read(renderer: Renderer, ids: Sequence[int]) -> str:
    return str(renderer.tokenizer.decode(ids, skip_special_tokens=True))


def form_of(renderer: Renderer) -> CallForm:
    form = find_call_form(renderer, lambda ids: read(renderer, ids))
    assert form is not None
    return form


def chat_with(calls: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    tool_calls = [{"type": "function", "function": call} for call in calls]
    answer = {"role": "assistant", "content": "", "tool_calls": tool_calls}
    return [message("user", "Please."), answer]


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("calls", [CALLS[:1], CALLS[1:], CALLS], ids=["one", "other", "both"])
def test_calls_are_read_as_the_template_writes_them(name: str, calls: list[dict[str, Any]]) -> None:
    renderer = shaped(name)
    chat = chat_with(calls)
    written = read(renderer, answer_ids(renderer, chat, ()))
    assert form_of(renderer).read(written) == calls_of(chat[-1])


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(
    "text",
    [
        "It is 22 degrees.",
        'Here is the data: {"city": "Paris"}',
        "[1, 2] and {broken",
        "call me (maybe)",
        "",
    ],
)
def test_other_texts_hold_no_calls(name: str, text: str) -> None:
    assert form_of(shaped(name)).read(text) == ()


@pytest.mark.parametrize(
    "text",
    [
        'Sure. {"arguments": {"days": 3.0, "city": "Paris"}, "name": "get_weather"}',
        '```json\n[{"name": "get_weather", "parameters": {"city": "Paris", "days": 3}}]\n```',
        '{"tool_calls": [{"function": {"name": "get_weather", '
        '"arguments": "{\\"city\\": \\"Paris\\", \\"days\\": 3}"}}]}',
        '[get_weather(city="Paris", days=3)]',
    ],
)
def test_plain_json_and_python_are_read_too(text: str) -> None:
    call = {"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}
    assert CallForm("name", "arguments").read(text) == calls_of(chat_with([call])[-1])


def test_the_order_of_keys_does_not_matter_but_types_do() -> None:
    one, other, text = (
        calls_of(chat_with([{"name": "f", "arguments": arguments}])[-1])
        for arguments in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": "1", "b": 2})
    )
    assert one == other != text
    assert one == (ToolCall("f", json.dumps({"a": 1, "b": 2})),)


def test_a_template_without_calls_has_no_form() -> None:
    renderer = renderer_of("llama3")
    assert find_call_form(renderer, lambda ids: read(renderer, ids)) is None


@pytest.mark.parametrize("case", ["chatml", "no-template"])
def test_the_forms_of_other_templates_are_found(case: str) -> None:
    renderer = renderer_of(case)
    chat = chat_with(CALLS)
    written = read(renderer, answer_ids(renderer, chat, ()))
    assert form_of(renderer).read(written) == calls_of(chat[-1])
