"""Rows become examples, one parser per format."""

from collections.abc import Callable, Mapping
from typing import Any

from kamerton.core.sequences import shared_prefix
from kamerton.data.examples import (
    ChatExample,
    ClassificationExample,
    Example,
    FeedbackExample,
    Message,
    PreferenceExample,
    TextExample,
)
from kamerton.data.formats import Schema, yes_or_no
from kamerton.data.messages import Unusable, assistant, messages_of, tools_of, user
from kamerton.data.rows import Rejection, Row
from kamerton.data.values import broken_text, kind_of, value_at

__all__ = ["parse_row"]

_ANSWER_MARK = "\n\nAssistant:"


def parse_row(row: Row, schema: Schema) -> Example | Rejection:
    """Make an example of a row.

    Args:
        row: As read.
        schema: What the rows of its data set are.

    Returns:
        The example, or why the row cannot be used.
    """
    try:
        fault = broken_text(row.fields)
        if fault:
            raise Unusable(*fault)
        missing = schema.missing(row.fields)
        if missing:
            name = schema.sources.get(missing[0], missing[0])
            raise Unusable(name, "is missing or null")
        return _PARSERS[schema.format](row, schema)
    except Unusable as error:
        return Rejection(row.place, error.field, error.reason)


def _chat(row: Row, schema: Schema) -> Example:
    source = schema.sources["messages"]
    messages = messages_of(schema.value(row.fields, "messages"), source)
    if not any(message["role"] == "assistant" for message in messages):
        raise Unusable(source, "must have an assistant turn, found none to learn from")
    return _chat_example(row, schema, (*_system(row, schema, messages), *messages))


def _prompt(row: Row, schema: Schema) -> Example:
    prompt = _turns(row, schema, "prompt", user)
    answer = _turns(row, schema, "completion", assistant)
    if not any(message["role"] == "assistant" for message in answer):
        raise Unusable(schema.sources["completion"], "must have an assistant turn")
    if not prompt:
        raise Unusable(schema.sources["prompt"], "is empty")
    return _chat_example(row, schema, (*_system(row, schema, prompt), *prompt, *answer))


def _alpaca(row: Row, schema: Schema) -> Example:
    instruction = _text(row, schema, "instruction")
    given = _optional_text(row, schema, "input")
    question = f"{instruction}\n\n{given}" if given.strip() else instruction
    messages = (*_history(row, schema), user(question), assistant(_text(row, schema, "output")))
    return _chat_example(row, schema, (*_system(row, schema, messages), *messages))


def _classification(row: Row, schema: Schema) -> Example:
    label = _label(schema.value(row.fields, "label"), schema.sources["label"])
    return ClassificationExample(
        row.place, _text(row, schema, "text"), label, _group(row, schema), _extra(row, schema)
    )


def _preference(row: Row, schema: Schema) -> Example:
    if schema.value(row.fields, "prompt") is None:
        prompt, chosen, rejected = _common_prompt(row, schema)
    else:
        prompt = _turns(row, schema, "prompt", user)
        chosen = _continuation(_turns(row, schema, "chosen", assistant), prompt)
        rejected = _continuation(_turns(row, schema, "rejected", assistant), prompt)
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        _check_answer(answer, schema.sources[name])
    if not prompt:
        raise Unusable(schema.sources.get("prompt", "prompt"), "no prompt before the answers")
    prompt = (*_system(row, schema, prompt), *prompt)
    return PreferenceExample(
        row.place, prompt, chosen, rejected, _group(row, schema), _extra(row, schema)
    )


def _feedback(row: Row, schema: Schema) -> Example:
    good = yes_or_no(schema.value(row.fields, "label"))
    if good is None:
        raise Unusable(schema.sources["label"], "must be true or false")
    if schema.value(row.fields, "messages") is not None:
        source = schema.sources["messages"]
        messages = messages_of(schema.value(row.fields, "messages"), source)
        # The judged answer is all that follows the last turn of the user.
        start = max((i + 1 for i, m in enumerate(messages) if m["role"] == "user"), default=0)
        prompt, completion = messages[:start], messages[start:]
    else:
        source = schema.sources["completion"]
        prompt = _turns(row, schema, "prompt", user)
        completion = _turns(row, schema, "completion", assistant)
    _check_answer(completion, source)
    if not prompt:
        raise Unusable(source, "no prompt before the answer")
    prompt = (*_system(row, schema, prompt), *prompt)
    return FeedbackExample(
        row.place, prompt, completion, good, _group(row, schema), _extra(row, schema)
    )


def _plain(row: Row, schema: Schema) -> Example:
    text = _text(row, schema, "text")
    return TextExample(row.place, text, _group(row, schema), _extra(row, schema))


_PARSERS: Mapping[str, Callable[[Row, Schema], Example]] = {
    "chat": _chat,
    "prompt": _prompt,
    "alpaca": _alpaca,
    "classification": _classification,
    "preference": _preference,
    "feedback": _feedback,
    "text": _plain,
}


