"""A file as questions, and their answers: what `kamerton predict` computes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kamerton.core.errors import DataError
from kamerton.core.events import Notice, Progress, Sink
from kamerton.core.files import hash_json
from kamerton.core.generation import GenerationSettings
from kamerton.core.language import translated
from kamerton.data.examples import SourceLocation
from kamerton.data.formats.tickets import whole_ticket
from kamerton.data.privacy.redaction import Redactor
from kamerton.data.questions import AnswerForm, Question, fit_to_file, question_of
from kamerton.data.reading.readers import read_rows
from kamerton.data.rows import Rejection, Row
from kamerton.data.settings import DataSettings
from kamerton.evaluation.calibration import Calibration, probabilities
from kamerton.models.base import Base
from kamerton.models.context import room_of
from kamerton.variants.opening import Ready

__all__ = [
    "AskedFile",
    "answer_questions",
    "asked_texts",
    "label_probabilities",
    "read_asked",
    "size_of",
]

_SAMPLE_ROWS = 100
# What answering takes at any length of the question, as characters to read.
_ANSWER_CHARACTERS = 200
_CHATS_PER_BATCH = 256
_LABELS_PER_BATCH = 1024
_LABELLED_PER_BATCH = 32
"""Scores come when a batch is done: a large one would be lost to a kill, and show no progress."""


@dataclass(frozen=True, eq=False, slots=True)
class AskedFile:
    """A file as questions.

    Attributes:
        rows: All rows, and what is no row, in order.
        questions: Row to its question, for the first row of each question.
        first: Row to the first row that asks the same.
        problems: Row to why it cannot be asked.
    """

    rows: list[Row | Rejection]
    questions: dict[int, Question]
    first: dict[int, int]
    problems: dict[int, str]


def read_asked(source: Path, form: AnswerForm, reading: DataSettings, sink: Sink) -> AskedFile:
    """Read a file and make a question of each row.

    Args:
        source: The file.
        form: What the variant's training rows were.
        reading: How the file is read.
        sink: Receives progress and notices.

    Returns:
        The rows and their questions.

    Raises:
        DataError: If the file cannot be read, or no row can be asked.
    """

    def report(done: int, total: int | None) -> None:
        sink(Progress(translated("reading rows"), done, total, "bytes"))

    rows = [
        whole_ticket(row) for row in read_rows(source, encoding=reading.encoding, report=report)
    ]
    sample = list(islice((row.fields for row in rows if isinstance(row, Row)), _SAMPLE_ROWS))
    if not sample:
        raise DataError(
            translated("{source}: holds no rows", source=source) if not rows else f"{rows[0]}"
        )
    schema, notices = fit_to_file(form, sample, reading, str(source))
    for notice in notices:
        sink(Notice(notice, "warning"))
    redactor = Redactor() if reading.redact else None
    found = AskedFile(rows, {}, {}, {})
    seen: dict[str, int] = {}
    for number, row in enumerate(rows):
        made = row if isinstance(row, Rejection) else question_of(row, schema, redactor)
        if isinstance(made, Rejection):
            found.problems[number] = str(made)
            continue
        first = seen.setdefault(hash_json([made.chat, made.tools]), number)
        found.first[number] = first
        if first == number:
            found.questions[number] = made
    if not found.questions:
        reason = next(iter(found.problems.values()))
        raise DataError(
            translated(
                "{source}: none of {num_rows} rows can be asked: {reason}",
                source=source,
                num_rows=len(rows),
                reason=reason,
            )
        )
    return found


def answer_questions(
    ready: Ready,
    base: Base,
    asked: AskedFile,
    missing: Sequence[int],
    labels: Sequence[str],
    calibration: Calibration | None,
    generation: GenerationSettings,
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Answer questions, a batch at a time.

    Args:
        ready: The variant, attached to its base.
        base: The base.
        asked: The file as questions.
        missing: The rows to answer.
        labels: Labels to choose from; empty where answers are written.
        calibration: How scores of labels become a confidence; None where answers are written.
        generation: How answers are written.

    Yields:
        A row and its answer, as soon as it is known: `label` and `confidence`, or `text` and
        whether it was `cut`, or the `problem` why it cannot be asked.
    """
    if calibration is not None:
        for number, sure in label_probabilities(ready, base, asked, missing, labels, calibration):
            if isinstance(sure, str):
                yield number, {"problem": sure}
            else:
                best = int(sure.argmax())
                yield number, {"label": labels[best], "confidence": float(sure[best])}
        return
    for at in range(0, len(missing), _CHATS_PER_BATCH):
        batch = []
        for number in missing[at : at + _CHATS_PER_BATCH]:
            if problem := _too_long(ready, base, asked, number, ()):
                yield number, {"problem": problem}
            else:
                batch.append(number)
        chats = [asked.questions[number].chat for number in batch]
        tools = [asked.questions[number].tools for number in batch]
        texts = [""] * len(batch)
        for event in ready.engine.stream(chats, generation.generation(), tools):
            texts[event.index] += event.text
            if event.finish_reason is not None:
                cut = {"cut": True} if event.finish_reason == "length" else {}
                yield batch[event.index], {"text": texts[event.index].strip(), **cut}


