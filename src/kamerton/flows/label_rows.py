"""Labels for rows: those that are proven good enough are kept, and people get the others."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

from kamerton.core.errors import DataError, InterruptedRun
from kamerton.core.events import Notice, Progress, Sink
from kamerton.core.files import write_atomically
from kamerton.core.language import translated, translated_count
from kamerton.data.examples import ClassificationExample, SourceLocation
from kamerton.data.identity import question_hash
from kamerton.data.rows import Row
from kamerton.flows.answering import AskedFile
from kamerton.flows.label_gold import Gold
from kamerton.flows.labelled_files import Judged, Labelled, files_of, write_kept, write_review
from kamerton.labelling.curve_plot import curve_plot
from kamerton.labelling.precision import choose_threshold
from kamerton.labelling.review import order_for_review
from kamerton.labelling.settings import SelectSettings
from kamerton.labelling.teacher import Teacher, Verdict
from kamerton.store.trained_on import short_hash

__all__ = ["judge_all", "label", "new_questions", "text_of"]


def label(
    teacher: Teacher,
    asked: AskedFile,
    to: Path,
    gold: Gold,
    precision: float,
    select: SelectSettings,
    sink: Sink,
    *,
    learned: frozenset[str] = frozenset(),
    redact: bool = False,
) -> Labelled:
    """Label a file and keep what is proven good enough.

    Args:
        teacher: Labels texts.
        asked: The file as questions.
        to: The file for what is kept; its ending says the format.
        gold: Rows whose right label is known.
        precision: Share of the kept labels that must be right, in (0, 1).
        select: Which labels are kept.
        sink: Receives progress and notices.
        learned: Questions that the teacher learned from, as `short_hash` has them.
        redact: Whether the texts are redacted; then no other columns are written.

    Returns:
        What came of it.

    Raises:
        InterruptedRun: If the user stopped it; the same command goes on.
    """
    files, dropped = files_of(to), Counter[str]()
    if strange := sorted({one.label for one in gold.examples} - set(teacher.labels)):
        said = translated(
            "the teacher does not know {count} of the gold rows, such as '{label}': these rows "
            "count as wrong",
            count=translated_count(len(strange), "label"),
            label=strange[0],
        )
        sink(Notice(said, "warning"))
    numbers = new_questions(asked, gold, learned, dropped)
    dropped["unusable"] = len(asked.problems)
    texts = [one.text for one in gold.examples] + [text_of(asked, number) for number in numbers]
    verdicts = judge_all(teacher, texts, sink)
    of_gold, of_file = verdicts[: len(gold.examples)], verdicts[len(gold.examples) :]
    rows = [
        _judged(asked, number, verdict, redact)
        for number, verdict in zip(numbers, of_file, strict=True)
    ]
    labelled = [row for row in rows if not row.verdict.fault]
    dropped.update(row.verdict.fault for row in rows if row.verdict.fault)
    if not labelled:
        hint = next((row.verdict.said for row in rows if row.verdict.said), None)
        if any(row.verdict.fault == "not asked" for row in rows):
            hint = translated("the budget was spent before: a larger one goes on from there")
        raise DataError(
            translated("the teacher gave none of {count} a label", count=_rows(len(rows))),
            hint=hint,
        )
    answered = [
        (one, verdict)
        for one, verdict in zip(gold.examples, of_gold, strict=True)
        if verdict.fault != "not asked"
    ]
    selection = choose_threshold(
        [row.verdict.confidence for row in labelled],
        [verdict.confidence for _, verdict in answered],
        [one.label == verdict.label for one, verdict in answered],
        precision,
        select.confidence_level,
    )
    limit = selection.chosen.threshold if selection.chosen else float("inf")
    passed = [row for row in labelled if row.verdict.confidence >= limit]
    kept = _capped(passed, select)
    unsure = [row for row in rows if row.verdict.fault != "not asked" and not _passes(row, limit)]
    dropped["below"] = len(labelled) - len(passed)
    dropped["over cap"] = len(passed) - len(kept)
    write_atomically(files.plot, curve_plot(selection))
    # Where nothing is kept the same command comes again with another precision or more gold rows.
    if kept and unsure:
        order = order_for_review(
            [row.text for row in unsure], [row.verdict.confidence for row in unsure]
        )
        write_review(files.review, [unsure[place] for place in order])
    if kept:
        write_kept(files.to, kept)
    return Labelled(
        to=files.to if kept else None,
        review=files.review if kept and unsure else None,
        plot=files.plot,
        selection=selection,
        num_rows=len(asked.rows),
        num_kept=len(kept),
        dropped={name: number for name, number in dropped.items() if number},
        problems=[asked.problems[number] for number in sorted(asked.problems)],
        balance=dict(Counter(row.verdict.label for row in kept).most_common()),
        gold_balance=dict(Counter(one.label for one in gold.examples).most_common()),
        num_gold=len(answered),
    )


def _passes(row: Judged, limit: float) -> bool:
    return not row.verdict.fault and row.verdict.confidence >= limit


def _rows(number: int) -> str:
    return translated_count(number, "row")


def text_of(asked: AskedFile, number: int) -> str:
    """Give the text of a row.

    Args:
        asked: The file as questions.
        number: Of the row.

    Returns:
        The text.
    """
    return str(asked.questions[number].chat[-1]["content"])


def new_questions(
    asked: AskedFile, gold: Gold, learned: frozenset[str], dropped: Counter[str]
) -> list[int]:
    """List rows whose label is not known, each text once.

    Args:
        asked: The file as questions.
        gold: Rows whose right label is known.
        learned: Questions that the teacher learned from, as `short_hash` has them.
        dropped: Takes the numbers of the other rows.

    Returns:
        Numbers of rows, in order.
    """
    dropped["repeat"] = len(asked.first) - len(asked.questions)
    of_gold, seen, found = {question_hash(one) for one in gold.examples}, set[str](), list[int]()
    for number in asked.questions:
        text = text_of(asked, number)
        hashed = question_hash(ClassificationExample(SourceLocation("", 0), text, "-"))
        if hashed in seen:
            dropped["repeat"] += 1
        elif hashed in of_gold or short_hash(hashed) in learned:
            dropped["known"] += 1
        else:
            found.append(number)
        seen.add(hashed)
    return found


def judge_all(teacher: Teacher, texts: Sequence[str], sink: Sink) -> list[Verdict]:
    """Let a teacher label texts, and show how far it is.

    Args:
        teacher: Labels texts.
        texts: The texts.
        sink: Receives progress.

    Returns:
        A verdict for each; "not asked" where the teacher gave none.

    Raises:
        InterruptedRun: If the user stopped it.
    """
    found: list[Verdict] = [Verdict(fault="not asked")] * len(texts)
    done = 0
    sink(Progress(translated("labelling"), done, len(texts), f"rows{teacher.note}"))
    try:
        for number, verdict in teacher.judge(texts):
            found[number] = verdict
            done += 1
            sink(Progress(translated("labelling"), done, len(texts), f"rows{teacher.note}"))
    except KeyboardInterrupt:
        raise InterruptedRun(
            translated("stopped after {done} of {count}", done=done, count=_rows(len(texts))),
            hint=translated("the same command goes on"),
        ) from None
    return found


def _judged(asked: AskedFile, number: int, verdict: Verdict, redact: bool) -> Judged:
    row = asked.rows[number]
    assert isinstance(row, Row), "it was asked"
    # What stands in other columns was not looked at, and may be personal.
    text, fields = text_of(asked, number), {} if redact else row.fields
    others = {name: value for name, value in fields.items() if value != text}
    return Judged(text, verdict, str(row.location), others)


def _capped(rows: Sequence[Judged], select: SelectSettings) -> list[Judged]:
    """Keep at most so many rows of each label, drawn at random, in the order of the file."""
    if not select.per_label:
        return list(rows)
    order = list(range(len(rows)))
    Random(select.seed).shuffle(order)
    num, kept = Counter[str](), set[int]()
    for place in order:
        name = rows[place].verdict.label
        if num[name] < select.per_label:
            num[name] += 1
            kept.add(place)
    return [row for place, row in enumerate(rows) if place in kept]
