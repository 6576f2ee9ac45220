"""Self-training: a student learns what its teacher labelled surely, and labels the rest.

It stops where a student is no better than its teacher on gold rows. These rows choose thresholds
and students; other gold rows prove the result.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from kamerton.core.errors import DataError
from kamerton.core.events import Notice, Sink
from kamerton.core.files import write_atomically
from kamerton.core.language import translated, translated_count
from kamerton.data.examples import ClassificationExample, Example
from kamerton.data.identity import question_hash
from kamerton.flows.label_gold import Gold
from kamerton.flows.label_rows import judge_all
from kamerton.flows.prepare import read_examples
from kamerton.flows.recipe import recipe_of
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from kamerton.labelling.cascade import Cascade, Stage
from kamerton.labelling.precision import choose_threshold
from kamerton.labelling.teacher import Teacher
from kamerton.store.variants import Variant

__all__ = ["Learn", "Pair", "halves", "in_rounds", "train_student"]

Pair = tuple[str, str]
"""A text and its label."""

Learn = Callable[[int, Sequence[Pair]], Teacher]
"""Makes the student of a round, from 1, of all that was kept so far."""


def halves(gold: Gold, sink: Sink) -> tuple[Gold, Gold]:
    """Divide gold rows into those that choose and those that prove.

    Args:
        gold: All of them.
        sink: Is told.

    Returns:
        Both halves; which row is where depends on its text alone.
    """
    ordered = sorted(gold.examples, key=question_hash)
    first, second = ordered[::2], ordered[1::2]
    said = translated(
        "self-training: {first} choose the rounds, {second} prove the result",
        first=translated_count(len(first), "gold row"),
        second=len(second),
    )
    sink(Notice(said))
    return replace(gold, examples=first), replace(gold, examples=second)


def in_rounds(
    teacher: Teacher,
    learn: Learn,
    texts: Sequence[str],
    gold: Gold,
    precision: float,
    confidence_level: float,
    most_rounds: int,
    sink: Sink,
) -> Cascade:
    """Train students as long as they get better.

    Args:
        teacher: Labels first.
        learn: Makes a student.
        texts: The unlabelled texts.
        gold: Rows that choose; others must prove.
        precision: Share right of the labels that a student learns from, in (0, 1).
        confidence_level: How sure that must be, in (0, 1).
        most_rounds: Most students.
        sink: Receives progress and what became of each round.

    Returns:
        Teacher and students in a row.
    """
    stages: list[Stage] = []
    kept: list[Pair] = []
    left, gold_left, before = list(texts), list(gold.examples), -1.0
    while True:
        number = len(stages)
        verdicts = judge_all(teacher, [one.text for one in gold.examples] + left, sink)
        of_gold = dict(zip([one.text for one in gold.examples], verdicts, strict=False))
        of_file = verdicts[len(gold.examples) :]
        right = sum(of_gold[one.text].label == one.label for one in gold.examples)
        share = right / len(gold.examples)
        _say_round(number, share, len(kept), sink)
        if share <= before:
            last = stages.pop()
            return Cascade([*stages, replace(last, threshold=0.0)])
        before = share
        stages.append(Stage(teacher, 0.0))
        labelled = [verdict.confidence for verdict in of_file if not verdict.fault]
        if number == most_rounds or not labelled:
            return Cascade(stages)
        chosen = choose_threshold(
            labelled,
            [of_gold[one.text].confidence for one in gold_left],
            [of_gold[one.text].label == one.label for one in gold_left],
            precision,
            confidence_level,
        ).chosen
        if chosen is None:
            told = translated("no labels are sure enough for another student")
            sink(Notice(told))
            return Cascade(stages)
        stages[-1] = Stage(teacher, chosen.threshold)
        pairs = list(zip(left, of_file, strict=True))
        passes = [not v.fault and v.confidence >= chosen.threshold for _, v in pairs]
        kept += [(text, v.label) for (text, v), ok in zip(pairs, passes, strict=True) if ok]
        left = [text for (text, _), ok in zip(pairs, passes, strict=True) if not ok]
        gold_left = [one for one in gold_left if of_gold[one.text].confidence < chosen.threshold]
        teacher = learn(number + 1, kept)


def _say_round(number: int, share: float, num_kept: int, sink: Sink) -> None:
    right = f"{100 * share:.1f}"
    if number == 0:
        sink(Notice(translated("the teacher labels {right} % of them right", right=right)))
        return
    said = translated(
        "student {number}, with {count} of its teachers: {right} % right",
        number=number,
        count=translated_count(num_kept, "label"),
        right=right,
    )
    sink(Notice(said))


def train_student(
    teacher: Variant,
    number: int,
    pairs: Sequence[Pair],
    folder: Path,
    workspace: Workspace,
    sink: Sink,
) -> Variant:
    """Train a student as its teacher was trained, with more labels.

    Args:
        teacher: The first teacher; its recipe is used, and what it learned from.
        number: Of the round, from 1.
        pairs: Texts with labels of the teachers.
        folder: Takes the files that it learns from.
        workspace: The project.
        sink: Receives events.

    Returns:
        The student, under the name of the teacher and the round.

    Raises:
        DataError: If what the teacher learned from cannot be read, or holds no texts with labels.
    """
    recipe = recipe_of(teacher)
    prepared = read_examples(recipe, Path(teacher.manifest.recipe_folder), lambda event: None)
    if prepared.loaded.fingerprint != teacher.manifest.data.fingerprint:
        raise DataError(
            f"{teacher.manifest.data.place} has changed since {teacher.name} was trained",
            hint="train the teacher again, or label without --rounds",
        )
    folder.mkdir(parents=True, exist_ok=True)
    train, held = folder / f"round{number}.jsonl", folder / "holdout.jsonl"
    held_out = _pairs(prepared.holdout)
    # A stopped job comes here again: an equal student is there already, or goes on.
    same = [
        _is_written(train, _lines([*_pairs(prepared.train), *pairs])),
        _is_written(held, _lines(held_out)),
    ]
    data = recipe.data.model_copy(
        update={
            "train": train.name,
            "holdout": held.name if held_out else 0.0,
            "test": 0.0,
            "format": "classification",
            "columns": {"text": "text", "label": "label"},
            "group": "",
            "split": "",
            "encoding": "auto",
        }
    )
    name = f"{teacher.name}-round{number}"
    student = recipe.model_copy(update={"name": name, "data": data})
    return make_variant(student, folder, workspace, sink, fresh=not all(same)).variant


def _pairs(examples: Sequence[Example]) -> list[Pair]:
    return [(one.text, one.label) for one in examples if isinstance(one, ClassificationExample)]


def _is_written(path: Path, content: str) -> bool:
    """Write a file unless it is there; tell whether it was."""
    if path.is_file() and path.read_text(encoding="utf-8") == content:
        return True
    write_atomically(path, content)
    return False


def _lines(pairs: Sequence[Pair]) -> str:
    rows = ({"text": text, "label": label} for text, label in pairs)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
