"""Rows become examples, one parser per format; a row with several answers becomes several pairs."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from kamerton.data.examples import (
    ChatExample,
    ClassificationExample,
    Example,
    FeedbackExample,
    Message,
    PreferenceExample,
    TextExample,
)
from kamerton.data.formats.calls import holds_calls, with_meant_arguments
from kamerton.data.formats.cells import stored_turns
from kamerton.data.formats.detection import Schema
from kamerton.data.formats.fields import Fields
from kamerton.data.formats.messages import Unusable, assistant, decoded, messages_of, tools_of, user
from kamerton.data.formats.preferences import feedback, preference
from kamerton.data.formats.rankings import ranking
from kamerton.data.formats.ratings import RatedAnswer, rated_answer
from kamerton.data.rows import Rejection, Row
from kamerton.data.values import broken_text, is_blank, kind_of, number_text

__all__ = ["parse_row"]


def parse_row(row: Row, schema: Schema) -> tuple[Example, ...] | RatedAnswer | Rejection:
    """Make examples of a row.

    Args:
        row: The row that was read.
        schema: Format of the rows of its data set.

    Returns:
        The examples, nearly always one; an answer that waits for others to its prompt; or why the
        row cannot be used.
    """
    try:
        fault = broken_text(row.fields)
        if fault:
            raise Unusable(*fault)
        missing = schema.missing(row.fields)
        if missing:
            name = schema.sources.get(missing[0], missing[0])
            raise Unusable(name, "is missing or null")
        fields = Fields(row, schema)
        tools = tools_of(fields.value("tools"), fields.source("tools"))
        match schema.format:
            case "ranking":
                pairs = ranking(fields)
                return tuple(
                    with_meant_arguments(replace(pair, tools=tools), tools) for pair in pairs
                )
            case "rating":
                return with_meant_arguments(replace(rated_answer(fields), tools=tools), tools)
            case _:
                made = _with_tools(_PARSERS[schema.format](fields), tools)
                return (with_meant_arguments(made, tools),)
    except Unusable as error:
        return Rejection(row.location, error.field, error.reason)


def _with_tools(example: Example, tools: tuple[Mapping[str, Any], ...]) -> Example:
    """Show the tools of a row to whatever kind of example has a prompt to show them in."""
    if isinstance(example, PreferenceExample | FeedbackExample):
        return replace(example, tools=tools)
    return example


def _chat(fields: Fields) -> Example:
    source = fields.source("messages")
    messages = messages_of(fields.value("messages"), source, fields.schema.speakers)
    if not any(message["role"] == "assistant" for message in messages):
        raise Unusable(source, "must have an assistant turn, found none to learn from")
    _check_trained(messages, source)
    return _chat_example(fields, (*fields.system(messages), *messages))


def _prompt(fields: Fields) -> Example:
    prompt = fields.turns("prompt", user)
    answer = _called(fields) or fields.turns("completion", assistant)
    if not any(message["role"] == "assistant" for message in answer):
        raise Unusable(fields.source("completion"), "must have an assistant turn")
    if not prompt:
        raise Unusable(fields.source("prompt"), "is empty")
    _check_trained(answer, fields.source("completion"))
    if answer[-1]["role"] == "assistant":
        answer = fields.reasoned(answer)
    return _chat_example(fields, (*fields.asked(prompt), *answer))


def _called(fields: Fields) -> tuple[Message, ...]:
    """Read an answer that is nothing but calls of the row's tools; other JSON is text."""
    answer, source = fields.value("completion"), fields.source("completion")
    if not holds_calls(answer):
        return ()
    tools = tools_of(fields.value("tools"), fields.source("tools"))
    schemas = [tool["function"] for tool in tools]
    known = {schema.get("name") for schema in schemas if isinstance(schema, Mapping)}
    calls = decoded(answer, source)
    if isinstance(answer, str) and not {call["name"] for call in calls} <= known:
        return ()
    return messages_of([{"role": "assistant", "tool_calls": calls}], source)


def _alpaca(fields: Fields) -> Example:
    question = fields.question("instruction", "input")
    answer = fields.reasoned((assistant(fields.text("output")),))
    messages = (*_history(fields), user(question), *answer)
    return _chat_example(fields, (*fields.system(messages), *messages))


def _classification(fields: Fields) -> Example:
    value, source = fields.value("label"), fields.source("label")
    if fields.schema.several_classes:
        # Several classes of one text are an answer of their own: a list of them.
        listed = value if isinstance(value, list) else [value]
        classes = [_label(one, f"{source}.{position}") for position, one in enumerate(listed)]
        answer = json.dumps(classes, ensure_ascii=False)
        messages = (user(fields.text("text")), assistant(answer))
        return ChatExample(
            fields.row.location, messages, group=fields.group, label=answer, extra=fields.extra
        )
    label = _label(value, source)
    return ClassificationExample(
        fields.row.location, fields.question("text"), label, fields.group, fields.extra
    )


def _plain(fields: Fields) -> Example:
    return TextExample(fields.row.location, fields.text("text"), fields.group, fields.extra)


_PARSERS: Mapping[str, Callable[[Fields], Example]] = {
    "chat": _chat,
    "prompt": _prompt,
    "alpaca": _alpaca,
    "classification": _classification,
    "preference": preference,
    "feedback": feedback,
    "text": _plain,
}


def _chat_example(fields: Fields, messages: tuple[Message, ...]) -> ChatExample:
    value = fields.value("label")
    return ChatExample(
        fields.row.location,
        messages,
        tools=tools_of(fields.value("tools"), fields.source("tools")),
        group=fields.group,
        label=None if value in (None, "") else _label(value, fields.source("label")),
        extra=fields.extra,
    )


def _check_trained(messages: tuple[Message, ...], source: str) -> None:
    answers = [message for message in messages if message["role"] == "assistant"]
    if all(message.get("weight") == 0 for message in answers):
        raise Unusable(source, "must have an assistant turn to train, all have the weight 0")


def _history(fields: Fields) -> tuple[Message, ...]:
    value = fields.value("history")
    if value is None or value == "":
        return ()
    field = fields.source("history")
    if isinstance(value, str):
        value = stored_turns(value, field) or decoded(value, field)
    if isinstance(value, list) and value and all(isinstance(turn, Mapping) for turn in value):
        return messages_of(value, field, fields.schema.speakers)
    if not isinstance(value, list):
        raise Unusable(field, "must be a list of [question, answer]")
    turns: list[Message] = []
    for i, pair in enumerate(value):
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or not all(isinstance(text, str) and text.strip() for text in pair)
        ):
            raise Unusable(f"{field}.{i}", "must be [question, answer], two texts")
        turns += [user(pair[0]), assistant(pair[1])]
    return tuple(turns)


def _label(value: Any, field: str) -> str:
    if isinstance(value, int | float):
        return number_text(value)
    if not isinstance(value, str):
        raise Unusable(field, f"must be one class as text or a number, got {kind_of(value)}")
    if is_blank(value):
        raise Unusable(field, "is empty")
    return value.strip()
