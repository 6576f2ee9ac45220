"""Experiments and what was done to them, by whom: rows for the audit."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from kamerton.store import tables
from kamerton.store.traffic import insert_new, now

__all__ = [
    "ExperimentEvent",
    "ExperimentRow",
    "add_experiment",
    "add_experiment_event",
    "experiment_events",
    "experiment_rows",
    "update_experiment",
]


@dataclass(frozen=True, slots=True)
class ExperimentRow:
    """An experiment as it was registered.

    Attributes:
        name: Its name.
        version: Tells one phase from the next; a phase is never changed.
        settings: Plain values of what was registered.
        salt: Makes its assignments differ from those of any other experiment.
        status: "planned", "running", "stopped" or what the caller calls it.
        started: UTC; None before.
        ended: UTC; None before.
    """

    name: str
    version: str
    settings: Mapping[str, Any]
    salt: str
    status: str = "planned"
    started: datetime | None = None
    ended: datetime | None = None


@dataclass(frozen=True, slots=True)
class ExperimentEvent:
    """Something that was done to an experiment.

    Attributes:
        experiment: Its name.
        what: Such as "started", "stopped", "rolled back".
        by_whom: Name of a person, key or rule.
        detail: Plain values.
        created: UTC.
    """

    experiment: str
    what: str
    by_whom: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    created: datetime = field(default_factory=now)


def add_experiment(connection: Connection, row: ExperimentRow) -> bool:
    """Register an experiment.

    Args:
        connection: Of `Store.begin`.
        row: The experiment.

    Returns:
        Whether it is new: a name and version that is there stays as it is.
    """
    return insert_new(connection, tables.experiments, [asdict(row)]) == 1


def update_experiment(connection: Connection, name: str, version: str, **values: Any) -> None:
    """Change the status of an experiment.

    Args:
        connection: Of `Store.begin`.
        name: Its name.
        version: Its version.
        **values: Of `status`, `started` and `ended`.
    """
    table = tables.experiments
    here = (table.c.name == name) & (table.c.version == version)
    connection.execute(update(table).where(here).values(**values))


def experiment_rows(connection: Connection, name: str | None = None) -> list[ExperimentRow]:
    """Read experiments.

    Args:
        connection: Of `Store.begin`.
        name: Only this one, in all its versions.

    Returns:
        In order of name and version.
    """
    table = tables.experiments
    wanted = select(table).order_by(table.c.name, table.c.version)
    if name is not None:
        wanted = wanted.where(table.c.name == name)
    return [ExperimentRow(**row._mapping) for row in connection.execute(wanted)]


def add_experiment_event(connection: Connection, event: ExperimentEvent) -> None:
    """Write down what was done.

    Args:
        connection: Of `Store.begin`.
        event: What was done.
    """
    connection.execute(insert(tables.experiment_events).values(**asdict(event)))


def experiment_events(connection: Connection, experiment: str) -> list[ExperimentEvent]:
    """Read what was done to an experiment.

    Args:
        connection: Of `Store.begin`.
        experiment: Its name.

    Returns:
        The first one first.
    """
    table = tables.experiment_events
    columns = [table.c[name] for name in ExperimentEvent.__slots__]
    wanted = select(*columns).where(table.c.experiment == experiment).order_by(table.c.id)
    return [ExperimentEvent(**row._mapping) for row in connection.execute(wanted)]
