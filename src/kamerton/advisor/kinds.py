"""Tell what kind of task examples are: classes, fields, rewriting, answers, dialogues, verdicts."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import islice
from statistics import median
from typing import Any, Literal

from kamerton.core.language import translated, translated_count
from kamerton.data.examples import (
    ChatExample,
    ClassificationExample,
    Example,
    FeedbackExample,
    PreferenceExample,
)
from kamerton.data.identity import answer_text, input_text

__all__ = ["Kind", "TaskKind", "kind_of_task"]

TaskKind = Literal[
    "classes",
    "several classes",
    "fields",
    "rewriting",
    "answers",
    "dialogues",
    "pairs",
    "thumbs",
    "texts",
]

_LOOKED_AT = 500
_ALIKE = 0.5
_MOST_LABELS = 200
_LABEL_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Kind:
    """The kind of task that examples teach.

    Attributes:
        name: Which.
        labels: The classes, the commonest first; or the keys of the JSON objects.
    """

    name: TaskKind
    labels: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The kind in a few words."""
        labels = translated_count(len(self.labels), "label")
        keys = translated_count(len(self.labels), "key")
        return {
            "classes": translated("classification with {labels}", labels=labels),
            "several classes": translated(
                "classification with {labels}, several to a text", labels=labels
            ),
            "fields": translated("extraction to JSON with {keys}", keys=keys),
            "rewriting": translated("rewriting of texts"),
            "answers": translated("questions with answers"),
            "dialogues": translated("dialogues"),
            "pairs": translated("pairs of a better and a worse answer"),
            "thumbs": translated("answers with thumbs up or down"),
            "texts": translated("plain texts"),
        }[self.name]


def kind_of_task(examples: Sequence[Example]) -> Kind:
    """Tell what task examples teach.

    Args:
        examples: At least one, all of one type.

    Returns:
        The kind, judged by the labels of all of them and by the texts of the first 500.
    """
    match examples[0]:
        case ClassificationExample():
            return Kind("classes", _labels(examples))
        case PreferenceExample():
            return Kind("pairs")
        case FeedbackExample():
            return Kind("thumbs")
        case ChatExample():
            return _kind_of_chats(examples)
        case _:
            return Kind("texts")


def _labels(examples: Sequence[Example]) -> tuple[str, ...]:
    counts = Counter(e.label for e in examples if isinstance(e, ClassificationExample))
    return tuple(label for label, _ in counts.most_common())


def _kind_of_chats(examples: Sequence[Example]) -> Kind:
    chats = [one for one in islice(examples, _LOOKED_AT) if isinstance(one, ChatExample)]
    turns = [sum(message["role"] == "user" for message in chat.messages) for chat in chats]
    if sum(number > 1 for number in turns) * 10 > len(turns):
        return Kind("dialogues")
    answers = [answer_text(chat) for chat in chats]
    values = [_json_value(answer) for answer in answers]
    if all(isinstance(value, dict) for value in values):
        return Kind("fields", tuple(dict.fromkeys(key for value in values for key in value)))
    if all(isinstance(value, list) for value in values):
        labels = Counter(str(one) for value in values for one in value)
        return Kind("several classes", tuple(label for label, _ in labels.most_common()))
    counts = Counter(answers)
    few = 2 <= len(counts) <= min(_MOST_LABELS, len(answers) // 3)
    if few and max(map(len, counts)) <= _LABEL_CHARACTERS:
        return Kind("classes", tuple(label for label, _ in counts.most_common()))
    alike = [
        SequenceMatcher(None, input_text(chat).split(), answer.split(), autojunk=False).ratio()
        for chat, answer in zip(chats[:100], answers, strict=False)
    ]
    return Kind("rewriting" if median(alike) >= _ALIKE else "answers")


def _json_value(text: str) -> Any:
    if text[:1] not in "{[":
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None
