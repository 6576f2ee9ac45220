"""Recorded requests and exposures: plain rows, written in groups, read in order of time."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, Table, case, false, select, update

from kamerton.core.routing import Exposure, now_utc
from kamerton.store import tables

__all__ = [
    "AnswerChecks",
    "Exposure",
    "RequestRow",
    "add_exposures",
    "add_requests",
    "between",
    "exposures_of",
    "find_request",
    "insert_new",
    "new_only",
    "now",
    "requests_between",
    "set_checks",
]

_TEXTS = ("prompt", "answer")


def now() -> datetime:
    """Give the time as the store keeps it.

    Returns:
        UTC without a zone.
    """
    return now_utc()


@dataclass(frozen=True, slots=True)
class RequestRow:
    """A request that is over.

    Attributes:
        id: The completion's id, as the client sees it; the request's where no answer was begun.
        variant: The served model that answered.
        content_hash: Of the variant.
        created: When the request came, UTC.
        route: What the client asked for, where that was a route.
        rule: The route's rule that matched.
        experiment: The experiment that assigned the unit.
        arm: The unit's arm.
        propensity: Probability with which the arm was drawn.
        routing_version: Version of the rules that decided.
        unit: Who is assigned; hashed where the policy says so.
        conversation: Id of the conversation.
        segment: Audience segment.
        tenant: Whose customer it is.
        language: Code of a language.
        key_name: Name of the API key.
        latency_s: From the request's arrival to the last byte of the answer.
        first_token_s: From the request's arrival to its first token.
        prompt_tokens: Tokens of all different prompts.
        answer_tokens: Tokens of all answers.
        finish_reason: Of the first answer; empty where it has none.
        status: HTTP status, that of an error in the middle of a stream, or 499.
        refusal: Whether every answer refuses; None where there is none.
        format_valid: Whether every answer follows the format that was asked for; None without one.
        cost: In the currency of the settings; None where no price is known.
        prompt: The first prompt, JSON of the messages of a chat; None by the policy.
        answer: The first answer, JSON with `tool_calls` where it calls any; None by the policy.
        checks: What checks say of the answer, 0 or 1 by name.
        shadow_of: The completion that the client got, where this is a mirrored one.
    """

    id: str
    variant: str
    content_hash: str = ""
    created: datetime = field(default_factory=now)
    route: str = ""
    rule: str = ""
    experiment: str = ""
    arm: str = ""
    propensity: float = 1.0
    routing_version: str = ""
    unit: str = ""
    conversation: str = ""
    segment: str = ""
    tenant: str = ""
    language: str = ""
    key_name: str = ""
    latency_s: float = 0.0
    first_token_s: float | None = None
    prompt_tokens: int = 0
    answer_tokens: int = 0
    finish_reason: str = ""
    status: int = 200
    refusal: bool | None = None
    format_valid: bool | None = None
    cost: float | None = None
    prompt: str | None = None
    answer: str | None = None
    checks: Mapping[str, float] | None = None
    shadow_of: str | None = None


@dataclass(frozen=True, slots=True)
class AnswerChecks:
    """What checks say of an answer that has a row.

    Attributes:
        id: The completion's id.
        checks: 0 or 1 by name.
    """

    id: str
    checks: Mapping[str, float]


def add_requests(connection: Connection, rows: Sequence[RequestRow]) -> None:
    """Write rows; one that is there already stays as it is.

    Args:
        connection: Of `Store.begin`.
        rows: Any number.
    """
    insert_new(connection, tables.requests, [_fitting(row) for row in rows])


def add_exposures(connection: Connection, exposures: Sequence[Exposure]) -> None:
    """Write assignments; of each unit the first one stays.

    Args:
        connection: Of `Store.begin`.
        exposures: Any number.
    """
    insert_new(connection, tables.exposures, [asdict(each) for each in exposures])


def find_request(connection: Connection, completion_id: str) -> RequestRow | None:
    """Find a row.

    Args:
        connection: Of `Store.begin`.
        completion_id: The completion's id.

    Returns:
        The row; None where there is none (yet).
    """
    found = _requests().where(tables.requests.c.id == completion_id)
    row = connection.execute(found).first()
    return None if row is None else RequestRow(**row._mapping)


def requests_between(
    connection: Connection,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    with_text: Collection[str] | None = None,
    **equal: str,
) -> Iterator[RequestRow]:
    """Read rows in the order in which the requests came; shadows are left out.

    Args:
        connection: Of `Store.begin`.
        since: The first moment, UTC; None takes all.
        until: The first moment after the last, UTC; None takes all.
        with_text: Ids of the rows whose prompt and answer are read; None reads them all.
        **equal: Columns with the value that they must have.

    Yields:
        The rows.
    """
    wanted = between(_requests(with_text), since, until, **equal)
    for row in connection.execute(wanted.execution_options(yield_per=1000)):
        yield RequestRow(**row._mapping)


def between(
    wanted: Select[Any], since: datetime | None, until: datetime | None, **equal: str
) -> Select[Any]:
    """Choose requests of a span of time, in the order in which they came, without shadows.

    Args:
        wanted: Selects columns of requests.
        since: The first moment, UTC; None takes all.
        until: The first moment after the last, UTC; None takes all.
        **equal: Columns with the value that they must have.

    Returns:
        The statement.
    """
    columns = tables.requests.c
    wanted = wanted.where(columns.shadow_of.is_(None)).order_by(columns.created, columns.id)
    if since is not None:
        wanted = wanted.where(columns.created >= since)
    if until is not None:
        wanted = wanted.where(columns.created < until)
    for name, value in equal.items():
        wanted = wanted.where(columns[name] == value)
    return wanted


def exposures_of(connection: Connection, experiment: str) -> list[Exposure]:
    """Read the assignments of an experiment.

    Args:
        connection: Of `Store.begin`.
        experiment: Its name.

    Returns:
        One per unit, in the order in which they came.
    """
    table = tables.exposures
    wanted = select(table).where(table.c.experiment == experiment).order_by(table.c.created)
    return [Exposure(**row._mapping) for row in connection.execute(wanted)]


def set_checks(connection: Connection, told: Sequence[AnswerChecks]) -> None:
    """Note what checks say of answers.

    Args:
        connection: Of `Store.begin`.
        told: Of any number of answers; those without a row are passed over.
    """
    table = tables.requests
    for each in told:
        changed = update(table).where(table.c.id == each.id)
        connection.execute(changed.values(checks=dict(each.checks)))


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert rows, except those whose key is there already.

    Args:
        connection: Of `Store.begin`.
        table: The table.
        rows: Columns and values, the same columns in each.

    Returns:
        Number of new rows.
    """
    if not rows:
        return 0
    # One statement for many rows is compiled once and kept, whatever their number. psycopg's count
    # of an insertion is dropped without the option.
    inserted = new_only(connection, table).execution_options(preserve_rowcount=True)
    return connection.execute(inserted, rows).rowcount


