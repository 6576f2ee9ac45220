"""Tell which column of a table asks and which answers; several that fit equally are all named."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "Column",
    "answer_candidates",
    "columns_in",
    "names_rewriting",
    "question_candidates",
]

ColumnKind = Literal["prose", "label", "number", "json", "other"]

_QUESTIONS = frozenset(
    (
        *("text", "sentence", "utterance", "question", "query", "prompt", "input", "instruction"),
        *("message", "body", "subject", "request", "ticket", "source", "before", "original"),
        *("description", "review", "comment", "draft"),
        *("текст", "вопрос", "сообщение", "обращение", "запрос", "письмо", "тикет", "отзыв"),
        *("исходный", "исходный текст", "до", "было", "описание", "черновик", "комментарий"),
    )
)
_ANSWERS = frozenset(
    (
        *("answer", "reply", "response", "completion", "output", "label", "labels", "class"),
        *("category", "topic", "intent", "intents", "queue", "tag", "tags", "target", "after"),
        *("rewritten", "sentiment", "fields", "topics", "categories", "classes"),
        *("ответ", "тема", "темы", "категория", "метка", "метки", "класс", "очередь", "раздел"),
        *("тип", "теги", "тональность", "переписанный", "после", "стало", "результат", "поля"),
    )
)
_REWRITTEN = frozenset(
    ("after", "rewritten", "rewrite", "edited", "переписанный", "после", "стало", "правка")
)
_LABEL_WORDS = 6
_PROSE_WORDS = 3
_MOST_LABELS = 200


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, and what stands in it.

    Attributes:
        name: Its name.
        kind: "prose" (sentences), "label" (few different short texts), "number" (few different
            numbers), "json" (lists or objects), "other" (dates, numbers of tickets, names).
        num_values: Different values in the rows that were looked at.
        is_object: Whether its values are lists or objects rather than texts.
    """

    name: str
    kind: ColumnKind
    num_values: int
    is_object: bool = False

    @property
    def shown(self) -> str:
        """Name and content, as an error or a question lists them."""
        what = {"prose": "sentences", "json": "JSON"}.get(self.kind, f"{self.num_values} values")
        return f"{self.name} ({what})"


def columns_in(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Describe the columns of some rows.

    Args:
        rows: The first rows of a table.

    Returns:
        The columns in the order in which they first appear.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    return [_column(name, [row.get(name) for row in rows]) for name in names]


def question_candidates(columns: Sequence[Column]) -> list[Column]:
    """List the columns that may be the question.

    Args:
        columns: All of a table.

    Returns:
        Those with sentences; where some have the name of a question, only these.
    """
    prose = [column for column in columns if column.kind == "prose"]
    # A column of answers has sentences too: its name tells, where there is another.
    asking = [column for column in prose if not _named(column, _ANSWERS)] or prose
    return [column for column in asking if _named(column, _QUESTIONS)] or asking


def answer_candidates(columns: Sequence[Column], used: Sequence[str]) -> list[Column]:
    """List the columns that may be the answer.

    Args:
        columns: All of a table.
        used: Those of the question.

    Returns:
        The most plausible ones: first those with the name of an answer, then labels, JSON and
        sentences, then numbers.
    """
    free = [column for column in columns if column.name not in used and column.kind != "other"]
    named = [column for column in free if _named(column, _ANSWERS)]
    worded = [column for column in free if column.kind != "number"]
    return named or worded or free


def names_rewriting(answer: str) -> bool:
    """Tell whether a column's name says that it holds rewritten texts.

    Args:
        answer: The column of the answer.

    Returns:
        Whether it does, such as "after" or "стало".
    """
    return answer.strip().casefold().partition("_")[0] in _REWRITTEN


def _named(column: Column, names: frozenset[str]) -> bool:
    return column.name.strip().casefold().replace("_", " ") in names


def _column(name: str, values: Sequence[Any]) -> Column:
    filled = [value for value in values if value not in (None, "", [], {})]
    if len(filled) * 2 < len(values) or not filled:
        return Column(name, "other", len({str(value) for value in filled}))
    different = len({str(value) for value in filled})
    if all(isinstance(value, list | dict) for value in filled):
        return Column(name, "json", different, is_object=True)
    texts = [str(value).strip() for value in filled]
    if all(text[:1] in "{[" and _is_json(text) for text in texts):
        return Column(name, "json", different)
    words = sum(len(text.split()) for text in texts) / len(texts)
    few = 2 <= different <= min(_MOST_LABELS, len(texts) // 2) and words <= _LABEL_WORDS
    if all(_is_number(text) for text in texts):
        return Column(name, "number" if few else "other", different)
    kind: ColumnKind = "label" if few else "prose" if words >= _PROSE_WORDS else "other"
    return Column(name, kind, different)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True
