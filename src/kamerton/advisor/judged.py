"""Tell columns that judge answers: a better and a worse one, a thumb up or down, stars."""

from collections.abc import Mapping, Sequence
from typing import Any

from kamerton.advisor.columns import Column, answer_candidates, question_candidates
from kamerton.data.columns import columns_of
from kamerton.data.formats.verdicts import yes_or_no

__all__ = ["judged_columns", "stars_in"]

_BETTER = frozenset(
    (
        *("chosen", "better", "better answer", "good answer", "best answer", "preferred"),
        *("лучший", "лучший ответ", "лучше", "хороший ответ", "хорошо", "выбранный ответ"),
    )
)
_WORSE = frozenset(
    (
        *("rejected", "worse", "worse answer", "bad answer", "worst answer"),
        *("худший", "худший ответ", "хуже", "плохой ответ", "плохо", "отклонённый ответ"),
    )
)
_STARS = frozenset(("rating", "score", "stars", "mark", "оценка", "рейтинг", "звёзды", "баллы"))
_VERDICTS = _STARS | frozenset(
    (
        *("feedback", "thumbs", "thumb", "vote", "verdict", "liked", "like", "helpful", "useful"),
        *("reaction", "good", "ok", "лайк", "понравилось", "нравится", "реакция", "полезно"),
        *("вердикт", "голос", "отклик", "помогло", "принято"),
    )
)
_MESSAGES = frozenset(("messages", "conversations", "conversation", "turns", "dialogue", "dialog"))
_PLAIN_VALUES = frozenset(("1", "0", "+1", "-1", "true", "false", "yes", "no", "да", "нет"))
_MOST_STARS = 10


def judged_columns(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], question: str = ""
) -> dict[str, str]:
    """Find the columns of pairs, or of answers with a verdict.

    Args:
        rows: The first rows of a table.
        columns: Its columns.
        question: The column that asks, where it is known.

    Returns:
        Our fields to the columns; empty where nothing judges, or where it is not clear what asks.
    """
    better, worse = (_only(columns, names) for names in (_BETTER, _WORSE))
    if better and worse:
        asked = question or _asking(columns, (better, worse))
        return {"prompt": asked, "chosen": better, "rejected": worse} if asked else {}
    verdict = next((c.name for c in columns if _is_verdict(c, rows)), "")
    if not verdict:
        return {}
    chat = _only(columns, _MESSAGES)
    if chat and not question:
        return {"messages": chat, "label": verdict}
    asked = question or _asking(columns, (verdict,))
    answers = [
        column
        for column in answer_candidates(columns, (*columns_of(asked), verdict))
        if column.kind in ("prose", "label")
    ]
    # Two columns of answers leave it open which one is meant.
    if not asked or len(answers) != 1:
        return {}
    return {"prompt": asked, "completion": answers[0].name, "label": verdict}


def stars_in(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> str:
    """Find a column that rates answers by more than yes and no.

    Args:
        rows: The first rows of a table.
        columns: Its columns.

    Returns:
        Its name, or nothing.
    """
    for column in columns:
        values = _values(column, rows)
        if _plain(column.name) in _STARS and column.kind == "number":
            numbers = {float(value.replace(",", ".")) for value in values}
            if 2 < len(numbers) <= _MOST_STARS or numbers - {0.0, 1.0, -1.0}:
                return column.name
    return ""


def _only(columns: Sequence[Column], names: frozenset[str]) -> str:
    found = [column.name for column in columns if _plain(column.name) in names]
    return found[0] if len(found) == 1 else ""


def _asking(columns: Sequence[Column], used: Sequence[str]) -> str:
    found = question_candidates([column for column in columns if column.name not in used])
    return found[0].name if len(found) == 1 else ""


def _is_verdict(column: Column, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Tell verdicts by the column's name, or by values that are nothing else."""
    values = _values(column, rows)
    if {yes_or_no(value) for value in values} != {True, False}:
        return False
    is_plain = all(value.casefold() in _PLAIN_VALUES for value in values)
    return not is_plain or _plain(column.name) in _VERDICTS


def _values(column: Column, rows: Sequence[Mapping[str, Any]]) -> set[str]:
    found = (row.get(column.name) for row in rows)
    return {str(value).strip() for value in found if value is not None and value != ""}


def _plain(name: str) -> str:
    return name.strip().casefold().replace("_", " ")
