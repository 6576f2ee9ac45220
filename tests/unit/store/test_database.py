"""The store: migrations, records, two processes at once, what cannot be opened."""

import sqlite3
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from kamerton.core.errors import InterruptedRun, MissingExtraError, StoreError
from kamerton.core.events import CheckpointSaved, HoldoutMeasured, RunFinished, RunStarted, StepDone
from kamerton.store import tables
from kamerton.store.database import open_store
from kamerton.store.sink import record_run


def test_migrations_make_the_tables_that_the_code_describes(tmp_path: Path) -> None:
    with open_store(tmp_path / "k.db"):
        pass
    engine = create_engine(f"sqlite:///{tmp_path / 'k.db'}")
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"include_name": lambda name, kind, _: name != "migration_lock"},
        )
        assert compare_metadata(context, tables.metadata) == []
    engine.dispose()


def test_runs_follow_events(tmp_path: Path) -> None:
    with open_store(tmp_path / "k.db") as store:
        with record_run(store, {"name": "a"}, tmp_path) as send:
            send(RunStarted("a", "a", 10, 0))
            send(StepDone(1, 10, 2.5, 1e-3, 1.0, 100, 50, 0.1))
            send(HoldoutMeasured(1, 2.0, best=True))
            send(HoldoutMeasured(2, 2.2, best=False))
            send(CheckpointSaved(1, tmp_path))
            (run,) = store.runs()
            assert (run.status, run.loss, run.num_steps) == ("running", 2.5, 10)
            assert run.holdout_loss == 2.0
            send(RunFinished("a", 10, "done"))
        (run,) = store.runs()
        assert (run.status, run.step) == ("done", 10)


@pytest.mark.parametrize(
    ("error", "status"), [(InterruptedRun("stopped"), "stopped"), (ValueError("bug"), "failed")]
)
def test_a_run_that_ends_early_says_how_and_can_go_on(
    tmp_path: Path, error: Exception, status: str
) -> None:
    with open_store(tmp_path / "k.db") as store:
        with pytest.raises(type(error)), record_run(store, {}, tmp_path) as send:
            send(RunStarted("a", "a", 10, 0))
            raise error
        assert [run.status for run in store.runs()] == [status]
        with record_run(store, {}, tmp_path) as send:
            send(RunStarted("a", "a", 10, first_step=4))
            send(RunFinished("a", 10, "done"))
        assert [(run.status, run.step) for run in store.runs()] == [("done", 10)]


def test_a_killed_run_is_not_left_running(tmp_path: Path) -> None:
    with open_store(tmp_path / "k.db") as store:
        store.begin_run("a", {}, tmp_path / "a", 10)
        store.begin_run("b", {}, tmp_path / "b", 10)
        store.begin_run("a", {}, tmp_path / "a", 10)
        assert sorted(run.status for run in store.runs()) == ["running", "running", "stopped"]


def test_variants_and_evaluations(tmp_path: Path) -> None:
    with open_store(tmp_path / "k.db") as store:
        store.add_variant({"content_hash": "a" * 64, "name": "one"}, tmp_path / "one")
        store.add_variant({"content_hash": "a" * 64, "name": "two"}, tmp_path / "two")
        (found,) = store.variants()
        assert (found["name"], found["folder"]) == ("two", str(tmp_path / "two"))
        store.add_evaluation("f" * 64, ["one", "zero-shot"], {"n": 1})
        store.add_evaluation("f" * 64, ["other"], {"n": 2})
        assert [c["n"] for c in store.evaluations("one")] == [1]
        assert len(store.evaluations()) == 2
    with open_store(tmp_path / "k.db") as store:
        assert len(store.evaluations()) == 2


def test_many_open_a_fresh_store_at_once(tmp_path: Path) -> None:
    def add(number: int) -> None:
        with open_store(tmp_path / "k.db") as store:
            store.begin_run(f"run{number}", {}, tmp_path / str(number), 1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    with open_store(tmp_path / "k.db") as store:
        assert len(store.runs()) == 8


def test_a_file_that_cannot_take_the_write_ahead_log_now_is_used_without(tmp_path: Path) -> None:
    path = tmp_path / "k.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE something (held INTEGER)")
    other.close()
    writer = sqlite3.connect(path, check_same_thread=False)
    writer.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.5, writer.commit)
    release.start()
    with open_store(path) as store:
        store.begin_run("run", {}, tmp_path, 1)
        assert len(store.runs()) == 1
    release.join()
    writer.close()


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all, but some text that is long enough")
    with pytest.raises(StoreError, match=r"text\.db"), open_store(tmp_path / "text.db"):
        pass
    with pytest.raises(StoreError), open_store("nonsense://host/db"):
        pass


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    with open_store(tmp_path / "k.db"):
        pass
    with sqlite3.connect(tmp_path / "k.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StoreError, match="newer Kamerton"), open_store(tmp_path / "k.db"):
        pass


def test_a_database_without_its_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError) as caught, open_store("postgresql+psycopg://host/shop"):
        pass
    assert caught.value.hint == "pip install 'kamerton[postgres]'"


def test_messages_do_not_show_the_password_of_a_database() -> None:
    # Nothing listens on the discard port.
    address = "postgresql+psycopg://anna:se@cret@127.0.0.1:9/shop"
    for wrong in (address, address.replace("psycopg", "nothing")):
        with pytest.raises(StoreError) as caught, open_store(wrong):
            pass
        assert "anna:***@127.0.0.1:9" in caught.value.message
        assert "se@cret" not in caught.value.message
