"""The gold rows of `kamerton label`: texts whose right label is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kamerton.core.errors import DataError, EvaluationError
from kamerton.core.events import Notice, Sink
from kamerton.core.language import translated, translated_count
from kamerton.data.columns import columns_of
from kamerton.data.dataset import load_examples
from kamerton.data.examples import ClassificationExample
from kamerton.data.identity import question_hash
from kamerton.data.questions import AnswerForm
from kamerton.data.reading.readers import read_rows
from kamerton.data.rows import Row
from kamerton.data.settings import DataSettings
from kamerton.labelling.precision import least_rows
from kamerton.store.trained_on import short_hash

__all__ = ["Gold", "ensure_enough", "read_gold", "unlearned"]


@dataclass(frozen=True, eq=False, slots=True)
class Gold:
    """Rows whose right label is known.

    Attributes:
        examples: Each question once.
        columns: Our field to the column of the file.
    """

    examples: Sequence[ClassificationExample]
    columns: Mapping[str, str]


def read_gold(path: Path, form: AnswerForm, reading: DataSettings, sink: Sink) -> Gold:
    """Read the rows whose right label is known.

    Args:
        path: A file of texts and labels.
        form: What the teacher was asked in training; its columns are tried.
        reading: How the file to label is read; its columns are tried first.
        sink: Receives warnings of rows that cannot be used.

    Returns:
        The rows.

    Raises:
        DataError: If it holds no texts with labels.
    """
    if not path.is_file():
        raise DataError(f"--gold: {path}: no such file")
    first = next((row.fields for row in read_rows(path) if isinstance(row, Row)), {})
    named = {**form.columns, **reading.columns}
    columns = {
        ours: named[ours]
        for ours in ("text", "label")
        if ours in named and all(column in first for column in columns_of(named[ours]))
    }
    settings = reading.model_copy(
        update={"train": str(path), "format": "classification", "columns": columns, "split": ""}
    )
    loaded = load_examples(settings)
    if not loaded.examples:
        raise DataError(
            f"--gold: no row can be used: {loaded.rejections[0]}",
            hint="--set data.columns.text=COLUMN and data.columns.label=COLUMN name the columns; "
            f"found: {', '.join(first)}",
        )
    if loaded.rejections:
        said = translated(
            "{count} of the gold file cannot be used, the first: {reason}",
            count=translated_count(len(loaded.rejections), "row"),
            reason=loaded.rejections[0],
        )
        sink(Notice(said, "warning"))
    by_question: dict[str, list[ClassificationExample]] = {}
    for example in loaded.examples:
        assert isinstance(example, ClassificationExample), "the format says so"
        by_question.setdefault(question_hash(example), []).append(example)
    agreed = [same for same in by_question.values() if len({one.label for one in same}) == 1]
    if num := len(loaded.examples) - sum(map(len, agreed)):
        said = translated(
            "{count} left out: the same text has another label elsewhere",
            count=translated_count(num, "gold row"),
        )
        sink(Notice(said, "warning"))
    return Gold([same[0] for same in agreed], loaded.schema.sources)


def unlearned(gold: Gold, learned: frozenset[str] | None, sink: Sink) -> Gold:
    """Leave out what the teacher learned from: of that it knows the answers by heart.

    Args:
        gold: The gold rows.
        learned: Questions that the teacher learned from, as `short_hash` has them.
        sink: Receives a warning.

    Returns:
        The other rows.
    """
    left = [one for one in gold.examples if short_hash(question_hash(one)) not in (learned or ())]
    if num := len(gold.examples) - len(left):
        said = translated(
            "{count} left out: the teacher learned from the same texts",
            count=translated_count(num, "gold row"),
        )
        sink(Notice(said, "warning"))
    return replace(gold, examples=left)


def ensure_enough(gold: Gold, precision: float, confidence_level: float) -> None:
    """Refuse what cannot be proven, before the teacher is asked anything.

    Args:
        gold: The gold rows.
        precision: Share of the kept labels that must be right.
        confidence_level: How sure that must be.

    Raises:
        EvaluationError: If there are too few rows even if the teacher makes no mistake.
    """
    num, least = len(gold.examples), least_rows(precision, confidence_level)
    if num < least:
        raise EvaluationError(
            translated(
                "a precision of {precision} cannot be proven with {count}: at least {least} are "
                "needed even if all are labelled right",
                precision=f"{precision:g}",
                count=translated_count(num, "gold row"),
                least=least,
            ),
            hint=translated(
                "label more rows by hand; about {good} are a good number for this precision",
                good=5 * least,
            ),
        )
