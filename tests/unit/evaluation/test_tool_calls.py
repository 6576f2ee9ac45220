"""Measuring calls of functions: what is right, what is counted, what is asked."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kamerton.core.errors import EvaluationError
from kamerton.core.protocols import Chat, Generation, TokenEvent, ToolCall, ToolSchemas
from kamerton.data.examples import ChatExample, SourceLocation
from kamerton.data.rendering.tool_calls import CallForm
from kamerton.evaluation.checks import Checked, check_answers, checks_for
from kamerton.evaluation.comparison import compare
from kamerton.evaluation.items import Item, make_items, run_items
from kamerton.evaluation.report import write_report
from kamerton.evaluation.settings import EvaluationSettings, ExactCheck, ToolCallsCheck
from kamerton.testing import FakeEngine

TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}
FORM = CallForm("name", "arguments")


def example(number: int, *calls: tuple[str, dict[str, Any]], text: str = "") -> ChatExample:
    answer: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        made = [{"function": {"name": name, "arguments": given}} for name, given in calls]
        answer["tool_calls"] = made
    asked = {"role": "user", "content": f"question {number}"}
    return ChatExample(SourceLocation("a.jsonl", number), (asked, answer), (TOOL,))


PARIS = ("get_weather", {"city": "Paris", "days": 2})
ROME = ("get_weather", {"city": "Rome"})
EXAMPLES = [example(1, PARIS), example(2, ROME, PARIS), example(3, text="I cannot know that.")]
ANSWERS = {
    "question 1": '<tool_call>{"arguments": {"days": 2, "city": "Paris"}, "name": "get_weather"}',
    "question 2": '{"name": "get_weather", "arguments": {"city": "Paris", "days": 2}} and '
    '{"name": "get_weather", "arguments": {"city": "Bonn"}}',
    "question 3": "I cannot know that.",
}


def answer(chat: Chat) -> str:
    return ANSWERS[chat[-1]["content"]]


def checked(check: ExactCheck | ToolCallsCheck, texts: Sequence[str] = ()) -> Checked:
    items = make_items(EXAMPLES)
    texts = texts or list(ANSWERS.values())
    return check_answers(check, items, texts, [FORM.read(text) for text in texts])


def test_right_calls_and_tools_stand_in_the_items() -> None:
    one, two, three = make_items(EXAMPLES)
    assert one.calls == (ToolCall("get_weather", '{"city": "Paris", "days": 2}'),)
    assert one.reference == '{"name": "get_weather", "arguments": {"city": "Paris", "days": 2}}'
    assert one.tools == (TOOL,)
    assert [call.arguments for call in two.calls] == [
        '{"city": "Rome"}',
        '{"city": "Paris", "days": 2}',
    ]
    assert (three.calls, three.reference) == ((), "I cannot know that.")
    (untold,) = make_items([replace(EXAMPLES[0], tools=())])
    assert untold.id != one.id


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (ToolCallsCheck(), [1, 0, None]),
        (ToolCallsCheck(metric="name"), [1, 1, None]),
        (ToolCallsCheck(metric="decision"), [1, 1, 1]),
        (ExactCheck(), [1, 0, 1]),
    ],
)
def test_calls_are_compared_by_name_and_arguments(
    check: ExactCheck | ToolCallsCheck, expected: list[float | None]
) -> None:
    values = checked(check).values.tolist()
    assert [None if value != value else value for value in values] == expected


def test_an_empty_answer_is_wrong_where_a_call_is_right() -> None:
    for check in (ExactCheck(), ToolCallsCheck(), ToolCallsCheck(metric="name")):
        assert checked(check, ["", "", ""]).values[0] == 0
    decisions = checked(ToolCallsCheck(metric="decision"), ["", "", ""]).values.tolist()
    assert decisions == [0, 0, 1]


def test_what_is_checked_by_itself_follows_the_right_answers() -> None:
    items = make_items(EXAMPLES)
    titles = [check.title for check in checks_for((), items)]
    assert titles == ["exact", "tool calls", "tool names", "tool decision"]
    assert [one.title for one in checks_for((), items[:2])] == ["tool calls", "tool names"]
    assert [one.title for one in checks_for((), items[2:])] == ["exact"]
    assert checks_for((ExactCheck(),), items) == (ExactCheck(),)


def test_calls_need_items_that_have_some() -> None:
    with pytest.raises(EvaluationError, match="'tool calls' needs items whose right answer"):
        check_answers(ToolCallsCheck(), [Item("1", (), "yes")], ["yes"])


def test_the_engine_is_shown_the_tools_and_the_report_shows_the_calls(tmp_path: Path) -> None:
    shown: list[ToolSchemas] = []

    class Asked(FakeEngine):
        def stream(
            self, chats: Sequence[Chat], generation: Generation, tools: Sequence[ToolSchemas] = ()
        ) -> Any:
            shown.extend(tools)
            events: list[TokenEvent] = list(super().stream(chats, generation, tools))
            return events

    items, settings = make_items(EXAMPLES), EvaluationSettings(resamples=100)
    answers = run_items(Asked(answer), "v", items, settings, read_calls=FORM.read)
    assert shown == [(TOOL,)] * 3
    assert answers.calls[0] == items[0].calls
    comparison = compare(items, [answers], settings)
    found = {one.metric: (one.value, one.n) for one in comparison.measured}
    assert found == {
        "exact": (pytest.approx(2 / 3), 3),
        "tool calls": (0.5, 2),
        "tool names": (1.0, 2),
        "tool decision": (1.0, 3),
    }
    write_report(tmp_path / "report.html", comparison, items, [answers])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "tool names" in page
    assert "Rome" in page
