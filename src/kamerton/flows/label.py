"""`kamerton label`: labels for a file by a teacher, and only those that are proven good enough.

The teacher labels the gold rows, whose right labels are known, and then the file. The gold rows
choose the threshold; what is below it goes to people.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from kamerton.core.errors import DataError, InterruptedRun, SettingsError
from kamerton.core.events import Notice, Progress, Sink
from kamerton.core.files import hash_json, write_atomically
from kamerton.core.language import translated, translated_count
from kamerton.core.settings import apply_overrides
from kamerton.data.examples import ClassificationExample, SourceLocation
from kamerton.data.identity import question_hash
from kamerton.data.questions import AnswerForm
from kamerton.data.rows import Row
from kamerton.data.settings import DataSettings
from kamerton.flows.answer_form import form_of
from kamerton.flows.answering import AskedFile, read_asked
from kamerton.flows.label_gold import Gold, ensure_enough, read_gold, unlearned
from kamerton.flows.label_local import LocalTeacher
from kamerton.flows.label_privacy import ensure_may_leave
from kamerton.flows.label_remote import Endpoint, RemoteTeacher, is_loopback
from kamerton.flows.labelled_files import Judged, Labelled, files_of, write_kept, write_review
from kamerton.flows.workspace import Workspace
from kamerton.labelling.curve_plot import curve_plot
from kamerton.labelling.given_answers import GivenAnswers, Tokens, open_answers
from kamerton.labelling.panel import Panel
from kamerton.labelling.precision import choose_threshold
from kamerton.labelling.review import order_for_review
from kamerton.labelling.settings import SelectSettings, TeacherSettings
from kamerton.labelling.teacher import Teacher, Verdict
from kamerton.store.trained_on import read_trained_on, short_hash
from kamerton.store.variants import Variant
from kamerton.variants.load import Opening

__all__ = ["LabelSettings", "label", "label_file", "label_settings"]


@dataclass(frozen=True, slots=True)
class LabelSettings:
    """What `--set` can change.

    Attributes:
        data: How the file is read.
        select: Which labels are kept.
        teacher: How a teacher over HTTP is asked.
    """

    data: DataSettings
    select: SelectSettings
    teacher: TeacherSettings


def label_settings(
    source: Path, overrides: Sequence[str], *, redact: bool = False
) -> LabelSettings:
    """Read what `--set` changes.

    Args:
        source: The file to label.
        overrides: `data.key=value`, `select.key=value` and `teacher.key=value`.
        redact: Whether personal data is replaced by placeholders.

    Returns:
        The settings.

    Raises:
        SettingsError: If one is wrong.
    """
    plain: dict[str, Any] = {"data": {"train": str(source)}, "select": {}, "teacher": {}}
    plain["data"] |= {"redact": True} if redact else {}
    values = apply_overrides(plain, overrides)
    if unknown := sorted(values.keys() - plain.keys()):
        raise SettingsError(f"--set {unknown[0]}: only {', '.join(plain)}.* can be set here")
    return LabelSettings(
        DataSettings.parse(values["data"], source="--set data"),
        SelectSettings.parse(values["select"], source="--set select"),
        TeacherSettings.parse(values["teacher"], source="--set teacher"),
    )


def label_file(
    teachers: Sequence[Variant | Endpoint],
    source: Path,
    to: Path,
    gold_path: Path,
    precision: float,
    settings: LabelSettings,
    workspace: Workspace,
    sink: Sink,
    *,
    opening: Opening | None = None,
) -> Labelled:
    """Label a file by one teacher or by several together.

    Args:
        teachers: Variants on this machine, or addresses that speak OpenAI's API.
        source: CSV, TSV, JSON, JSONL, Parquet or text file.
        to: The file for what is kept.
        gold_path: Rows whose right label is known.
        precision: Share of the kept labels that must be right, in (0, 1).
        settings: What `--set` changed.
        workspace: The project, which keeps the teachers' answers.
        sink: Receives progress and notices.
        opening: The way the variants' base is opened.

    Returns:
        What came of it.

    Raises:
        SettingsError: If a file or setting does not fit.
        DataError: If a file cannot be read or asked, or holds what must not leave this machine.
        EvaluationError: If there are too few gold rows for the asked precision.
        InterruptedRun: If it was stopped; the same command goes on.
    """
    _ensure_source(source)
    files_of(to)
    variants = [one for one in teachers if isinstance(one, Variant)]
    endpoints = [one for one in teachers if isinstance(one, Endpoint)]
    forms = [form_of(variant, sink) for variant in variants]
    form = forms[0] if forms else AnswerForm("classification")
    gold = read_gold(gold_path, form, settings.data, sink)
    learned: frozenset[str] = frozenset()
    for variant in variants:
        learned |= read_trained_on(variant) or frozenset()
    gold = unlearned(gold, learned, sink)
    ensure_enough(gold, precision, settings.select.confidence_level)
    form = form if variants else AnswerForm("classification", gold.columns)
    asked = read_asked(source, form, _of_questions(settings.data), sink)
    if not all(is_loopback(endpoint.url) for endpoint in endpoints):
        ensure_may_leave(asked, gold.examples)
    with ExitStack() as opened:
        kept = _Answers(workspace, opened)
        of_variants = [
            LocalTeacher(one, own, kept.of(one.manifest.content_hash), sink, opening)
            for one, own in zip(variants, forms, strict=True)
        ]
        labels = settings.teacher.labels or (
            of_variants[0].labels if of_variants else sorted({one.label for one in gold.examples})
        )
        asking: list[RemoteTeacher] = []
        for endpoint in endpoints:
            for how in _instructed(settings.teacher):
                answers = kept.of(endpoint.url)
                asking.append(RemoteTeacher(endpoint, labels, how, answers, sink, asking))
        panel = Panel([*of_variants, *asking], sink)
        done = label(panel, asked, to, gold, precision, settings, sink, learned=learned)
        if not asking:
            return done
        costs = [one.cost for one in asking if one.cost is not None]
        paid = sum((one.spent for one in asking), Tokens())
        return replace(done, paid=paid, cost=sum(costs) if costs else None)


class _Answers:
    """Opens the answers of teachers, each file once."""

    def __init__(self, workspace: Workspace, opened: ExitStack) -> None:
        self._workspace, self._opened = workspace, opened
        self._found: dict[str, GivenAnswers] = {}

    def of(self, teacher: str) -> GivenAnswers:
        if teacher not in self._found:
            place = self._workspace.teacher_answers / f"{hash_json(teacher)[:16]}.jsonl"
            self._found[teacher] = self._opened.enter_context(open_answers(place))
        return self._found[teacher]


def _instructed(settings: TeacherSettings) -> list[TeacherSettings]:
    """Give the settings once for each instruction: each is a teacher of its own."""
    instructions = (settings.instruction, *settings.more_instructions)
    return [settings.model_copy(update={"instruction": one}) for one in instructions]


def _ensure_source(source: Path) -> None:
    if not source.is_file():
        raise DataError(f"{source}: no such file")


def _of_questions(reading: DataSettings) -> DataSettings:
    """The columns of questions: unlabelled rows have no label, which is the gold rows' column."""
    columns = {ours: column for ours, column in reading.columns.items() if ours != "label"}
    return reading.model_copy(update={"columns": columns})


