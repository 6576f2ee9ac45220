"""Examples: what a company brings, after its file format has been understood.

Each kind keeps the location that it came from, so that every complaint can name file and line.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "ChatExample",
    "ClassificationExample",
    "Example",
    "FeedbackExample",
    "Message",
    "PreferenceExample",
    "SourceLocation",
    "TextExample",
]

Message = Mapping[str, Any]
"""`role` (system, user, assistant, tool), `content`, and where given `tool_calls`,
`tool_call_id`, `name`, `reasoning_content`: the form chat templates take."""


@dataclass(frozen=True, slots=True)
class SourceLocation:
    """Where a row stands.

    Attributes:
        file: Name that the user gave.
        line: The line it begins on in a text file, the row number elsewhere; from 1.
    """

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class ChatExample:
    """A conversation; prompt/completion and Alpaca rows become one too.

    Attributes:
        location: Location that it came from.
        messages: At least one assistant turn.
        tools: Tool schemas for the template, if any.
        group: Rows of one group never stand on both sides of a split.
        label: Class for stratified splits, if the row names one.
        extra: Other columns, for checks in evaluation.
    """

    location: SourceLocation
    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    group: str | None = None
    label: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClassificationExample:
    """A text and its class.

    Attributes:
        location: Location that it came from.
        text: Not empty.
        label: Not empty.
        group: Rows of one group never stand on both sides of a split.
        extra: Other columns.
    """

    location: SourceLocation
    text: str
    label: str
    group: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PreferenceExample:
    """A prompt with a better and a worse answer.

    Attributes:
        location: Location that it came from.
        prompt: Messages up to the answers.
        chosen: The better continuation.
        rejected: The worse continuation.
        group: Rows of one group never stand on both sides of a split.
        extra: Other columns.
        tools: Tool schemas for the template, if any.
    """

    location: SourceLocation
    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    group: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class FeedbackExample:
    """A prompt, one answer, and whether users liked it.

    Attributes:
        location: Location that it came from.
        prompt: Messages up to the answer.
        completion: The answer.
        is_desirable: Whether users liked the answer.
        group: Rows of one group never stand on both sides of a split.
        extra: Other columns.
        tools: Tool schemas for the template, if any.
    """

    location: SourceLocation
    prompt: tuple[Message, ...]
    completion: tuple[Message, ...]
    is_desirable: bool
    group: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class TextExample:
    """Plain text without turns.

    Attributes:
        location: Location that it came from.
        text: Not empty.
        group: Rows of one group never stand on both sides of a split.
        extra: Other columns.
    """

    location: SourceLocation
    text: str
    group: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


Example = ChatExample | ClassificationExample | PreferenceExample | FeedbackExample | TextExample
