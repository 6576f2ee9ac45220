"""Every kind of store: a SQLite file by path, and databases by URL."""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

__all__ = ["PLACES"]


@contextmanager
def _file(folder: Path) -> Iterator[Path]:
    yield folder / "deep" / "kamerton.db"


@contextmanager
def _sqlite(folder: Path) -> Iterator[str]:
    yield f"sqlite:///{folder / 'kamerton.db'}"


@contextmanager
def _postgresql(_folder: Path) -> Iterator[str]:
    """A schema of its own in the database that the environment names."""
    address = os.environ.get("KAMERTON_TEST_POSTGRES")
    if not address:
        reason = "KAMERTON_TEST_POSTGRES names no database: scripts/ci/with_postgres.sh starts one"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    schema = f"test_{uuid.uuid4().hex}"
    engine = create_engine(address)
    try:
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {schema}"))
        own = make_url(address).update_query_dict({"options": f"-csearch_path={schema}"})
        yield own.render_as_string(hide_password=False)
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    finally:
        engine.dispose()


PLACES: dict[str, Callable[[Path], AbstractContextManager[Path | str]]] = {
    "sqlite-file": _file,
    "sqlite-url": _sqlite,
    "postgresql": _postgresql,
}
