"""`kamerton predict`: apply a variant to a file of questions.

Answers go to a journal beside the output one by one, and the output is written once all are there:
whatever ends a run, the same command goes on.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kamerton.core.errors import DataError, InterruptedRun, SettingsError
from kamerton.core.events import Notice, Progress, Sink
from kamerton.core.files import hash_file, hash_json
from kamerton.core.generation import GenerationSettings
from kamerton.core.language import translated
from kamerton.core.settings import apply_overrides
from kamerton.data.answered_files import (
    ensure_writable_form,
    new_names,
    table_form,
    write_answered,
)
from kamerton.data.questions import AnswerForm, json_values
from kamerton.data.rows import Rejection, Row
from kamerton.data.settings import DataSettings
from kamerton.evaluation.calibration import Calibration
from kamerton.flows.answer_form import form_of
from kamerton.flows.answer_journal import AnswerJournal, open_journal
from kamerton.flows.answering import AskedFile, answer_questions, read_asked, size_of
from kamerton.flows.calibrating import calibrate
from kamerton.flows.recipe import recipe_of
from kamerton.store.variants import Variant
from kamerton.variants.load import Opening, load_base_for
from kamerton.variants.opening import ensure_writes, generation_of, make_ready

__all__ = ["Predicted", "predict", "prediction_settings"]


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
        raise SettingsError(
            translated(
                "--set {unknown}: only data.* and generation.* can be set here", unknown=unknown[0]
            )
        )
    reads = ("columns", "encoding", "roles", "redact")
    changed = [key for key in values["data"] if values["data"][key] != plain["data"].get(key)]
    if wrong := [key for key in changed if key not in reads and key in plain["data"]]:
        raise SettingsError(
            translated("--set data.{wrong}: the variant is trained already", wrong=wrong[0]),
            hint=translated(
                "of the file can be set: {listed}", listed=", ".join(f"data.{key}" for key in reads)
            ),
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
            translated(
                "--only-uncertain: {name} writes answers, and only labels have a confidence",
                name=variant.name,
            ),
            hint=translated("--labels A,B names labels to choose from"),
        )
    asked = read_asked(source, form, reading, sink)
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
                opening.dtype if opening else None,
            ]
        ),
    }
    part = to.with_name(f"{to.name}.part")
    with open_journal(part, made_of) as journal:
        began, before = time.monotonic(), len(journal.answers)
        _answer_all(variant, asked, chosen, generation, journal, sink, opening)
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
        calibrated_on=journal.facts.get("calibrated_on", ""),
        seconds=seconds,
        num_computed=computed,
    )


def _ensure_files(source: Path, to: Path) -> None:
    if not source.is_file():
        raise DataError(translated("{source}: no such file", source=source))
    ensure_writable_form(to)
    if to.exists():
        raise SettingsError(
            translated("--to: {to} exists, and answers never replace a file", to=to),
            hint=translated("delete it, or choose another name"),
        )


def _columns_of_answers(form: AnswerForm, labels: Sequence[str]) -> tuple[str, ...]:
    if labels:
        return ("label", "confidence")
    return form.json_fields or ("answer",)


def _answer_all(
    variant: Variant,
    asked: AskedFile,
    labels: Sequence[str],
    generation: GenerationSettings,
    journal: AnswerJournal,
    sink: Sink,
    opening: Opening | None,
) -> None:
    """Compute what the journal lacks."""
    total = len(asked.questions)
    missing = [number for number in asked.questions if number not in journal.answers]
    if journal.answers:
        sink(
            Notice(
                translated(
                    "{num_answers:,} of {total:,} answers are there: going on",
                    num_answers=len(journal.answers),
                    total=total,
                )
            )
        )
    if not missing:
        return
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
        sizes = {number: size_of(one) for number, one in asked.questions.items()}
        whole, left = sum(sizes.values()), sum(sizes[number] for number in missing)
        sink(Progress(translated("answering"), before, total, "rows", 1 - left / whole))
        for number, answer in answer_questions(
            ready, base, asked, missing, labels, stored, generation
        ):
            journal.add(number, answer)
            done, left = len(journal.answers), left - sizes[number]
            rate = (done - before) / max(time.monotonic() - began, 1e-9)
            sink(
                Progress(
                    translated("answering"), done, total, f"{rate:,.1f} rows/s", 1 - left / whole
                )
            )
    except KeyboardInterrupt:
        raise InterruptedRun(
            translated(
                "stopped after {num_answers:,} of {total:,} answers",
                num_answers=len(journal.answers),
                total=total,
            ),
            hint=translated("the same command goes on"),
        ) from None


def _new_values(
    asked: AskedFile,
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
