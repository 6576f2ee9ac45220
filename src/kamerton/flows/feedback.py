"""`kamerton feedback`: judgements from tables, training rows from judgements, agreement."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from kamerton.core.errors import DataError
from kamerton.core.events import Progress, Sink
from kamerton.core.files import atomic_file
from kamerton.core.language import translated
from kamerton.data.formats.verdicts import yes_or_no
from kamerton.data.privacy.redaction import Redactor
from kamerton.data.reading.readers import read_rows
from kamerton.data.rows import Rejection, Row
from kamerton.evaluation.agreement import krippendorff_alpha
from kamerton.evaluation.feedback_rows import (
    FeedbackRows,
    RowKind,
    feedback_rows,
    prompt_rows,
)
from kamerton.evaluation.judgements import correction_problem, judgement_of
from kamerton.evaluation.live_metrics import LiveMetric
from kamerton.serving.record_policy import RecordPolicy
from kamerton.store.database import Store
from kamerton.store.feedback import Feedback, add_feedback, latest_feedback, num_feedback
from kamerton.store.traffic import find_request, requests_between
from kamerton.wire.feedback import FeedbackBody

__all__ = ["Agreement", "Imported", "export_feedback", "import_feedback", "measure_agreement"]

_FIELDS = ("id", "name", "value", "label", "rater", "comment", "correction", "idempotency_key")
_OTHER_NAMES = {"completion_id": "id", "metric": "name"}


@dataclass
class Imported:
    """What became of a table of judgements.

    Attributes:
        num_new: Stored.
        num_known: Stored before: their idempotency keys, or whole rows, came before.
        num_early: Of the new ones, those whose answer is not recorded (yet).
        refused: Rows that cannot be used.
    """

    num_new: int = 0
    num_known: int = 0
    num_early: int = 0
    refused: list[Rejection] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far raters agree about a metric.

    Attributes:
        metric: Its name.
        num_items: Answers with two raters or more.
        alpha: Krippendorff's alpha; None where it does not exist.
    """

    metric: str
    num_items: int
    alpha: float | None


def import_feedback(
    store: Store,
    source: Path,
    metrics: Mapping[str, LiveMetric],
    *,
    columns: Mapping[str, str],
    name: str = "",
    keeps_personal: bool = False,
    sink: Sink = lambda event: None,
) -> Imported:
    """Store the judgements of a table; what cannot be used is listed, and nothing else is lost.

    Args:
        store: An open store.
        source: CSV, TSV, JSONL or what else `kamerton check` reads.
        metrics: The known ones.
        columns: The table's column by field: id, name, value, label, rater, comment, correction.
        name: Metric of rows that name none.
        keeps_personal: Whether comments and corrections are stored as they are, not masked.
        sink: Receives progress.

    Returns:
        What became of it.

    Raises:
        DataError: If the file cannot be read, or a field of `columns` is none.
    """
    if unknown := set(columns) - set(_FIELDS):
        raise DataError(
            f"--column {min(unknown)}=...: is no field of feedback",
            hint=f"fields are {', '.join(_FIELDS)}",
        )
    told, policy = Imported(), RecordPolicy("full" if keeps_personal else "none")

    def reading(done: int, total: int | None) -> None:
        sink(Progress(translated("reading judgements"), done, total, "bytes"))

    rows = list(read_rows(source, report=reading))
    _ensure_columns(source, rows, columns, name)
    with store.begin() as connection:
        for number, row in enumerate(rows, 1):
            sink(Progress(translated("storing judgements"), number, len(rows), "rows"))
            if isinstance(row, Rejection):
                told.refused.append(row)
                continue
            judgement = _judgement(row, metrics, columns, name)
            if isinstance(judgement, Rejection):
                told.refused.append(judgement)
                continue
            found = find_request(connection, judgement.completion_id)
            variant = found.variant if found else None
            if problem := correction_problem(judgement.correction, variant, metrics):
                told.refused.append(_rejection(row, problem))
                continue
            before = num_feedback(connection, judgement.completion_id)
            add_feedback(connection, policy.kept_feedback(judgement))
            is_new = num_feedback(connection, judgement.completion_id) > before
            told.num_new += is_new
            told.num_known += not is_new
            told.num_early += is_new and found is None
    return told


def export_feedback(
    store: Store,
    kind: RowKind | Literal["prompts"],
    path: Path,
    *,
    per_rater: int = 100,
    limit: int = 1000,
    keeps_personal: bool = False,
) -> FeedbackRows:
    """Write training rows as JSON Lines, and contradictory ones beside them.

    Args:
        store: An open store.
        kind: What the rows are for; "prompts" are questions, judged or not, to be answered anew.
        path: The file; NAME.jsonl has its contradictory rows in NAME.conflicts.jsonl.
        per_rater: Most judgements of one rater.
        limit: Most questions.
        keeps_personal: Whether personal data stays; otherwise it is masked, the same value by the
            same placeholder in the whole file.

    Returns:
        What was written.
    """
    with store.begin() as connection:
        feedback = list(latest_feedback(connection))
        requests = requests_between(connection)
        found = (
            prompt_rows(requests, feedback, limit=limit)
            if kind == "prompts"
            else feedback_rows(kind, requests, feedback, per_rater=per_rater)
        )
    redactor = None if keeps_personal else Redactor()
    _write(path, found.rows, redactor)
    conflicts = path.with_name(f"{path.stem}.conflicts{path.suffix}")
    if found.conflicts:
        _write(conflicts, found.conflicts, redactor)
    else:
        conflicts.unlink(missing_ok=True)
    return found


