"""Calls in an answer: held back while it is written, read at its end."""

from copy import deepcopy

import pytest

from kamerton.core.protocols import Generation, ToolCall
from kamerton.core.requests import AnswerRequest, AnswerUpdate, ServedModel
from kamerton.data.rendering.renderer import make_renderer
from kamerton.data.rendering.tokenized import RenderSettings
from kamerton.data.rendering.tool_calls import CallForm
from kamerton.inference.calls import CallReader, call_form_of
from kamerton.inference.continuous_engine import ContinuousEngine, LoadedVariant
from kamerton.models.load import load_base
from kamerton.prompting.prompt import Prompt
from kamerton.wire.bodies import ChatRequest

PARIS = ToolCall("weather", '{"city": "Paris"}')
ROME = ToolCall("weather", '{"city": "Rome"}')
HERMES = CallForm("name", "arguments")
MISTRAL = CallForm(lead="[TOOL_CALLS]", between="[ARGS]")
WORDS = CallForm(lead="to=functions.", between="json")


def read(
    text: str, form: CallForm = HERMES, *, reason: str = "stop", several: bool = True
) -> tuple[list[str], AnswerUpdate]:
    """Give the pieces that were shown before the end, and the end; each character is a piece."""
    reader = CallReader(form, {"weather"}, several=several)
    pieces = [reader.take(AnswerUpdate("a", character)).text for character in text]
    return [piece for piece in pieces if piece], reader.take(
        AnswerUpdate("a", finish_reason=reason)
    )


@pytest.mark.parametrize(
    ("text", "form", "shown", "calls"),
    [
        (
            'I look.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}</tool_call>',
            HERMES, "I look.\n", (PARIS,),
        ),
        (
            '[{"name": "weather", "arguments": {"city": "Paris"}}, '
            '{"name": "weather", "arguments": {"city": "Rome"}}]',
            HERMES, "", (PARIS, ROME),
        ),
        ('[TOOL_CALLS]weather[ARGS]{"city": "Rome"}', MISTRAL, "", (ROME,)),
        ('Now to=functions.weather json {"city": "Rome"}', WORDS, "Now ", (ROME,)),
        ('weather(city="Paris")', HERMES, "", (PARIS,)),
        ('```json\n{"name": "weather", "arguments": {"city": "Paris"}}\n```', HERMES, "", (PARIS,)),
    ],
)  # fmt: skip
def test_calls_are_read_and_their_text_is_not_shown(text, form, shown, calls):
    pieces, end = read(text, form)
    assert "".join(pieces) + end.text in (shown, shown.rstrip())
    assert end.tool_calls == calls
    assert end.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    "text",
    [
        "It rains in Paris.",
        "One < two, [sic] and {so on}",
        '{"name": "other", "arguments": {}}',
        '{"name": "weather", "argum',
        "weather",
        "Call weather() to know",
    ],
)
def test_other_answers_come_whole(text):
    pieces, end = read(text)
    assert "".join(pieces) + end.text == text
    assert (end.tool_calls, end.finish_reason) == ((), "stop")


def test_plain_text_is_not_held_back():
    pieces, end = read("It rains in Paris.")
    assert len(pieces) > 10
    assert end.text == ""


def test_an_answer_that_was_cut_says_so_and_one_call_can_be_all():
    both = "".join(
        f'<tool_call>{{"name": "weather", "arguments": {{"city": "{city}"}}}}</tool_call>'
        for city in ("Paris", "Rome")
    )
    assert read(both, reason="length")[1].finish_reason == "length"
    assert read(both)[1].tool_calls == (PARIS, ROME)
    assert read(both, several=False)[1].tool_calls == (PARIS,)


TEMPLATE = (
    "{%- if tools %}{{ '<|system|>' + tools | tojson }}{% endif %}"
    "{%- for m in messages %}{{ '<|' + m.role + '|>' + m.content }}"
    "{%- for call in m.tool_calls or [] %}"
    '{{ \'<tool_call>{"name": "\' + call.function.name + \'", "arguments": \' }}'
    "{{ call.function.arguments | tojson + '}</tool_call>' }}{%- endfor %}"
    "{{ eos_token }}{% endfor %}"
    "{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
ASKED = {
    "model": "nano",
    "messages": [{"role": "user", "content": "Is it warm in Rome?"}],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": name,
                "parameters": {
                    "type": "object",
                    "properties": {"city": {"enum": ["Paris", "Rome"]}},
                    "required": ["city"],
                    "additionalProperties": False,
                },
            },
        }
        for name in ("weather", "time")
    ],
}


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", {"weather", "time"}),
        ({"type": "function", "function": {"name": "time"}}, {"time"}),
    ],
)
def test_a_call_that_must_be_made_is_made(choice, names):
    base = load_base("builtin:nano", dtype="float32")
    tokenizer = deepcopy(base.tokenizer)
    tokenizer.chat_template = TEMPLATE
    renderer = make_renderer(tokenizer, RenderSettings(), ends=base.ends)
    assert call_form_of(renderer).name_key == "name"
    model = ServedModel("nano", "base", "hash", "nano")
    engine = ContinuousEngine(base, [LoadedVariant(model, renderer, Prompt())])
    body = ChatRequest.model_validate(
        {**ASKED, "tool_choice": choice, "parallel_tool_calls": False}
    )
    request = AnswerRequest(
        "a", "nano", Generation(max_tokens=200), [m.plain() for m in body.messages],
        tools=body.offered_tools, grammar=body.grammar,
    )  # fmt: skip
    assert engine.add(request) == []
    updates = []
    while not engine.is_idle:
        updates += engine.step()
    end = updates[-1]
    assert "".join(update.text for update in updates) == ""
    assert end.finish_reason == "tool_calls"
    (call,) = end.tool_calls
    assert call.name in names
    assert call.arguments in ('{"city": "Paris"}', '{"city": "Rome"}')


def test_a_template_without_tools_refuses_them():
    base = load_base("builtin:nano", dtype="float32")
    renderer = make_renderer(base.tokenizer, RenderSettings(), ends=base.ends)
    model = ServedModel("nano", "base", "hash", "nano")
    engine = ContinuousEngine(base, [LoadedVariant(model, renderer, Prompt())])
    body = ChatRequest.model_validate(ASKED)
    chat = [message.plain() for message in body.messages]
    (update,) = engine.add(AnswerRequest("a", "nano", Generation(), chat, tools=body.offered_tools))
    assert update.is_client_error
    assert "no place for tools" in update.error