def size_of(question: Question) -> int:
    """Say how much work a question is, beside others: what it has to read, and an answer.

    Args:
        question: The question.

    Returns:
        Characters.
    """
    return _ANSWER_CHARACTERS + sum(len(str(message["content"])) for message in question.chat)


def label_probabilities(
    ready: Ready,
    base: Base,
    asked: AskedFile,
    missing: Sequence[int],
    labels: Sequence[str],
    calibration: Calibration,
) -> Iterator[tuple[int, NDArray[np.float64] | str]]:
    """Score labels for questions, a batch at a time.

    Args:
        ready: The variant, attached to its base.
        base: The base.
        asked: The file as questions.
        missing: The rows to answer.
        labels: Labels to choose from.
        calibration: How scores become probabilities.

    Yields:
        A row and the probability of each label, [L]; or why it cannot be asked.
    """
    size = max(1, min(_LABELLED_PER_BATCH, _LABELS_PER_BATCH // len(labels)))
    for at in range(0, len(missing), size):
        batch = []
        for number in missing[at : at + size]:
            if problem := _too_long(ready, base, asked, number, labels):
                yield number, problem
            else:
                batch.append(number)
        chats = [asked.questions[number].chat for number in batch]
        tools = [asked.questions[number].tools for number in batch]
        scores = ready.engine.score(chats, [labels] * len(batch), tools)
        for number, own in zip(batch, scores, strict=True):
            yield number, probabilities(own, calibration)


def asked_texts(texts: Sequence[str], places: Sequence[SourceLocation] = ()) -> AskedFile:
    """Make questions of plain texts.

    Args:
        texts: The texts.
        places: Where each stands; empty for nowhere.

    Returns:
        The questions, a row for each text.
    """
    found = places or [SourceLocation("text", number) for number in range(len(texts))]
    return AskedFile(
        [Row(place, {}) for place in found],
        {n: Question(({"role": "user", "content": text},)) for n, text in enumerate(texts)},
        {},
        {},
    )


def _too_long(
    ready: Ready, base: Base, asked: AskedFile, number: int, labels: Sequence[str]
) -> str:
    """Say why a question does not fit into the base's context; nothing where it does."""
    question = asked.questions[number]
    chat, room = ready.prompt.apply(question.chat), room_of(base)
    num = len(ready.renderer.prompt_ids(chat, question.tools))
    # The label with the most characters stands for the one with the most tokens.
    longest = max(labels, key=len, default="")
    more = len(ready.renderer.answers_ids(chat, [longest], question.tools)[1][0]) if labels else 1
    if room is None or num + more <= room:
        return ""
    place = asked.rows[number].location
    return f"{place}: {num} tokens and an answer do not fit into the base's context of {room}"
