"""Rows without an answer as questions, in the form that training rows had."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from kamerton.core.errors import DataError
from kamerton.core.language import translated
from kamerton.core.settings import suggestion
from kamerton.data.columns import columns_of, read_column
from kamerton.data.examples import ChatExample, ClassificationExample, Example, Message
from kamerton.data.formats.calls import with_meant_arguments
from kamerton.data.formats.detection import Schema
from kamerton.data.formats.fields import Fields
from kamerton.data.formats.messages import Unusable, messages_of, tools_of
from kamerton.data.formats.parsing import parse_row
from kamerton.data.formats.speakers import Speakers
from kamerton.data.privacy.redaction import Redactor
from kamerton.data.rows import Rejection, Row
from kamerton.data.settings import DataSettings, FormatName
from kamerton.data.values import JSON_DECODER, broken_text, paths_of

__all__ = [
    "AnswerForm",
    "Question",
    "answer_form",
    "fit_to_file",
    "json_values",
    "question_of",
]

_PLACEHOLDER = "kamerton.answer"
"""Stands for the column of the answer, which a question lacks."""
_ANSWERS = {"classification": "label", "prompt": "completion", "alpaca": "output"}
_ASKED = {
    "classification": "text",
    "prompt": "prompt",
    "alpaca": "instruction",
    "chat": "messages",
}
_BESIDE = ("system", "context", "input", "history", "tools")
_USUAL_NAMES = ("prompt", "question", "query", "text", "message", "instruction", "body")
_MOST_FIELDS = 100


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """What a variant was asked and what it answered in training.

    Attributes:
        format: Format of the rows.
        columns: Our field to the column, or template of columns, that it was read from.
        labels: The classes, in order of the alphabet; empty where answers are no classes.
        json_fields: Keys of the answers, where each is a JSON object.
    """

    format: str
    columns: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    json_fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """A row as a model is asked.

    Attributes:
        chat: Messages up to the answer.
        tools: The functions that may be called.
    """

    chat: tuple[Message, ...]
    tools: tuple[Mapping[str, object], ...] = ()


def answer_form(schema: Schema, examples: Sequence[Example]) -> AnswerForm:
    """Describe training data, so that other rows can be asked in the same way.

    Args:
        schema: Format and columns of the rows.
        examples: What was learned from.

    Returns:
        The description.
    """
    labels = {one.label for one in examples if isinstance(one, ClassificationExample)}
    return AnswerForm(
        schema.format, dict(schema.sources), tuple(sorted(labels)), _json_fields(examples)
    )


def _json_fields(examples: Sequence[Example]) -> tuple[str, ...]:
    """List the keys of answers that are JSON objects; none as soon as one answer is not."""
    found: dict[str, None] = {}
    for example in examples:
        if not isinstance(example, ChatExample):
            return ()
        text = example.messages[-1].get("content")
        value = _decoded(text) if isinstance(text, str) and text.lstrip()[:1] == "{" else None
        if not isinstance(value, dict) or example.messages[-1].get("tool_calls"):
            return ()
        found |= dict.fromkeys(value)
        if len(found) > _MOST_FIELDS:
            return ()
    return tuple(found)


def _decoded(text: str) -> object:
    try:
        return JSON_DECODER.decode(text.strip())
    except (ValueError, RecursionError):
        return None


def fit_to_file(
    form: AnswerForm, sample: Sequence[Mapping[str, object]], settings: DataSettings, name: str
) -> tuple[Schema, list[str]]:
    """Find the columns of a file that make a question.

    Args:
        form: What training rows were.
        sample: The first rows of the file.
        settings: How the file is read; its columns go before those of training.
        name: The file's name in errors.

    Returns:
        The schema that `question_of` takes, and notices of what differs from training.

    Raises:
        DataError: If the training rows asked nothing, or no column holds the question.
    """
    if form.format == "text":
        raise DataError(
            translated(
                "{name}: the variant learned plain text, which has no questions to answer",
                name=name,
            ),
            hint=translated("kamerton chat goes on from a text"),
        )
    format = _question_format(form, settings.columns)
    asked = _ASKED[format]
    kept = {ours: theirs for ours, theirs in form.columns.items() if ours in (asked, *_BESIDE)}
    sources = {**kept, **{k: v for k, v in settings.columns.items() if k in (asked, *_BESIDE)}}
    if named := _main_column(settings.columns):
        # Whoever names the question names it by the field of any format.
        sources[asked] = named
    notices: list[str] = []
    found = sorted(set().union(*(paths_of(fields) for fields in sample)))
    for ours, source in settings.columns.items():
        for column in columns_of(source):
            # An empty name leaves a side field out.
            if column and not _is_in(sample, column):
                raise _missing(name, column, ours, found)
    if not _is_in(sample, sources.get(asked, "")):
        usual = next((column for column in _USUAL_NAMES if _is_in(sample, column)), "")
        if not usual:
            raise _missing(name, sources.get(asked, asked), asked, found)
        format = "prompt" if format == "chat" else format
        asked = _ASKED[format]
        before = sources.get(asked, form.columns.get("messages", ""))
        sources[asked] = usual
        notices.append(f"the question is read from '{usual}'; in training it stood in '{before}'")
    for ours in _BESIDE:
        column = sources.get(ours, "")
        if column and not _is_in(sample, column):
            notices.append(f"training rows had '{column}' beside the question, this file has not")
        if not column or not _is_in(sample, column):
            sources.pop(ours, None)
    sources = {ours: column for ours, column in sources.items() if ours in (asked, *_BESIDE)}
    if format in _ANSWERS:
        sources[_ANSWERS[format]] = _PLACEHOLDER
    speakers = Speakers(settings.roles, settings.columns)
    return Schema(format, sources, explicit=True, speakers=speakers), notices


def _question_format(form: AnswerForm, columns: Mapping[str, str]) -> FormatName:
    """Tell how rows are asked: pairs, ratings and verdicts as a prompt or a chat."""
    if form.format == "classification":
        return "classification"
    if form.format == "alpaca" and "prompt" not in columns:
        return "alpaca"
    asks_chats = "messages" in form.columns or "messages" in columns
    return "chat" if asks_chats and not {"prompt", "text"} & columns.keys() else "prompt"


def _main_column(columns: Mapping[str, str]) -> str:
    return next((columns[key] for key in _ASKED.values() if key in columns), "")


def _is_in(sample: Sequence[Mapping[str, object]], column: str) -> bool:
    return bool(column) and any(read_column(fields, column) is not None for fields in sample)


def _missing(name: str, source: str, ours: str, found: Sequence[str]) -> DataError:
    column = columns_of(source)[0]
    return DataError(
        translated(
            "{name}: no row has the column '{column}'{suggestion}",
            name=name,
            column=column,
            suggestion=suggestion(column, found),
        ),
        hint=translated(
            "--set data.columns.{ours}=COLUMN names the one with the question; "
            "columns found: {value}",
            ours=ours,
            value=", ".join(found) or "none",
        ),
    )


def question_of(row: Row, schema: Schema, redactor: Redactor | None) -> Question | Rejection:
    """Make a question of a row.

    Args:
        row: The row; an answer that it holds is not looked at.
        schema: The schema that `fit_to_file` gave.
        redactor: Replaces personal data as in training; None leaves it.

    Returns:
        The question, or why the row cannot be asked.
    """
    if schema.format == "chat":
        try:
            made: Example = _chat(row, schema)
        except Unusable as error:
            return Rejection(row.location, error.field, error.reason)
    else:
        filled = Row(row.location, {**row.fields, _PLACEHOLDER: "x"})
        outcome = parse_row(filled, schema)
        if isinstance(outcome, Rejection):
            return outcome
        assert isinstance(outcome, tuple), "a rating has no place among questions"
        made = outcome[0]
    # Other columns are no part of the question, and need no look for personal data.
    if redactor is not None:
        made = redactor.redact(replace(made, extra={}))
    if isinstance(made, ClassificationExample):
        return Question(({"role": "user", "content": made.text},))
    assert isinstance(made, ChatExample), "questions are chats or texts"
    chat = made.messages if schema.format == "chat" else made.messages[:-1]
    return Question(chat, made.tools)


def _chat(row: Row, schema: Schema) -> ChatExample:
    """Read a conversation up to its last turn that wants an answer."""
    if fault := broken_text(row.fields):
        raise Unusable(*fault)
    fields = Fields(row, schema)
    source = fields.source("messages")
    if fields.value("messages") is None:
        raise Unusable(source, "is missing or null")
    messages = messages_of(fields.value("messages"), source, schema.speakers)
    while messages and messages[-1]["role"] not in ("user", "tool"):
        messages = messages[:-1]
    if not any(message["role"] == "user" for message in messages):
        raise Unusable(source, "must have a user turn to answer")
    tools = tools_of(fields.value("tools"), fields.source("tools"))
    whole = ChatExample(row.location, (*fields.system(messages), *messages), tools=tools)
    made = with_meant_arguments(whole, tools)
    assert isinstance(made, ChatExample), "a chat stays one"
    return made


def json_values(text: str, names: Sequence[str]) -> dict[str, object] | None:
    """Read the fields of an answer that should be a JSON object.

    Args:
        text: The answer.
        names: The fields that are wanted.

    Returns:
        Their values, None for those that are absent; None where the answer is no JSON object.
    """
    value = _decoded(text)
    if not isinstance(value, dict):
        return None
    return {name: value.get(name) for name in names}