def _chat_example(row: Row, schema: Schema, messages: tuple[Message, ...]) -> ChatExample:
    value = schema.value(row.fields, "label")
    return ChatExample(
        row.place,
        messages,
        tools=tools_of(schema.value(row.fields, "tools"), schema.sources.get("tools", "tools")),
        group=_group(row, schema),
        label=None if value in (None, "") else _label(value, schema.sources["label"]),
        extra=_extra(row, schema),
    )


def _text(row: Row, schema: Schema, name: str) -> str:
    value = schema.value(row.fields, name)
    if not isinstance(value, str):
        raise Unusable(schema.sources[name], f"must be text, got {kind_of(value)}")
    if not value.strip():
        raise Unusable(schema.sources[name], "is empty")
    return value


def _optional_text(row: Row, schema: Schema, name: str) -> str:
    value = schema.value(row.fields, name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unusable(schema.sources[name], f"must be text, got {kind_of(value)}")
    return value


def _turns(
    row: Row, schema: Schema, name: str, speak: Callable[[str], Message]
) -> tuple[Message, ...]:
    """Read a field that is plain text or a list of turns."""
    value = schema.value(row.fields, name)
    if isinstance(value, list | Mapping):
        return messages_of(value, schema.sources[name])
    text = _text(row, schema, name)
    if _is_turns(text):
        return messages_of(text, schema.sources[name])
    given = row.fields.get("input")
    if name == "prompt" and schema.sources[name] == "instruction" and isinstance(given, str):
        text = f"{text}\n\n{given}" if given.strip() else text
    return (speak(text),)


def _is_turns(text: str) -> bool:
    """Tell turns stored as JSON text in a table cell from an answer that happens to be JSON."""
    start = text.lstrip()[:200]
    return start.startswith("[") and "{" in start[:4] and ('"role"' in start or '"from"' in start)


def _system(row: Row, schema: Schema, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    text = _optional_text(row, schema, "system")
    if not text.strip() or (messages and messages[0]["role"] == "system"):
        return ()
    return ({"role": "system", "content": text},)


def _history(row: Row, schema: Schema) -> tuple[Message, ...]:
    value = schema.value(row.fields, "history")
    if value is None or value == "":
        return ()
    field = schema.sources["history"]
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
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if not isinstance(value, str):
        raise Unusable(field, f"must be one class as text or a number, got {kind_of(value)}")
    if not value.strip():
        raise Unusable(field, "is empty")
    return value.strip()


def _check_answer(answer: tuple[Message, ...], field: str) -> None:
    if not answer or answer[0]["role"] == "user" or answer[-1]["role"] != "assistant":
        raise Unusable(field, "must be the assistant's answer to the prompt")


def _continuation(answer: tuple[Message, ...], prompt: tuple[Message, ...]) -> tuple[Message, ...]:
    """Take off the prompt where an answer repeats it."""
    return answer[len(prompt) :] if answer[: len(prompt)] == prompt else answer


def _common_prompt(
    row: Row, schema: Schema
) -> tuple[tuple[Message, ...], tuple[Message, ...], tuple[Message, ...]]:
    """Split two whole conversations into what they share and how they end."""
    if isinstance(schema.value(row.fields, "chosen"), str):
        chosen_text = _text(row, schema, "chosen")
        rejected_text = _text(row, schema, "rejected")
        if not _is_turns(chosen_text):
            return _common_transcript(chosen_text, rejected_text, schema)
    chosen = _turns(row, schema, "chosen", assistant)
    rejected = _turns(row, schema, "rejected", assistant)
    # Equal answers share everything; the last turn is then the answer.
    most = min(len(chosen), len(rejected)) - 1
    shared = next((i for i in range(most) if chosen[i] != rejected[i]), max(0, most))
    return chosen[:shared], chosen[shared:], rejected[shared:]


def _common_transcript(
    chosen: str, rejected: str, schema: Schema
) -> tuple[tuple[Message, ...], tuple[Message, ...], tuple[Message, ...]]:
    """Split "Human: ... Assistant: ..." transcripts after the last mark that both share."""
    end = chosen.rfind(_ANSWER_MARK, 0, shared_prefix(chosen, rejected))
    if end < 0:
        raise Unusable(
            schema.sources.get("prompt", "prompt"), "is missing, and the answers share no prompt"
        )
    end += len(_ANSWER_MARK)
    answers = []
    for name, text in (("chosen", chosen), ("rejected", rejected)):
        answer = text[end:].strip()
        if not answer:
            raise Unusable(schema.sources[name], "the answer is empty")
        if "\n\nHuman:" in text[end:]:
            raise Unusable(schema.sources[name], "the transcripts differ before their last answer")
        answers.append((assistant(answer),))
    return (user(chosen[:end].strip()),), answers[0], answers[1]


def _group(row: Row, schema: Schema) -> str | None:
    if not schema.group:
        return None
    value = value_at(row.fields, schema.group)
    return None if value in (None, "") else str(value)


def _extra(row: Row, schema: Schema) -> dict[str, Any]:
    """Keep the other columns; a nested source keeps its whole column."""
    used = set(schema.sources.values())
    return {k: v for k, v in row.fields.items() if k not in used and v is not None}