def new_only(connection: Connection, table: Table) -> Any:
    """Make an insertion that passes over rows whose key is there already.

    Args:
        connection: Of `Store.begin`.
        table: The table.

    Returns:
        The statement, without values; SQLAlchemy has one class for each kind of database.
    """
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_postgresql

        return insert_postgresql(table).on_conflict_do_nothing()
    from sqlalchemy.dialects.sqlite import insert as insert_sqlite

    return insert_sqlite(table).on_conflict_do_nothing()


def _requests(with_text: Collection[str] | None = None) -> Select[Any]:
    table = tables.requests
    columns: list[Any] = [table.c[each.name] for each in fields(RequestRow)]
    if with_text is not None:
        # A few texts of many rows: the others are not even read from the disk.
        is_wanted = table.c.id.in_(list(with_text)) if with_text else false()
        columns = [
            case((is_wanted, column)).label(column.name) if column.name in _TEXTS else column
            for column in columns
        ]
    return select(*columns)


_LENGTHS = {column.name: getattr(column.type, "length", None) for column in tables.requests.c}


def _fitting(row: RequestRow) -> dict[str, Any]:
    """Cut what a client may write as long as it likes; PostgreSQL takes no zero byte."""
    values = {}
    for name, length in _LENGTHS.items():
        value = getattr(row, name)
        if isinstance(value, str):
            value = value.replace("\x00", "")[:length]
        values[name] = value
    return values
