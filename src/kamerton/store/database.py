"""The store: runs, variants and evaluations in SQLite, or in PostgreSQL by URL."""

import re
import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    create_engine,
    event,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError

from kamerton.core.errors import MissingExtraError, StoreError
from kamerton.store import tables

__all__ = ["RunRecord", "Store", "open_store"]

_HEAD = "0002"
_BUSY_MS = 30_000


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as the store knows it.

    Attributes:
        id: A unique id.
        name: The name of its recipe.
        status: `running`, `done`, `stopped` or `failed`.
        step: Steps done.
        num_steps: Steps planned.
        loss: Loss of the last step.
        holdout_loss: The best measured.
        started: UTC.
    """

    id: str
    name: str
    status: str
    step: int
    num_steps: int
    loss: float | None
    holdout_loss: float | None
    started: datetime


class Store:
    """An open store.

    Args:
        engine: The database's engine, connected and migrated.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Open a transaction, for the functions of `traffic`, `feedback` and `experiments`.

        Yields:
            A connection; what is done over it is committed at the end, all or nothing.
        """
        with self._engine.begin() as connection:
            yield connection

    @contextmanager
    def begin_quickly(self) -> Iterator[Connection]:
        """Open a transaction whose end does not wait for the disk.

        What it commits is safe when this process is killed. When the machine of the database loses
        its power before `sync`, or within a second under PostgreSQL, it may be gone.

        Yields:
            A connection; what is done over it is committed at the end, all or nothing.
        """
        is_sqlite = self._engine.dialect.name == "sqlite"
        with self._engine.connect() as connection:
            if is_sqlite:
                # Takes no effect within a transaction.
                connection.exec_driver_sql("PRAGMA synchronous = NORMAL")
                connection.commit()
            try:
                with connection.begin():
                    if not is_sqlite:
                        connection.exec_driver_sql("SET LOCAL synchronous_commit TO off")
                    yield connection
            finally:
                if is_sqlite and not connection.closed:
                    connection.exec_driver_sql("PRAGMA synchronous = FULL")
                    connection.commit()

    def sync(self) -> None:
        """Wait until all that was committed is on the disk; PostgreSQL does that by itself."""
        if self._engine.dialect.name == "sqlite":
            with self._engine.connect() as connection:
                # A checkpoint begins by writing the log out.
                connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def begin_run(
        self,
        name: str,
        recipe: Mapping[str, Any],
        folder: Path,
        num_steps: int,
        first_step: int = 0,
    ) -> str:
        """Record that a run begins, or goes on from a checkpoint.

        Args:
            name: The name of the recipe.
            recipe: Plain values.
            folder: The folder of its events; tells one run from another.
            num_steps: Steps planned.
            first_step: Steps done before; above 0 the folder's last record is continued.

        Returns:
            The run's id.
        """
        run_id, now = str(uuid.uuid4()), _now()
        table, resolved = tables.runs, str(folder.resolve())
        values = {
            "name": name, "status": "running", "recipe": dict(recipe), "updated": now,
            "step": first_step, "num_steps": num_steps,
        }  # fmt: skip
        here = table.c.folder == resolved
        with self._engine.begin() as connection:
            # A killed process left its runs marked as running.
            left = here & (table.c.status == "running")
            connection.execute(update(table).where(left).values(status="stopped"))
            last = select(table.c.id).where(here).order_by(table.c.started.desc()).limit(1)
            found = connection.execute(last).scalar() if first_step else None
            if found is not None:
                connection.execute(update(table).where(table.c.id == found).values(**values))
                return str(found)
            connection.execute(
                insert(table).values(id=run_id, folder=resolved, started=now, **values)
            )
        return run_id

    def update_run(self, run_id: str, **values: Any) -> None:
        """Change a run's record.

        Args:
            run_id: The id that `begin_run` gave.
            **values: Columns of `runs`.
        """
        with self._engine.begin() as connection:
            changed = update(tables.runs).where(tables.runs.c.id == run_id)
            connection.execute(changed.values(updated=_now(), **values))

    def runs(self) -> list[RunRecord]:
        """List runs.

        Returns:
            The newest first.
        """
        names = RunRecord.__slots__
        columns = [tables.runs.c[name] for name in names]
        with self._engine.connect() as connection:
            rows = connection.execute(select(*columns).order_by(tables.runs.c.started.desc()))
            return [RunRecord(**dict(zip(names, row, strict=True))) for row in rows]

    def add_variant(self, manifest: Mapping[str, Any], folder: Path) -> None:
        """Record a variant; the same content again only changes where it is.

        Args:
            manifest: Plain values of its manifest.
            folder: The variant's folder.
        """
        key = tables.variants.c.content_hash == manifest["content_hash"]
        values = {"name": manifest["name"], "folder": str(folder), "manifest": dict(manifest)}
        with self._engine.begin() as connection:
            if connection.execute(update(tables.variants).where(key).values(**values)).rowcount:
                return
            values |= {"content_hash": manifest["content_hash"], "created": _now()}
            connection.execute(insert(tables.variants).values(**values))

    def variants(self) -> list[dict[str, Any]]:
        """List the manifests of recorded variants.

        Returns:
            Plain values with `folder`, the newest first.
        """
        table = tables.variants
        with self._engine.connect() as connection:
            rows = connection.execute(
                select(table.c.manifest, table.c.folder).order_by(table.c.created.desc())
            )
            return [{**manifest, "folder": folder} for manifest, folder in rows]

    def add_evaluation(
        self, data_fingerprint: str, names: Sequence[str], comparison: Mapping[str, Any]
    ) -> str:
        """Record a comparison.

        Args:
            data_fingerprint: Fingerprint of the items.
            names: The variants compared.
            comparison: Plain values.

        Returns:
            Its id.
        """
        key = str(uuid.uuid4())
        with self._engine.begin() as connection:
            values = {"id": key, "created": _now(), "data_fingerprint": data_fingerprint}
            connection.execute(
                insert(tables.evaluations).values(**values, comparison=dict(comparison))
            )
            rows = [{"evaluation_id": key, "variant": name} for name in names]
            connection.execute(insert(tables.evaluated_variants), rows)
        return key

    def evaluations(self, variant: str | None = None) -> list[dict[str, Any]]:
        """List comparisons.

        Args:
            variant: The variant's name; None takes the evaluations of all.

        Returns:
            Plain values, the newest first.
        """
        table, link = tables.evaluations, tables.evaluated_variants
        wanted = select(table.c.comparison).order_by(table.c.created.desc())
        if variant is not None:
            chosen = select(link.c.evaluation_id).where(link.c.variant == variant)
            wanted = wanted.where(table.c.id.in_(chosen))
        with self._engine.connect() as connection:
            return [dict(row[0]) for row in connection.execute(wanted)]


@contextmanager
def open_store(address: Path | str) -> Iterator[Store]:
    """Open a store, making or migrating it as needed.

    Args:
        address: A SQLite file, or a database URL such as `postgresql+psycopg://...`.

    Yields:
        The store.

    Raises:
        StoreError: If it cannot be opened, is no store, or was made by a newer version.
        MissingExtraError: If it is in PostgreSQL and the driver is not installed.
    """
    shown = _without_password(address)
    try:
        engine = _engine(address)
    except ImportError as error:
        if error.name != "psycopg":
            raise StoreError(f"{shown}: not a database that can be opened: {error}") from None
        raise MissingExtraError("psycopg", "postgres", "a store in PostgreSQL") from None
    except (ArgumentError, NoSuchModuleError) as error:
        raise StoreError(f"{shown}: not a database that can be opened: {error}") from None
    try:
        _migrate(engine, shown)
        yield Store(engine)
    except (OperationalError, DatabaseError) as error:
        raise StoreError(
            f"{shown}: the database refuses: {error.orig}",
            hint="is it a Kamerton store, writable, and not locked by another program?",
        ) from None
    finally:
        engine.dispose()


def _without_password(address: Path | str) -> str:
    return re.sub(r"(//[^:/@]*):.*@", r"\1:***@", str(address))


def _engine(address: Path | str) -> Engine:
    if isinstance(address, str) and "://" in address:
        # A connection that the database has closed meanwhile is opened again.
        return create_engine(address, pool_pre_ping=True, hide_parameters=True)
    path = Path(address)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Messages of errors, which are logged, would hold prompts.
    engine = create_engine(f"sqlite:///{path}", hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        # Readers do not block the writer; two processes wait for each other instead of failing.
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        # This alone does not wait; where another process is in the way, the file is used as it is.
        with suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")

    return engine


def _migrate(engine: Engine, shown: str) -> None:
    with engine.connect() as connection:
        if _revision(connection) == _HEAD:
            return
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            # Takes the write lock, so that of two processes one migrates and the other waits.
            connection.execute(text("CREATE TABLE IF NOT EXISTS migration_lock (held INTEGER)"))
            connection.execute(text("DELETE FROM migration_lock"))
        found = _revision(connection)
        if found == _HEAD:
            return
        if found is not None and found > _HEAD:
            raise StoreError(
                f"{shown} was made by a newer Kamerton (revision {found}, this one knows {_HEAD})",
                hint="update Kamerton, or use another store",
            )
        _run_alembic(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
    return None if row is None else str(row[0])


def _run_alembic(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _now() -> datetime:
    # Stored without zone; all times are UTC.
    return datetime.now(UTC).replace(tzinfo=None)
