"""A data set: its rows read, understood and checked."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path
from typing import Any

from kamerton.core.errors import DataError
from kamerton.core.language import translated
from kamerton.data.examples import Example, SourceLocation
from kamerton.data.examples_on_disk import ExamplesOnDisk
from kamerton.data.formats.detection import Schema, detect_format, settle_schema
from kamerton.data.formats.dialogues import dialogue_column
from kamerton.data.formats.order import OldestFirst
from kamerton.data.formats.parsing import parse_row
from kamerton.data.formats.pauses import Pauses
from kamerton.data.formats.ratings import RatedAnswer, RatedAnswers
from kamerton.data.formats.speakers import Speakers
from kamerton.data.formats.threads import TREE, Threads, find_threads, turns_column
from kamerton.data.formats.tickets import whole_ticket
from kamerton.data.formats.unused import Unused, UnusedTexts
from kamerton.data.identity import content_hash
from kamerton.data.privacy.redaction import Redactor
from kamerton.data.reading.readers import read_rows
from kamerton.data.rows import Rejection, ReportBytes, Row
from kamerton.data.settings import DataSettings

__all__ = [
    "Loaded",
    "ensure_usable",
    "load_examples",
]

_SAMPLE_ROWS = 100
_NAMED_REJECTIONS = 3
# What `data.columns` says of single turns rather than of rows.
_OF_TURNS = ("role", "content", "conversation")
# A format to those its rows turn into when one field is left out.
_LESSER = {
    "preference": ("chat", "ranking"),
    "ranking": ("chat", "prompt", "classification"),
    "rating": ("chat", "prompt", "alpaca", "classification"),
    "feedback": ("chat", "prompt", "alpaca", "classification"),
    "alpaca": ("prompt", "classification"),
    "prompt": ("classification", "ranking"),
    "classification": ("text",),
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A data set that has been read.

    Attributes:
        source: File or Hub id.
        examples: Usable examples, in order; read from disk when there are many.
        rejections: Rows that cannot, in order; last those of format "rating" that lack another.
        num_rows: Rows read; one row gives one example, of format "ranking" or "rating" any number.
        num_other_splits: Rows left out because `data.split` names other ones.
        schema: Format of the rows, and the columns of their fields.
        splits: Rows per split, where the source holds several.
        fingerprint: Hash of the examples' content and order.
        notices: What was joined or left out while reading, one sentence each.
        unused: Texts of usable rows that no field takes.
    """

    source: str
    examples: Sequence[Example]
    rejections: Sequence[Rejection]
    num_rows: int
    num_other_splits: int
    schema: Schema
    splits: Mapping[str, int] = field(default_factory=dict)
    fingerprint: str = ""
    notices: tuple[str, ...] = ()
    unused: Unused = field(default_factory=Unused)

    @property
    def unusable(self) -> float:
        """Share of rows that cannot be used, 0 to 1."""
        return len(self.rejections) / self.num_rows if self.num_rows else 0.0


