"""`kamerton label`: labels for a file by a teacher, and only those that are proven good enough.

The teacher labels the gold rows, whose right labels are known, and then the file. The gold rows
choose the threshold; what is below it goes to people.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kamerton.core.errors import DataError, SettingsError
from kamerton.core.events import Notice, Sink
from kamerton.core.files import hash_json
from kamerton.core.language import translated
from kamerton.core.settings import apply_overrides
from kamerton.data.questions import AnswerForm
from kamerton.data.settings import DataSettings
from kamerton.flows.answer_form import form_of
from kamerton.flows.answering import read_asked
from kamerton.flows.label_gold import ensure_enough, read_gold, unlearned
from kamerton.flows.label_local import LocalTeacher
from kamerton.flows.label_privacy import ensure_may_leave
from kamerton.flows.label_remote import Endpoint, RemoteTeacher
from kamerton.flows.label_rounds import Pair, halves, in_rounds, train_student
from kamerton.flows.label_rows import label, new_questions, text_of
from kamerton.flows.labelled_files import Labelled, files_of
from kamerton.flows.loopback import is_loopback
from kamerton.flows.workspace import Workspace
from kamerton.labelling.given_answers import GivenAnswers, Tokens, open_answers
from kamerton.labelling.panel import Panel
from kamerton.labelling.settings import SelectSettings, TeacherSettings
from kamerton.labelling.teacher import Teacher
from kamerton.store.trained_on import read_trained_on
from kamerton.store.variants import Variant
from kamerton.variants.load import Opening

__all__ = ["LabelSettings", "label_file", "label_settings"]


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
    rounds: int = 0,
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
        rounds: Most students that a variant trains by its labels; 0 for none.

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
    if rounds and not (len(teachers) == 1 and isinstance(teachers[0], Variant)):
        raise SettingsError("--rounds: one variant of this project must be the teacher")
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
    if source.suffix.lower() == ".txt" and len(asked.rows) == 1:
        said = translated(
            "{source} is one text: blank lines must stand between texts", source=source
        )
        sink(Notice(said, "warning"))
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
        teacher: Teacher = Panel([*of_variants, *asking], sink)
        if rounds:
            choosing, gold = halves(gold, sink)
            ensure_enough(gold, precision, settings.select.confidence_level)
            numbers = new_questions(asked, gold, learned, Counter())

            def learn(number: int, pairs: Sequence[Pair]) -> Teacher:
                folder = to.with_name(f"{to.stem}.rounds")
                student = train_student(variants[0], number, pairs, folder, workspace, sink)
                answers = kept.of(student.manifest.content_hash)
                return LocalTeacher(student, form_of(student, sink), answers, sink, opening)

            teacher = in_rounds(
                teacher, learn, [text_of(asked, number) for number in numbers], choosing,
                precision, settings.select.confidence_level, rounds, sink,
            )  # fmt: skip
        done = label(
            teacher, asked, to, gold, precision, settings.select, sink,
            learned=learned, redact=settings.data.redact,
        )  # fmt: skip
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
