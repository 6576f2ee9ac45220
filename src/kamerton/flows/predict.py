"""`kamerton predict`: apply a variant to a file of questions.

Answers go to a journal beside the output one by one, and the output is written once all are there:
whatever ends a run, the same command goes on.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from kamerton.core.errors import DataError, InterruptedRun, SettingsError
from kamerton.core.events import Notice, Progress, Sink
from kamerton.core.files import hash_file, hash_json
from kamerton.core.generation import GenerationSettings
from kamerton.core.settings import apply_overrides
from kamerton.data.answered_files import (
    ensure_writable_form,
    new_names,
    table_form,
    write_answered,
)
from kamerton.data.formats.tickets import whole_ticket
from kamerton.data.privacy.redaction import Redactor
from kamerton.data.questions import AnswerForm, Question, fit_to_file, json_values, question_of
from kamerton.data.reading.readers import read_rows
from kamerton.data.rows import Rejection, Row
from kamerton.data.settings import DataSettings
from kamerton.evaluation.calibration import Calibration, probabilities
from kamerton.flows.answer_form import form_of
from kamerton.flows.answer_journal import AnswerJournal, open_journal
from kamerton.flows.calibrating import calibrate
from kamerton.flows.recipe import recipe_of
from kamerton.models.base import Base
from kamerton.models.context import room_of
from kamerton.store.variants import Variant
from kamerton.variants.load import Opening, load_base_for
from kamerton.variants.opening import Ready, ensure_writes, generation_of, make_ready

__all__ = ["Predicted", "predict", "prediction_settings"]

_SAMPLE_ROWS = 100
_CHATS_PER_BATCH = 256
_LABELS_PER_BATCH = 1024


@dataclass(frozen=True, eq=False, slots=True)
class Predicted:
    """What came of a file.

    Attributes:
        to: The file that was written.
        num_rows: Rows of the input.
        num_answered: Those with an answer.
        num_repeats: Those whose answer was computed for an earlier row.
        num_written: Rows of the output.
        num_cut: Answers that were cut at the longest length.
        problems: Rows that could not be asked, or whose answer is not of the wanted form: place
            and reason.
        counts: Rows of each label.
        calibration: How sure the variant may be of labels; None where it writes answers.
        calibrated_on: What the calibration was fitted on, or why it was not.
        seconds: Wall time of answering.
        num_computed: Answers computed in this run.
    """

    to: Path
    num_rows: int
    num_answered: int
    num_repeats: int
    num_written: int
    num_cut: int
    problems: Sequence[str]
    counts: Mapping[str, int]
    calibration: Calibration | None
    calibrated_on: str
    seconds: float
    num_computed: int

    def to_json(self) -> dict[str, Any]:
        """Give the summary as plain values."""
        plain = {**asdict(self), "to": str(self.to), "problems": list(self.problems)}
        return {**plain, "counts": dict(self.counts)}


@dataclass(frozen=True, eq=False, slots=True)
class _Asked:
    """A file as questions: rows with their problems, and the first row of each question."""

    rows: list[Row | Rejection]
    questions: dict[int, Question]
    first: dict[int, int]
    problems: dict[int, str]


def prediction_settings(
    variant: Variant, overrides: Sequence[str]
) -> tuple[DataSettings, GenerationSettings]:
    """Read how a file is read and answers are written.

    Args:
        variant: The variant; its recipe and defaults are what is overridden.
        overrides: `data.key=value` and `generation.key=value`.

    Returns:
        Settings of reading and of answers.

    Raises:
        SettingsError: If an override is wrong.
    """
    # `data.split` says which rows of the training file were learned from.
    data = {**recipe_of(variant).data.model_dump(mode="json"), "split": ""}
    # What training rows call their columns stands in the manifest, as it was found there.
    plain = {"data": {**data, "columns": {}}, "generation": generation_of(variant).model_dump()}
    values = apply_overrides(plain, overrides)
    if unknown := sorted(values.keys() - plain.keys()):
        raise SettingsError(f"--set {unknown[0]}: only data.* and generation.* can be set here")
    reads = ("columns", "encoding", "roles", "redact")
    changed = [key for key in values["data"] if values["data"][key] != plain["data"].get(key)]
    if wrong := [key for key in changed if key not in reads and key in plain["data"]]:
        raise SettingsError(
            f"--set data.{wrong[0]}: the variant is trained already",
            hint=f"of the file can be set: {', '.join(f'data.{key}' for key in reads)}",
        )
    return (
        DataSettings.parse(values["data"], source="--set data"),
        GenerationSettings.parse(values["generation"], source="--set generation"),
    )


def predict(
    variant: Variant,
    source: Path,
    to: Path,
    sink: Sink,
    *,
    overrides: Sequence[str] = (),
    labels: Sequence[str] = (),
    only_uncertain: float | None = None,
    opening: Opening | None = None,
) -> Predicted:
    """Answer every row of a file.

    Args:
        variant: Answers.
        source: CSV, TSV, JSON, JSONL, Parquet or text file.
        to: The file to write; its ending says the format.
        sink: Receives progress and notices.
        overrides: `data.key=value` and `generation.key=value`.
        labels: Labels to choose from in place of those that the variant learned.
        only_uncertain: Writes only rows of lower confidence, the least certain first.
        opening: The way the base is opened.

    Returns:
        What came of it.

    Raises:
        SettingsError: If a file or setting does not fit, or other answers were begun there.
        DataError: If the file cannot be read or asked.
        InterruptedRun: If the user stopped it; the same command goes on.
    """
    _ensure_files(source, to)
    ensure_writes(variant, "applied to a file")
    reading, generation = prediction_settings(variant, overrides)
    form = form_of(variant, sink)
    chosen = tuple(dict.fromkeys(labels)) or form.labels
    if only_uncertain is not None and not chosen:
        raise SettingsError(
            f"--only-uncertain: {variant.name} writes answers, and only labels have a confidence",
            hint="--labels A,B names labels to choose from",
        )
    asked = _read(source, form, reading, sink)
    columns = list(
        dict.fromkeys(c for row in asked.rows if isinstance(row, Row) for c in row.fields)
    )
    answered_by = _columns_of_answers(form, chosen)
    names = new_names(
        columns, answered_by, "json." if form.json_fields and not chosen else "predicted."
    )
    made_of = {
        "input": hash_file(source),
        "variant": variant.manifest.content_hash,
        "settings": hash_json(
            [
                *(reading.model_dump(mode="json"), generation.model_dump(mode="json")),
                *(list(chosen), list(form.json_fields), dict(form.columns)),
            ]
        ),
    }
    part = to.with_name(f"{to.name}.part")
    with open_journal(part, made_of) as journal:
        began, before = time.monotonic(), len(journal.answers)
        why = _answer_all(variant, asked, chosen, generation, journal, sink, opening)
        seconds, computed = time.monotonic() - began, len(journal.answers) - before
        new, problems = _new_values(asked, journal, form, chosen, names)
        order = _order(new, names, only_uncertain)
        is_parquet = {source.suffix.lower(), to.suffix.lower()} == {".parquet"}
        write_answered(
            to,
            [_fields(asked.rows[position]) for position in order],
            [new[position] for position in order],
            columns,
            list(names.values()),
            table_form(source, to, reading.encoding),
            (source, order) if is_parquet else None,
        )
        part.unlink()
    answers = journal.answers.values()
    stored = journal.facts.get("calibration")
    labelled = [own[names["label"]] for own in new if own and chosen]
    return Predicted(
        to=to,
        num_rows=len(asked.rows),
        num_answered=sum(map(bool, new)),
        num_repeats=len(asked.first) - len(set(asked.first.values())),
        num_written=len(order),
        num_cut=sum(bool(one.get("cut")) for one in answers),
        problems=problems,
        counts=dict(Counter(labelled).most_common()),
        calibration=Calibration(**stored) if stored else None,
        calibrated_on=journal.facts.get("calibrated_on", why),
        seconds=seconds,
        num_computed=computed,
    )


def _ensure_files(source: Path, to: Path) -> None:
    if not source.is_file():
        raise DataError(f"{source}: no such file")
    ensure_writable_form(to)
    if to.exists():
        raise SettingsError(
            f"--to: {to} exists, and answers never replace a file",
            hint="delete it, or choose another name",
        )


def _read(source: Path, form: AnswerForm, reading: DataSettings, sink: Sink) -> _Asked:
    def report(done: int, total: int | None) -> None:
        sink(Progress("reading rows", done, total, "bytes"))

    rows = [
        whole_ticket(row) for row in read_rows(source, encoding=reading.encoding, report=report)
    ]
    sample = list(islice((row.fields for row in rows if isinstance(row, Row)), _SAMPLE_ROWS))
    if not sample:
        raise DataError(f"{source}: holds no rows" if not rows else f"{rows[0]}")
    schema, notices = fit_to_file(form, sample, reading, str(source))
    for notice in notices:
        sink(Notice(notice, "warning"))
    redactor = Redactor() if reading.redact else None
    found = _Asked(rows, {}, {}, {})
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
        raise DataError(f"{source}: none of {len(rows)} rows can be asked: {reason}")
    return found


def _columns_of_answers(form: AnswerForm, labels: Sequence[str]) -> tuple[str, ...]:
    if labels:
        return ("label", "confidence")
    return form.json_fields or ("answer",)


def _answer_all(
    variant: Variant,
    asked: _Asked,
    labels: Sequence[str],
    generation: GenerationSettings,
    journal: AnswerJournal,
    sink: Sink,
    opening: Opening | None,
) -> str:
    """Compute what the journal lacks; say what confidence rests on."""
    total = len(asked.questions)
    missing = [number for number in asked.questions if number not in journal.answers]
    if journal.answers:
        sink(Notice(f"{len(journal.answers):,} of {total:,} answers are there: going on"))
    if not missing:
        return ""
    opening = opening or Opening(sink=sink)
    base = load_base_for(variant, opening)
    ready = make_ready(variant, base)
    if labels and "calibration" not in journal.facts:
        found, why = calibrate(variant, ready, base, labels, sink)
        journal.note("calibration", asdict(found))
        journal.note("calibrated_on", why)
    stored = Calibration(**journal.facts["calibration"]) if labels else None
    try:
        began, before = time.monotonic(), len(journal.answers)
        sink(Progress("answering", before, total, "rows"))
        for number, answer in _answers(ready, base, asked, missing, labels, stored, generation):
            journal.add(number, answer)
            done = len(journal.answers)
            rate = (done - before) / max(time.monotonic() - began, 1e-9)
            sink(Progress("answering", done, total, f"rows, {rate:,.1f} rows/s"))
    except KeyboardInterrupt:
        raise InterruptedRun(
            f"stopped after {len(journal.answers):,} of {total:,} answers",
            hint="the same command goes on",
        ) from None
    return ""


def _answers(
    ready: Ready,
    base: Base,
    asked: _Asked,
    missing: Sequence[int],
    labels: Sequence[str],
    calibration: Calibration | None,
    generation: GenerationSettings,
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Answer questions, a batch at a time, each as soon as it is known."""
    size = max(1, _LABELS_PER_BATCH // len(labels)) if labels else _CHATS_PER_BATCH
    for at in range(0, len(missing), size):
        batch = []
        for number in missing[at : at + size]:
            question = asked.questions[number]
            if problem := _too_long(ready, base, question, labels):
                yield number, {"problem": f"{asked.rows[number].location}: {problem}"}
            else:
                batch.append(number)
        chats = [asked.questions[number].chat for number in batch]
        tools = [asked.questions[number].tools for number in batch]
        if calibration is not None:
            scores = ready.engine.score(chats, [labels] * len(batch), tools)
            for number, own in zip(batch, scores, strict=True):
                sure = probabilities(own, calibration)
                best = int(sure.argmax())
                yield number, {"label": labels[best], "confidence": float(sure[best])}
            continue
        texts = [""] * len(batch)
        for event in ready.engine.stream(chats, generation.generation(), tools):
            texts[event.index] += event.text
            if event.finish_reason is not None:
                cut = {"cut": True} if event.finish_reason == "length" else {}
                yield batch[event.index], {"text": texts[event.index].strip(), **cut}


def _too_long(ready: Ready, base: Base, question: Question, labels: Sequence[str]) -> str:
    """Say why a question does not fit into the base's context; nothing where it does."""
    chat, room = ready.prompt.apply(question.chat), room_of(base)
    num = len(ready.renderer.prompt_ids(chat, question.tools))
    # The label with the most characters stands for the one with the most tokens.
    longest = max(labels, key=len, default="")
    more = len(ready.renderer.answers_ids(chat, [longest], question.tools)[1][0]) if labels else 1
    if room is None or num + more <= room:
        return ""
    return f"{num} tokens and an answer do not fit into the base's context of {room}"


def _new_values(
    asked: _Asked,
    journal: AnswerJournal,
    form: AnswerForm,
    labels: Sequence[str],
    names: Mapping[str, str],
) -> tuple[list[dict[str, Any]], list[str]]:
    """Give the new columns of every row, nothing where there is no answer; and the problems."""
    problems = dict(asked.problems)
    new: list[dict[str, Any]] = []
    for number, row in enumerate(asked.rows):
        answer = journal.answers[asked.first[number]] if number in asked.first else {}
        values: dict[str, Any] | None = {}
        if "problem" in answer:
            problems[number] = answer["problem"]
        elif labels and answer:
            values = {"label": answer["label"], "confidence": round(answer["confidence"], 4)}
        elif form.json_fields and answer:
            values = json_values(answer["text"], form.json_fields)
            if values is None:
                shown = answer["text"][:80]
                problems[number] = f"{row.location}: the answer is no JSON object: {shown!r}"
        elif answer:
            values = {"answer": answer["text"]}
        new.append({names[name]: value for name, value in (values or {}).items()})
    return new, [problems[number] for number in sorted(problems)]


def _order(
    new: Sequence[Mapping[str, Any]], names: Mapping[str, str], only_uncertain: float | None
) -> list[int]:
    """Choose the rows to write: all, or the uncertain ones with the least certain first."""
    if only_uncertain is None:
        return list(range(len(new)))
    sure = [own.get(names["confidence"], -1.0) for own in new]
    chosen = [number for number, value in enumerate(sure) if value < only_uncertain]
    return sorted(chosen, key=lambda number: sure[number])


def _fields(row: Row | Rejection) -> Mapping[str, Any]:
    return row.fields if isinstance(row, Row) else {}
