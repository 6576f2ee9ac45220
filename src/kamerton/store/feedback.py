"""Feedback on answers: every judgement is kept, the last one of each rater counts."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime

from sqlalchemy import Connection, func, select

from kamerton.store import tables
from kamerton.store.traffic import new_only, now

__all__ = ["Feedback", "add_feedback", "feedback_history", "latest_feedback", "num_feedback"]


@dataclass(frozen=True, slots=True)
class Feedback:
    """One judgement of one answer.

    Attributes:
        completion_id: The completion's id.
        name: The metric's.
        value: A number, or 0 or 1.
        label: A word, where the metric takes words.
        rater: Who judges; empty where that is not known.
        comment: Why, in free words.
        correction: What the answer should have been.
        source: "api", "page", "import" or what a program calls itself.
        idempotency_key: The same key again for the same completion stores nothing.
        created: When, UTC.
        id: Rises with each judgement; None before it is stored.
    """

    completion_id: str
    name: str
    value: float | None = None
    label: str | None = None
    rater: str = ""
    comment: str | None = None
    correction: str | None = None
    source: str = "api"
    idempotency_key: str | None = None
    created: datetime = field(default_factory=now)
    id: int | None = None


def add_feedback(connection: Connection, feedback: Feedback) -> Feedback:
    """Store a judgement.

    Args:
        connection: Of `Store.begin`.
        feedback: The judgement.

    Returns:
        It with its id; the first one where its idempotency key came before.
    """
    table = tables.feedback
    values = asdict(feedback)
    del values["id"]
    inserted = new_only(connection, table).values(**values).returning(table.c.id)
    if (found := connection.execute(inserted).scalar()) is not None:
        return replace(feedback, id=found)
    wanted = select(*(table.c[each.name] for each in fields(Feedback)))
    wanted = wanted.where(
        table.c.completion_id == feedback.completion_id,
        table.c.idempotency_key == feedback.idempotency_key,
    )
    return Feedback(**connection.execute(wanted).one()._mapping)


def latest_feedback(
    connection: Connection, completion_ids: Sequence[str] | None = None
) -> Iterator[Feedback]:
    """Read the judgements that count: the last one of each rater, metric and completion.

    Args:
        connection: Of `Store.begin`.
        completion_ids: Whose; None takes all.

    Yields:
        Judgements in the order in which they came.
    """
    table = tables.feedback
    last = select(func.max(table.c.id)).group_by(table.c.completion_id, table.c.name, table.c.rater)
    wanted = select(*(table.c[each.name] for each in fields(Feedback)))
    wanted = wanted.where(table.c.id.in_(last)).order_by(table.c.id)
    if completion_ids is not None:
        wanted = wanted.where(table.c.completion_id.in_(completion_ids))
    for row in connection.execute(wanted.execution_options(yield_per=1000)):
        yield Feedback(**row._mapping)


def feedback_history(connection: Connection, completion_id: str) -> list[Feedback]:
    """Read all that was ever said of an answer.

    Args:
        connection: Of `Store.begin`.
        completion_id: The completion's id.

    Returns:
        The first one first.
    """
    table = tables.feedback
    wanted = select(*(table.c[each.name] for each in fields(Feedback)))
    wanted = wanted.where(table.c.completion_id == completion_id).order_by(table.c.id)
    return [Feedback(**row._mapping) for row in connection.execute(wanted)]


def num_feedback(connection: Connection, completion_id: str) -> int:
    """Count all that was ever said of an answer.

    Args:
        connection: Of `Store.begin`.
        completion_id: The completion's id.

    Returns:
        Number of judgements.
    """
    table = tables.feedback
    wanted = select(func.count()).where(table.c.completion_id == completion_id)
    return int(connection.execute(wanted).scalar_one())
