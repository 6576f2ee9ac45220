"""The content of an example without its location: its texts, its hash, its normal form."""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from kamerton.core.files import hash_bytes, hash_json
from kamerton.data.examples import (
    ChatExample,
    ClassificationExample,
    Example,
    FeedbackExample,
    Message,
    PreferenceExample,
)

__all__ = [
    "answer_text",
    "content_hash",
    "input_text",
    "label_of",
    "normal_text",
    "question_hash",
    "question_text",
    "rejected_text",
    "single_text",
    "whole_text",
]

_SPACE = re.compile(r"\s+")
# Redaction numbers its placeholders in order of appearance; a new first row renumbers them all.
_PLACEHOLDER = re.compile(r"\[([a-z]+)_\d+\]")


def content_hash(example: Example) -> str:
    """Hash what an example teaches: its kind, texts, tools and label.

    Args:
        example: Any kind.

    Returns:
        SHA-256 in hex. The location, group and other columns do not count.
    """
    content: list[Any]
    match example:
        case ChatExample():
            content = ["chat", example.messages, example.tools, example.label]
        case ClassificationExample():
            content = ["classification", example.text, example.label]
        case PreferenceExample():
            content = ["preference", example.prompt, example.chosen, example.rejected]
            content += [example.tools] if example.tools else []
        case FeedbackExample():
            content = ["feedback", example.prompt, example.completion, example.is_desirable]
            content += [example.tools] if example.tools else []
        case _:
            content = ["text", example.text]
    return hash_json(content)


def input_text(example: Example) -> str:
    """Give what an example asks.

    Args:
        example: Any kind.

    Returns:
        The turns before the last answer; the text of a classification; nothing for plain text.
    """
    match example:
        case ChatExample():
            return _spoken(example.messages[: _last_answer(example.messages)])
        case ClassificationExample():
            return example.text
        case PreferenceExample() | FeedbackExample():
            return _spoken(example.prompt)
        case _:
            return ""


def question_hash(example: Example) -> str:
    """Hash what an example asks, so that equal questions are found wherever they stand.

    Args:
        example: Any kind; plain text, which asks nothing, counts as a whole.

    Returns:
        SHA-256 in hex. Case, width and white space do not count, nor do the numbers in
        placeholders of redacted data.
    """
    return hash_bytes(question_text(example).encode("utf-8", "surrogatepass"))


def question_text(example: Example) -> str:
    """Bring what an example asks to the form in which questions are compared.

    Args:
        example: Any kind; plain text, which asks nothing, counts as a whole.

    Returns:
        The normal form, without the numbers in placeholders of redacted data.
    """
    return _PLACEHOLDER.sub(r"[\1]", normal_text(input_text(example) or answer_text(example)))


def answer_text(example: Example) -> str:
    """Give what an example answers.

    Args:
        example: Any kind.

    Returns:
        The last answer; the chosen answer of a pair; the class; plain text itself.
    """
    match example:
        case ChatExample():
            last = _last_answer(example.messages)
            return _spoken(example.messages[last : last + 1])
        case ClassificationExample():
            return example.label
        case PreferenceExample():
            return _spoken(example.chosen)
        case FeedbackExample():
            return _spoken(example.completion)
        case _:
            return example.text


def rejected_text(example: PreferenceExample) -> str:
    """Give the worse answer of a pair.

    Args:
        example: A pair.

    Returns:
        The text.
    """
    return _spoken(example.rejected)


def single_text(answer: Sequence[Message]) -> str | None:
    """Read an answer that is one text.

    Args:
        answer: Its turns.

    Returns:
        The text; None where it is several turns, or calls tools.
    """
    text = answer[0].get("content")
    alone = len(answer) == 1 and not answer[0].get("tool_calls")
    return text if alone and isinstance(text, str) else None


def whole_text(example: Example) -> str:
    """Give all that an example says.

    Args:
        example: Any kind.

    Returns:
        Its texts in order, a line break between them; classes are left out.
    """
    match example:
        case ChatExample():
            return _spoken(example.messages)
        case PreferenceExample():
            return _spoken((*example.prompt, *example.chosen, *example.rejected))
        case FeedbackExample():
            return _spoken((*example.prompt, *example.completion))
        case _:
            return example.text


def label_of(example: Example) -> str | None:
    """Give the class by which splits are stratified.

    Args:
        example: Any kind.

    Returns:
        The label; "good" or "bad" for feedback; None where there is none.
    """
    match example:
        case ChatExample() | ClassificationExample():
            return example.label
        case FeedbackExample():
            return "good" if example.is_desirable else "bad"
        case _:
            return None


def normal_text(text: str) -> str:
    """Bring texts that differ only in case, width or white space to one form.

    Args:
        text: Any.

    Returns:
        The form to compare.
    """
    return _SPACE.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def _last_answer(messages: Sequence[Message]) -> int:
    return max(i for i, message in enumerate(messages) if message["role"] == "assistant")


def _spoken(messages: Sequence[Message]) -> str:
    return "\n".join(filter(None, map(_said, messages)))


def _said(message: Mapping[str, Any]) -> str:
    calls = message.get("tool_calls")
    called = json.dumps(calls, ensure_ascii=False, sort_keys=True) if calls else ""
    return "\n".join(filter(None, (message["content"], called)))
