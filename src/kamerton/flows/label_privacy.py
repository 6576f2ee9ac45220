"""What may leave this machine: rows that are marked local never, personal data only redacted."""

from collections.abc import Sequence
from typing import Any

from kamerton.core.errors import DataError
from kamerton.core.language import translated, translated_count
from kamerton.data.examples import ClassificationExample
from kamerton.data.privacy.personal import find_personal
from kamerton.data.rows import Row
from kamerton.flows.answering import AskedFile

__all__ = ["MARK", "ensure_may_leave"]

MARK = "local"
"""The column that marks rows which stay on this machine."""
_NO = ("", "0", "false", "no", "нет", "none")


def ensure_may_leave(asked: AskedFile, gold: Sequence[ClassificationExample]) -> None:
    """Refuse to send what must not be sent, before anything is sent.

    Args:
        asked: The file as questions, redacted where that is wanted.
        gold: The gold rows, likewise.

    Raises:
        DataError: If a row is marked local, or a text holds personal data.
    """
    rows = [(str(one.location), one.text, one.extra.get(MARK)) for one in gold]
    for number, question in asked.questions.items():
        row = asked.rows[number]
        assert isinstance(row, Row), "it is asked"
        text = str(question.chat[-1]["content"])
        rows.append((str(row.location), text, row.fields.get(MARK)))
    if marked := [place for place, _, mark in rows if _is_marked(mark)]:
        raise DataError(
            translated(
                "{count} marked local must not leave this machine, the first: {place}",
                count=translated_count(len(marked), "row"),
                place=marked[0],
            ),
            hint=translated("take a teacher on this machine, or leave these rows out of the file"),
        )
    personal = [(place, found) for place, text, _ in rows if (found := find_personal(text))]
    if personal:
        place, found = personal[0]
        raise DataError(
            translated(
                "{count} with personal data must not leave this machine, the first: {place} "
                "({kinds})",
                count=translated_count(len(personal), "row"),
                place=place,
                kinds=", ".join(sorted({one.kind for one in found})),
            ),
            hint=translated("--redact replaces them by placeholders before anything is sent"),
        )


def _is_marked(value: Any) -> bool:
    return value is not None and str(value).strip().casefold() not in _NO
