"""The fields of one row, read by our names for them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kamerton.data.examples import Message
from kamerton.data.formats.cells import stored_turns
from kamerton.data.formats.detection import Schema
from kamerton.data.formats.messages import Unusable, assistant, messages_of
from kamerton.data.formats.speakers import Speakers
from kamerton.data.formats.transcripts import is_open, turns_of
from kamerton.data.rows import Row
from kamerton.data.values import is_blank, kind_of, value_at

__all__ = ["Fields", "Speak", "check_answer", "continuation", "said"]

Speak = Callable[[str], Message]
"""Makes a turn of a text: `user` or `assistant`."""


@dataclass(frozen=True, slots=True)
class Fields:
    """A row and what its columns mean.

    Attributes:
        row: The row that was read.
        schema: Format of the rows of its data set.
    """

    row: Row
    schema: Schema

    def value(self, name: str) -> Any:
        """Give a value as it stands in the row.

        Args:
            name: Our name of the field.

        Returns:
            The value, or None.
        """
        return self.schema.value(self.row.fields, name)

    def source(self, name: str) -> str:
        """Name the column of a field, for messages.

        Args:
            name: Our name of the field.

        Returns:
            The column, or our name where there is none.
        """
        return self.schema.sources.get(name, name)

    def text(self, name: str) -> str:
        """Read a text that must be there.

        Args:
            name: Our name of the field.

        Returns:
            The text.

        Raises:
            Unusable: If it is no text or holds white space only.
        """
        value, source = self.value(name), self.source(name)
        return _text(_filled(value, source), source)

    def optional_text(self, name: str) -> str:
        """Read a text that may be missing.

        Args:
            name: Our name of the field.

        Returns:
            The text; empty where there is none.

        Raises:
            Unusable: If it is no text.
        """
        value = self.value(name)
        return "" if value is None or value == "" else _text(value, self.source(name))

    def turns(self, name: str, speak: Speak) -> tuple[Message, ...]:
        """Read a field that is plain text, a transcript or turns.

        Args:
            name: Our name of the field.
            speak: Makes a turn of plain text.

        Returns:
            The turns; a prompt that is an open transcript is split, other transcripts are text.

        Raises:
            Unusable: If it is empty or a turn is broken.
        """
        value, source = self.value(name), self.source(name)
        if name != "prompt":
            return said(value, source, speak, self.schema.speakers)
        if isinstance(value, str):
            if is_open(value):
                return turns_of(value, source)
            given = self.row.fields.get("input")
            if source == "instruction" and isinstance(given, str) and given.strip():
                value = f"{_filled(value, source)}\n\n{given}"
        return said(value, source, speak, self.schema.speakers)

    def asked(self, prompt: tuple[Message, ...]) -> tuple[Message, ...]:
        """Add what stands beside a prompt: system text before it, what it is about at its end.

        Args:
            prompt: Turns.

        Returns:
            The turns with a system turn, where the row has such text and the prompt no own one,
            and with the row's context in the last user turn, where no turn holds that already.

        Raises:
            Unusable: If one is no text.
        """
        system, context = self.system(prompt), self._context
        users = [i for i, message in enumerate(prompt) if message["role"] == "user"]
        if not users or any(context.strip() in message["content"] for message in prompt):
            return (*system, *prompt)
        at, last = users[-1], prompt[users[-1]]
        joined = {**last, "content": _joined(last["content"], context)}
        return (*system, *prompt[:at], joined, *prompt[at + 1 :])

    def question(self, *names: str) -> str:
        """Join the texts of a question: the first must be there, the others may be missing.

        Args:
            *names: Our names of the fields.

        Returns:
            The texts with blank lines in between, and at the end what the question is about.

        Raises:
            Unusable: If one is no text, or the first holds white space only.
        """
        first, *others = names
        texts = [self.text(first), *(self.optional_text(name) for name in others)]
        return _joined("\n\n".join(text for text in texts if text.strip()), self._context)

    def reasoned(self, answer: tuple[Message, ...]) -> tuple[Message, ...]:
        """Add the row's reasoning to its answer.

        Args:
            answer: Turns; the last is the assistant's.

        Returns:
            The turns, as they were where there is no reasoning or the answer has its own.

        Raises:
            Unusable: If the reasoning is no text.
        """
        text, last = self.optional_text("reasoning"), answer[-1]
        if not text.strip() or last.get("reasoning_content") or text.strip() in last["content"]:
            return answer
        return (*answer[:-1], {**last, "reasoning_content": text})

    def system(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """Read the row's system text.

        Args:
            messages: That it is for.

        Returns:
            A system turn, or nothing where there is no text or the messages begin with their own.

        Raises:
            Unusable: If it is no text.
        """
        text = self.optional_text("system")
        if not text.strip() or (messages and messages[0]["role"] == "system"):
            return ()
        return ({"role": "system", "content": text},)

    @property
    def group(self) -> str | None:
        """What keeps the row on one side of a split with others; None for nothing."""
        if not self.schema.group:
            return None
        value = value_at(self.row.fields, self.schema.group)
        return None if value in (None, "") else str(value)

    @property
    def _context(self) -> str:
        """What a question is about; empty where there is nothing."""
        value = self.value("context")
        if isinstance(value, list) and all(isinstance(text, str) for text in value):
            return "\n\n".join(text.strip() for text in value)
        return self.optional_text("context")

    @property
    def extra(self) -> dict[str, Any]:
        """The other columns; a nested source keeps its whole column.

        Those with context and reasoning stay too: checks and rewards may compare answers with them.
        """
        used = self.schema.used - {self.source("context"), self.source("reasoning")}
        return {k: v for k, v in self.row.fields.items() if k not in used and v is not None}


def said(
    value: Any, field: str, speak: Speak, speakers: Speakers | None = None
) -> tuple[Message, ...]:
    """Read what is plain text or turns.

    Args:
        value: Text, a list of turns, one turn, or text of turns as table cells hold it.
        field: Its name in errors.
        speak: Makes a turn of plain text.
        speakers: The roles of speakers.

    Returns:
        The turns.

    Raises:
        Unusable: If it is empty or a turn is broken.
    """
    if isinstance(value, list | Mapping):
        return messages_of(value, field, speakers)
    text = _filled(value, field)
    turns = stored_turns(text, field)
    return (speak(text),) if turns is None else messages_of(turns, field, speakers)


def continuation(
    value: Any,
    field: str,
    asked: Any,
    prompt: tuple[Message, ...],
    speakers: Speakers | None = None,
) -> tuple[Message, ...]:
    """Read an answer without the prompt, where it repeats that.

    Args:
        value: A value that `said` takes.
        field: Its name in errors.
        asked: The prompt as it stands in the row.
        prompt: Its turns.
        speakers: The roles of speakers.

    Returns:
        The turns of the answer.

    Raises:
        Unusable: If it is empty or a turn is broken.
    """
    if isinstance(value, str) and isinstance(asked, str) and is_open(asked):
        value = value.strip().removeprefix(asked.strip()).strip()
    answer = said(value, field, assistant, speakers)
    return answer[len(prompt) :] if answer[: len(prompt)] == prompt else answer


def check_answer(answer: tuple[Message, ...], field: str) -> None:
    """Refuse what is no answer to a prompt.

    Args:
        answer: Its turns.
        field: Its name in errors.

    Raises:
        Unusable: If it begins with the user, or does not end with the assistant.
    """
    if not answer or answer[0]["role"] == "user" or answer[-1]["role"] != "assistant":
        raise Unusable(field, "must be the assistant's answer to the prompt")


def _joined(question: str, context: str) -> str:
    said_already = context.strip() in question
    return question if said_already else f"{question}\n\n{context}"


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise Unusable(field, f"must be text, got {kind_of(value)}")
    if stored_turns(value, field) is not None:
        raise Unusable(field, f"must be text, got turns: data.columns = {{ messages = '{field}' }}")
    return value


def _filled(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise Unusable(field, f"must be text, got {kind_of(value)}")
    if is_blank(value):
        raise Unusable(field, "is empty")
    return value