def label(
    teacher: Teacher,
    asked: AskedFile,
    to: Path,
    gold: Gold,
    precision: float,
    settings: LabelSettings,
    sink: Sink,
    *,
    learned: frozenset[str] | None = None,
) -> Labelled:
    """Label a file and keep what is proven good enough.

    Args:
        teacher: Labels texts.
        asked: The file as questions.
        to: The file for what is kept; its ending says the format.
        gold: Rows whose right label is known.
        precision: Share of the kept labels that must be right, in (0, 1).
        settings: What `--set` changed.
        sink: Receives progress and notices.
        learned: Questions that the teacher learned from, as `short_hash` has them.

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
    numbers = _new_questions(asked, gold, learned or frozenset(), dropped)
    dropped["unusable"] = len(asked.problems)
    texts = [one.text for one in gold.examples] + [_text(asked, number) for number in numbers]
    verdicts = _judge(teacher, texts, sink)
    of_gold, of_file = verdicts[: len(gold.examples)], verdicts[len(gold.examples) :]
    rows = [
        _judged(asked, number, verdict, settings.data.redact)
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
        settings.select.confidence_level,
    )
    limit = selection.chosen.threshold if selection.chosen else float("inf")
    passed = [row for row in labelled if row.verdict.confidence >= limit]
    kept = _capped(passed, settings.select)
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


def _text(asked: AskedFile, number: int) -> str:
    return str(asked.questions[number].chat[-1]["content"])


def _new_questions(
    asked: AskedFile, gold: Gold, learned: frozenset[str], dropped: Counter[str]
) -> list[int]:
    """List rows whose label is not known, each text once."""
    dropped["repeat"] = len(asked.first) - len(asked.questions)
    of_gold, seen, found = {question_hash(one) for one in gold.examples}, set[str](), list[int]()
    for number in asked.questions:
        text = _text(asked, number)
        hashed = question_hash(ClassificationExample(SourceLocation("", 0), text, "-"))
        if hashed in seen:
            dropped["repeat"] += 1
        elif hashed in of_gold or short_hash(hashed) in learned:
            dropped["known"] += 1
        else:
            found.append(number)
        seen.add(hashed)
    return found


def _judge(teacher: Teacher, texts: Sequence[str], sink: Sink) -> list[Verdict]:
    found: list[Verdict] = [Verdict(fault="not asked")] * len(texts)
    done = 0
    sink(Progress("labelling", done, len(texts), f"rows{teacher.note}"))
    try:
        for number, verdict in teacher.judge(texts):
            found[number] = verdict
            done += 1
            sink(Progress("labelling", done, len(texts), f"rows{teacher.note}"))
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
    text, fields = _text(asked, number), {} if redact else row.fields
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