def load_examples(
    settings: DataSettings | str | Path,
    *,
    source: str | None = None,
    redactor: Redactor | None = None,
    report: ReportBytes | None = None,
) -> Loaded:
    """Read a data set.

    Args:
        settings: Settings of reading; a path alone means all defaults.
        source: File to read in place of `settings.train`, such as the holdout's file.
        redactor: Numbers personal data consistently over several data sets; when None and
            `settings.redact` is set, a new one is used.
        report: Called with the progress of reading, in bytes.

    Returns:
        Examples and rejections; each row is in one of them.

    Raises:
        DataError: If the source cannot be read, is empty, holds nothing that can be understood,
            or mixes kinds of rows.
        MissingExtraError: If an optional package is needed.
    """
    if not isinstance(settings, DataSettings):
        settings = DataSettings(train=str(settings))
    name = source or settings.train
    wanted = _Wanted(settings.split)
    rows: Iterator[Row | Rejection] = map(
        whole_ticket, wanted.only(read_rows(name, encoding=settings.encoding, report=report))
    )
    head, sample = _beginning(rows)
    if not head:
        raise _nothing(name, settings.split, wanted.splits)
    if not sample:
        raise DataError(
            translated(
                "{name}: none of {num_head} rows can be read:\n{listed}",
                name=name,
                num_head=len(head),
                listed=_listed(_rejections(head)),
            )
        )
    speakers = Speakers(settings.roles, settings.columns)
    threads = _threads(settings, name, [row.fields for row in sample], speakers)
    if threads is not None:
        rows = threads.join(chain(head, rows))
        head, sample = _beginning(rows)
    schema = _schema(settings, name, [row.fields for row in sample], speakers, threads)
    oldest_first = OldestFirst(schema.sources.get("messages", ""))
    all_rows: Iterator[Row | Rejection] = oldest_first.apply(chain(head, rows))
    pauses = Pauses(schema.sources.get("messages", ""), settings.pause_hours, speakers)
    if schema.format == "chat" and settings.pause_hours:
        all_rows = pauses.divide(all_rows)
    if settings.redact and redactor is None:
        redactor = Redactor()
    found = _Collected(schema, redactor)
    for row in all_rows:
        found.add(row)
    found.finish()
    return Loaded(
        source=name,
        examples=found.examples,
        rejections=found.rejections,
        num_rows=found.num_rows,
        num_other_splits=wanted.num_others,
        schema=schema,
        splits=wanted.splits,
        fingerprint=found.content.hexdigest(),
        notices=(
            *_read_as_dialogues(schema, sample),
            *(threads.notices if threads is not None else ()),
            *oldest_first.notices,
            *pauses.notices,
            *(f"{count} {what} are left out" for what, count in speakers.left_out.items()),
        ),
        unused=found.unused.found,
    )


def ensure_usable(loaded: Loaded, max_unusable: float) -> None:
    """Refuse a data set of which too much cannot be used.

    Args:
        loaded: The data set.
        max_unusable: Largest share of rows, 0 to 1.

    Raises:
        DataError: If the share is larger, or nothing can be used.
    """
    num_bad = len(loaded.rejections)
    if loaded.examples and loaded.unusable <= max_unusable:
        return
    more = num_bad - _NAMED_REJECTIONS
    raise DataError(
        translated(
            "{source}: {num_bad} of {num_rows} rows cannot be used ({unusable:.1%}, "
            "data.max_unusable is {max_unusable:.1%}):\n{listed}",
            source=loaded.source,
            num_bad=num_bad,
            num_rows=loaded.num_rows,
            unusable=loaded.unusable,
            max_unusable=max_unusable,
            listed=_listed(loaded.rejections),
        )
        + (translated("\n  and {more} more", more=more) if more > 0 else ""),
        hint=translated("kamerton check {source} lists them all", source=loaded.source),
    )


class _Collected:
    """What rows have given so far."""

    def __init__(self, schema: Schema, redactor: Redactor | None) -> None:
        self._schema, self._redactor = schema, redactor
        self._rated = RatedAnswers(schema)
        self.examples: ExamplesOnDisk[Example] = ExamplesOnDisk()
        self.rejections: list[Rejection] = []
        self.num_rows = 0
        self.content = sha256()
        self.unused = UnusedTexts(schema)

    def add(self, row: Row | Rejection) -> None:
        """Read a row."""
        self.num_rows += 1
        outcome = row if isinstance(row, Rejection) else parse_row(row, self._schema)
        if isinstance(outcome, Rejection):
            if isinstance(row, Row) and not self._schema.explicit:
                first = self.examples[0].location if self.examples else None
                _refuse_other_kind(row, self._schema, first)
            self.rejections.append(outcome)
            return
        if isinstance(row, Row):
            self.unused.add(row.fields)
        if isinstance(outcome, RatedAnswer):
            self._rated.add(outcome)
            return
        for example in outcome:
            self._keep(example)

    def finish(self) -> None:
        """Make pairs of rated answers, which need all rows."""
        for pair in self._rated.pairs():
            if isinstance(pair, Rejection):
                self.rejections.append(pair)
            else:
                self._keep(pair)

    def _keep(self, example: Example) -> None:
        example = example if self._redactor is None else self._redactor.redact(example)
        self.content.update(content_hash(example).encode())
        self.examples.append(example)