def measure_agreement(store: Store, metrics: Mapping[str, LiveMetric]) -> list[Agreement]:
    """Compare raters of the same answers.

    Args:
        store: An open store.
        metrics: The known ones.

    Returns:
        One for each metric that came as feedback.
    """
    given: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    with store.begin() as connection:
        for each in latest_feedback(connection):
            value = each.label if each.value is None else each.value
            if each.name in metrics and value is not None:
                given[each.name][each.completion_id].append(value)
    return [
        Agreement(
            name,
            sum(len(values) >= 2 for values in items.values()),
            krippendorff_alpha(items.values(), is_number=metrics[name].type == "number"),
        )
        for name, items in given.items()
    ]


def _ensure_columns(
    source: Path, rows: Sequence[Row | Rejection], columns: Mapping[str, str], name: str
) -> None:
    """Refuse a table that lacks what every judgement needs, once and not for every row."""
    found = list(dict.fromkeys(key for row in rows if isinstance(row, Row) for key in row.fields))
    if not found:
        if any(isinstance(row, Rejection) for row in rows):
            return
        raise DataError(f"{source}: there is no row in it")
    fields = {_OTHER_NAMES.get(key.strip().lower(), key.strip().lower()) for key in found}
    missing = [column for column in columns.values() if column not in found]
    missing += ["id"] if "id" not in {*fields, *columns} else []
    if missing:
        raise DataError(
            f"{source}: there is no column {' or '.join(repr(one) for one in missing)}; "
            f"found are {', '.join(repr(one) for one in found)}",
            hint="--column id=NAME says which column has the completion's id",
        )
    if not name and not {"name", "comment", "correction"} & {*fields, *columns}:
        raise DataError(
            f"{source}: no column says which metric the values are of",
            hint="--name METRIC says it for all rows",
        )


def _judgement(
    row: Row, metrics: Mapping[str, LiveMetric], columns: Mapping[str, str], name: str
) -> Feedback | Rejection:
    fields = {_OTHER_NAMES.get(key.strip().lower(), key.strip().lower()): value
              for key, value in row.fields.items()}  # fmt: skip
    fields |= {key: row.fields.get(column) for key, column in columns.items()}
    values = {key: fields[key] for key in _FIELDS if fields.get(key) not in (None, "")}
    values.setdefault("name", name)
    metric = metrics.get(str(values["name"]))
    if "value" in values:
        # Where the metric is unknown, that is the problem, whatever the value.
        values["value"] = _value(values["value"], metric) if metric is not None else 0
    # The same row again, from the same table exported anew, is the same judgement.
    told = json.dumps(values, ensure_ascii=False, sort_keys=True, default=str)
    values.setdefault("idempotency_key", hashlib.sha256(told.encode()).hexdigest())
    for key in ("id", "name", "label", "rater", "comment", "correction", "idempotency_key"):
        if key in values:
            values[key] = str(values[key])
    try:
        body = FeedbackBody.model_validate({**values, "source": "import"})
    except ValidationError as error:
        first = error.errors()[0]
        reason = first["msg"].removeprefix("Value error, ")
        given = row.fields.get(columns.get(str(first["loc"][0]), str(first["loc"][0])))
        shown = "" if given in (None, "") else f", got {str(given)[:40]!r}"
        return Rejection(row.location, str(first["loc"][0]), f"{reason}{shown}")
    found = judgement_of(body, metrics)
    return _rejection(row, found) if isinstance(found, str) else found


def _rejection(row: Row, problem: str) -> Rejection:
    key, _, reason = problem.partition(": ")
    return Rejection(row.location, key, reason)


def _value(value: Any, metric: LiveMetric) -> Any:
    """Read a number or a truth as tables write them: "4,5" and "да" too."""
    if metric.type == "boolean":
        told = yes_or_no(value)
        return value if told is None else told
    if isinstance(value, str):
        try:
            return float(value.strip().replace(",", "."))
        except ValueError:
            return value
    return value


def _write(path: Path, rows: list[dict[str, Any]], redactor: Redactor | None) -> None:
    with atomic_file(path) as file:
        for row in rows:
            kept = {
                key: redactor.redact_value(value) if redactor and key not in _ORIGIN else value
                for key, value in row.items()
            }
            file.write((json.dumps(kept, ensure_ascii=False) + "\n").encode())


_ORIGIN = ("completion_id", "variant")
