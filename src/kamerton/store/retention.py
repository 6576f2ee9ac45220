"""What is forgotten when its time is over."""

from datetime import datetime

from sqlalchemy import Connection, update

from kamerton.store import tables

__all__ = ["forget_texts"]


def forget_texts(connection: Connection, before: datetime) -> int:
    """Delete old texts: prompts, answers, comments and corrections. Rows and numbers stay.

    Args:
        connection: Of `Store.begin`.
        before: What is older loses its texts, UTC.

    Returns:
        Number of rows that lost something.
    """
    num_changed = 0
    for table, texts in (
        (tables.requests, ("prompt", "answer")),
        (tables.feedback, ("comment", "correction")),
    ):
        first, second = (table.c[name] for name in texts)
        is_old = (table.c.created < before) & (first.is_not(None) | second.is_not(None))
        cleared = update(table).where(is_old).values({first: None, second: None})
        num_changed += connection.execute(cleared).rowcount
    return num_changed