def _beginning(rows: Iterator[Row | Rejection]) -> tuple[list[Row | Rejection], list[Row]]:
    """Take the first rows, to tell by them what all are; and those of them that can be read.

    Where all of the beginning is broken, it goes on to the first row that is not.
    """
    head = list(islice(rows, _SAMPLE_ROWS))
    sample = [row for row in head if isinstance(row, Row)]
    while not sample and (row := next(rows, None)) is not None:
        head.append(row)
        sample += [row] if isinstance(row, Row) else []
    return head, sample


class _Wanted:
    """Lets through the rows of the wanted splits and counts the others."""

    def __init__(self, names: str) -> None:
        self._names = {name.strip() for name in names.split(",") if name.strip()}
        self.num_others = 0
        self.splits: dict[str, int] = {}

    def only(self, rows: Iterator[Row | Rejection]) -> Iterator[Row | Rejection]:
        for row in rows:
            name = row.fields.get("split") if isinstance(row, Row) else None
            if isinstance(name, str):
                self.splits[name] = self.splits.get(name, 0) + 1
            if self._names and isinstance(row, Row) and name not in self._names:
                self.num_others += 1
            else:
                yield row


def _threads(
    settings: DataSettings, name: str, sample: Sequence[Mapping[str, Any]], speakers: Speakers
) -> Threads | None:
    """Tell whether rows are single turns: only where nothing better is known of them."""
    column = settings.columns.get("conversation", "")
    unclear = not _row_columns(settings) and detect_format(sample) in (None, "text")
    if settings.format not in ("auto", "chat") or not (column or unclear):
        return None
    return find_threads(sample, name=name, speakers=speakers, column=column)


def _schema(
    settings: DataSettings,
    name: str,
    sample: Sequence[Mapping[str, Any]],
    speakers: Speakers,
    threads: Threads | None,
) -> Schema:
    """Settle what the rows are, and who is who in them."""
    columns = _row_columns(settings)
    known = detect_format(sample)
    if settings.format == "auto" and not columns and known in (None, "text"):
        turns = "" if known else turns_column(sample, speakers)
        turns = turns or dialogue_column(sample, speakers)
        columns = {"messages": turns} if turns else {}
    schema = settle_schema(
        sample,
        name=name,
        format=settings.format,
        columns=columns,
        group=settings.group or (TREE if threads is not None and threads.identity else ""),
        pairs=settings.pairs,
        speakers=speakers,
    )
    speakers.ensure_known([schema.value(fields, "messages") for fields in sample], name)
    return schema


def _read_as_dialogues(schema: Schema, sample: Sequence[Row]) -> Iterator[str]:
    column = schema.sources.get("messages", "")
    if (
        not schema.explicit
        and column in ("text", "content")
        and any(isinstance(row.fields.get(column), str) for row in sample)
    ):
        yield (
            f"the texts in '{column}' are read as dialogues, a speaker before each turn; "
            'data.format = "text" keeps them texts'
        )


def _row_columns(settings: DataSettings) -> dict[str, str]:
    return {ours: theirs for ours, theirs in settings.columns.items() if ours not in _OF_TURNS}


def _nothing(name: str, split: str, splits: Mapping[str, int]) -> DataError:
    if split:
        return DataError(
            translated("{name}: no row belongs to data.split = '{split}'", name=name, split=split),
            hint=translated("splits found: {value}", value=", ".join(splits) or "none"),
        )
    return DataError(translated("{name}: holds no rows", name=name))


def _refuse_other_kind(row: Row, schema: Schema, first: SourceLocation | None) -> None:
    if not schema.missing(row.fields):
        return
    other = detect_format([row.fields])
    if other is None or other == schema.format or other in _LESSER.get(schema.format, ()):
        return
    before = f"{first} is" if first else "most rows are"
    raise DataError(
        translated(
            "rows of two kinds in one file: {before} a '{format}' row, {location} a '{other}' row",
            before=before,
            format=schema.format,
            location=row.location,
            other=other,
        ),
        hint=translated(
            "put them in two files, or set data.format to '{format}' or '{other}' to "
            "list the others as unusable",
            format=schema.format,
            other=other,
        ),
    )


def _rejections(rows: Sequence[Row | Rejection]) -> list[Rejection]:
    return [row for row in rows if isinstance(row, Rejection)]


def _listed(rejections: Sequence[Rejection]) -> str:
    return "\n".join(f"  {rejection}" for rejection in rejections[:_NAMED_REJECTIONS])
