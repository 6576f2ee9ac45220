"""Rendering: what templates refuse, rewrite, delete and leave out."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from kamerton.core.errors import RenderingError, SettingsError
from kamerton.data.rendering.renderer import RenderSettings, make_renderer
from kamerton.data.rendering.templates import with_date
from tests.unit.data.rendering.cases import CASES, Case, tokenizer_of
from tests.unit.data.rendering.chats import CHAT, chat, message, renderer_of, text_of, trained_texts


def test_a_second_template_is_used_for_tools() -> None:
    tokenizer = tokenizer_of(CASES["chatml"])
    own = tokenizer.chat_template
    tokenizer.chat_template = {"default": CASES["zephyr"].template, "tool_use": own}
    renderer = make_renderer(tokenizer, RenderSettings())
    row = renderer.render(chat(WITH_CALL, tools=(SCHEMA,)))
    assert trained_texts(renderer, row)[0].startswith("<tool_call>get_weather")
    assert text_of(renderer, renderer.render(chat(CHAT))).startswith("<|system|>\nBe kind.")


@pytest.mark.parametrize("name", ["gemma", "mistral"])
def test_system_text_goes_into_the_first_user_turn(name: str) -> None:
    renderer = renderer_of(name)
    assert renderer.facts.system == "in the first user turn"
    assert any("system" in notice for notice in renderer.facts.notices)
    assert "Be kind.\n\nIs it open?" in text_of(renderer, renderer.render(chat(CHAT)))


def test_system_text_that_a_template_drops_silently_is_kept() -> None:
    template = CASES["zephyr"].template
    assert template is not None
    dropping = template.replace("messages %}", "messages if m.role != 'system' %}", 1)
    renderer = renderer_of(replace(CASES["zephyr"], template=dropping))
    assert "Be kind." in text_of(renderer, renderer.render(chat(CHAT)))


@pytest.mark.parametrize("name", ["gemma", "mistral"])
def test_neighbours_of_one_role_are_merged_where_the_template_refuses_them(name: str) -> None:
    renderer = renderer_of(name)
    assert renderer.facts.merges_neighbours
    messages = [message("user", "Hello."), *CHAT[1:3], message("assistant", "Come in.")]
    row = renderer.render(chat(messages))
    assert "Hello.\n\nIs it open?" in text_of(renderer, row)
    assert trained_texts(renderer, row) == [
        CASES[name].answer.format("Yes, until six.\n\nCome in.")
    ]


def test_an_answer_merged_with_an_untrained_one_is_untrained() -> None:
    untrained = message("assistant", "Hm.", weight=0)
    renderer = renderer_of("gemma")
    row = renderer.render(chat([*CHAT[1:3], untrained, *CHAT[3:]]))
    assert trained_texts(renderer, row) == ["Тоже 🙂<end_of_turn>"]


def test_neighbours_of_one_role_stay_apart_elsewhere() -> None:
    renderer = renderer_of("chatml")
    row = renderer.render(chat([*CHAT[1:3], message("assistant", "Come in.")]))
    assert trained_texts(renderer, row) == ["Yes, until six.<|im_end|>", "Come in.<|im_end|>"]


def test_a_refusal_names_place_and_the_template_s_words() -> None:
    messages = [message("user", "Hi"), message("tool", "42"), message("assistant", "Yes")]
    with pytest.raises(RenderingError, match=r"data\.jsonl:7: .*roles must alternate"):
        renderer_of("mistral").render(chat(messages))


def test_rewritten_history_is_reported_and_split() -> None:
    renderer = renderer_of("qwen3")
    assert renderer.facts.deletes_history
    assert any("rewrites" in notice for notice in renderer.facts.notices)
    last, first = renderer.render_rows(chat(CHAT))
    assert text_of(renderer, first).count("<think>\n\n</think>\n\nYes, until six.") == 1
    assert "<think>\n\n</think>\n\nYes" not in text_of(renderer, last)
    # Each answer stands behind the very ids that generation would start from.
    for row, until in ((first, 2), (last, 4)):
        prompt = renderer.prompt_ids(CHAT[:until])
        assert row.ids[: len(prompt)].tolist() == prompt
        assert row.loss_mask.tolist() == [False] * len(prompt) + [True] * (
            len(row.ids) - len(prompt)
        )
    assert "1 earlier answers" in renderer.render(chat(CHAT)).notes[0]


def test_history_that_stays_is_not_split() -> None:
    assert not renderer_of("chatml").facts.deletes_history


def test_thinking_is_trained_when_it_is_on() -> None:
    renderer = renderer_of("qwen3", thinking=True)
    messages = [*CHAT[1:2], message("assistant", "Yes.", reasoning_content="It is noon.")]
    expected = ["<think>\nIt is noon.\n</think>\n\nYes.<|im_end|>"]
    assert trained_texts(renderer, renderer.render(chat(messages))) == expected
    inline = [*CHAT[1:2], message("assistant", "<think>\nIt is noon.\n</think>\n\nYes.")]
    assert trained_texts(renderer, renderer.render(chat(inline))) == expected


def test_reasoning_is_refused_when_thinking_is_off() -> None:
    messages = [*CHAT[1:2], message("assistant", "Yes.", reasoning_content="It is noon.")]
    with pytest.raises(RenderingError) as caught:
        renderer_of("qwen3").render(chat(messages))
    assert "render.thinking" in str(caught.value.hint)


def test_context_may_hold_what_could_not_be_trained() -> None:
    renderer = renderer_of("qwen3", train_on="last")
    earlier = message("assistant", "Yes.", reasoning_content="It is noon.")
    for context in (earlier, message("assistant", "")):
        messages = [CHAT[1], context, *CHAT[3:]]
        assert trained_texts(renderer, renderer.render(chat(messages))) == ["Тоже 🙂<|im_end|>"]
        prompt, answer = renderer.answer_ids(messages[:-1], "Тоже 🙂")
        assert prompt + answer == renderer.render(chat(messages)).ids.tolist()


@pytest.mark.parametrize("inline", [False, True])
def test_an_opened_thinking_block_is_filled_and_closed(inline: bool) -> None:
    renderer = renderer_of("r1")
    assert renderer.facts.thinking == "opened by the prompt"
    answer = (
        message("assistant", "<think>It is noon.</think>Yes.")
        if inline
        else message("assistant", "Yes.", reasoning_content="It is noon.")
    )
    row = renderer.render(chat([*CHAT[1:2], answer]))
    assert trained_texts(renderer, row) == ["It is noon.\n</think>\n\nYes.</s>"]


def test_reasoning_that_a_template_ignores_is_an_error() -> None:
    messages = [*CHAT[1:2], message("assistant", "Yes.", reasoning_content="It is noon.")]
    with pytest.raises(RenderingError, match=r"deletes a part of the answer: 'It is noon\.'"):
        renderer_of("llama3").render(chat(messages))


def test_user_text_that_a_template_deletes_is_an_error() -> None:
    template = "{% for m in messages %}{{ m.content.split('|')[0] + eos_token }}{% endfor %}"
    renderer = renderer_of(Case(template))
    with pytest.raises(RenderingError, match=r"deletes user text: 'one\|two'"):
        renderer.prompt_ids([message("user", "one|two")])


def test_generation_markers_are_compared() -> None:
    assert renderer_of("chatml-marked").facts.masks_by.endswith("markers agree")
    assert renderer_of("chatml").facts.masks_by == "incremental"
    template = str(CASES["chatml-marked"].template)
    wrong = template.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    wrong = "{% generation %}" + wrong + "{% endgeneration %}"
    facts = renderer_of(replace(CASES["chatml-marked"], template=wrong)).facts
    assert facts.masks_by == "incremental"
    assert any("marks" in notice for notice in facts.notices)


CALL = {
    "id": "callidone",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
}


WITH_CALL = (
    message("user", "Weather in Paris?"),
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    message("tool", "22 degrees", tool_call_id="callidone"),
    message("assistant", "It is 22 degrees."),
)
SCHEMA = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}


def test_tool_calls_are_trained_and_arguments_parsed() -> None:
    renderer = renderer_of("chatml")
    row = renderer.render(chat(WITH_CALL, tools=(SCHEMA,)))
    assert trained_texts(renderer, row) == [
        '<tool_call>get_weather{"city": "Paris"}</tool_call><|im_end|>',
        "It is 22 degrees.<|im_end|>",
    ]
    assert '"name": "get_weather", "parameters"' in text_of(renderer, row)


def test_arguments_stay_text_where_the_template_joins_them() -> None:
    template = str(CASES["chatml"].template).replace("arguments | tojson", "arguments")
    renderer = renderer_of(replace(CASES["chatml"], template=template))
    row = renderer.render(chat(WITH_CALL))
    assert trained_texts(renderer, row)[0].startswith('<tool_call>get_weather{"city": "Paris"}')


@pytest.mark.parametrize(
    ("messages", "tools", "reason"),
    [(WITH_CALL, (), "no place for tool calls"), (CHAT, (SCHEMA,), "no place for tools")],
)
def test_tools_that_a_template_ignores_are_an_error(
    messages: Sequence[dict[str, Any]], tools: tuple[dict[str, Any], ...], reason: str
) -> None:
    with pytest.raises(RenderingError, match=reason):
        renderer_of("llama3").render(chat(messages, tools=tools))


def test_the_plain_template_knows_tools() -> None:
    renderer = renderer_of("no-template")
    assert renderer.facts.chat_template == "supplied plain"
    row = renderer.render(chat(WITH_CALL, tools=(SCHEMA,)))
    assert "### Tools:\n" in text_of(renderer, row)
    assert "### Tool:\n22 degrees" in text_of(renderer, row)
    assert trained_texts(renderer, row)[0] == (
        '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call></s>'
    )


def test_an_end_is_added_where_the_template_writes_none() -> None:
    facts = renderer_of("no-end").facts
    assert facts.end_by == "added"
    assert any("</s> is added" in notice for notice in facts.notices)


def test_a_tokenizer_without_any_end_is_refused() -> None:
    with pytest.raises(RenderingError, match="EOS"):
        renderer_of(replace(CASES["no-end"], eos=None))


def test_a_template_that_writes_no_answers_is_refused() -> None:
    with pytest.raises(RenderingError, match="must write user and assistant text"):
        renderer_of(Case("{% for m in messages %}{{ m.role }}{% endfor %}"))


def test_a_template_with_todays_date_is_reported() -> None:
    template = "{{ strftime_now('%d %b %Y') }}" + str(CASES["zephyr"].template)
    facts = renderer_of(replace(CASES["zephyr"], template=template)).facts
    assert any("date" in notice for notice in facts.notices)


def test_facts_are_worded() -> None:
    lines = dict(renderer_of("llama3").facts.lines())
    assert lines["BOS"] == "one, by the template (id 400)"
    assert lines["end of answer"] == "<|eot_id|>, written by the template"


DATED = "{{ strftime_now('%d %b %Y') }}|{{ reasoning_effort or 'medium' }}\n"


def test_a_date_and_arguments_are_given_to_the_template() -> None:
    case = replace(CASES["zephyr"], template=DATED + str(CASES["zephyr"].template))
    renderer = renderer_of(case, date="2026-11-30", template_arguments={"reasoning_effort": "low"})
    row = text_of(renderer, renderer.render(chat(CHAT)))
    assert row.startswith("<s>30 Nov 2026|low<|system|>")
    assert not any("date" in notice for notice in renderer.facts.notices)


@pytest.mark.parametrize(
    "template", ["{}", "\n{}", " {% set x = 1 %}\n{}", "{%- set f = '%e' %}{}"]
)
def test_a_given_date_changes_nothing_else(template: str) -> None:
    now = "{{ strftime_now('%Y-%m-%d, %A %-d. %B (%b, %a) %H:%M %y %j 100%%') }}"
    tokenizer = tokenizer_of(CASES["zephyr"])

    def write(template: str) -> str:
        options = {"chat_template": template, "tokenize": False}
        return str(tokenizer.apply_chat_template([message("user", "Hi")], **options))

    day = datetime(2026, 3, 1)
    template = template.replace("{}", now)
    expected = write(template.replace(now, day.strftime(now[17:-5])))
    assert "01" in expected
    assert write(with_date(template, "2026-03-01")) == expected
    assert with_date("no date", "2026-03-01") == "no date"


def test_an_argument_that_the_template_does_not_read_is_an_error() -> None:
    with pytest.raises(RenderingError, match="does not read 'reasoning_effort'"):
        renderer_of("zephyr", template_arguments={"reasoning_effort": "low"})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"date": "30.11.2026"}, 'must be a day such as "2026-11-30"'),
        ({"template_arguments": {"enable_thinking": True}}, "set render.thinking"),
        ({"template_arguments": {"messages": "x"}}, "the renderer gives it"),
        ({"template_arguments": {"two words": "x"}}, "names that a template can read"),
    ],
)
def test_wrong_dates_and_arguments_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        RenderSettings.parse(settings)


def test_ends_of_the_base_end_answers_too() -> None:
    tokenizer = tokenizer_of(CASES["llama3"])
    eot, text_end = map(tokenizer.convert_tokens_to_ids, ("<|eot_id|>", "<|end_of_text|>"))
    header = tokenizer.convert_tokens_to_ids("<|start_header_id|>")
    plain = make_renderer(tokenizer, RenderSettings())
    assert plain.stop_ids == {eot, text_end}
    assert make_renderer(tokenizer, RenderSettings(), ends=(text_end, header)).stop_ids == {
        eot, text_end, header,
    }  # fmt: skip
    # What stands inside answers ends none of them, whatever a base's configuration says.
    tokenizer = tokenizer_of(CASES["gpt-oss"])
    ends = map(tokenizer.convert_tokens_to_ids, ("<|return|>", "<|call|>", "<|end|>"))
    found = make_renderer(tokenizer, RenderSettings(), ends=tuple(ends)).stop_ids
    assert {tokenizer.convert_ids_to_tokens(token) for token in found} == {"<|return|>", "<|call|>"}
