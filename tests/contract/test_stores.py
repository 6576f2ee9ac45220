"""One suite that every kind of store passes: a SQLite file by path, and a database by URL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kamerton.store.database import Store, open_store
from tests.contract.stores import PLACES


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | str]:
    with PLACES[request.param](tmp_path) as found:
        yield found


def run_of(store: Store, name: str):
    (found,) = (run for run in store.runs() if run.name == name)
    return found


def test_what_is_written_is_there_after_reopening(place: Path | str, tmp_path: Path) -> None:
    manifest = {"content_hash": "a" * 64, "name": "desk", "prompt": {"system": "Будь краток 🙂"}}
    with open_store(place) as store:
        store.begin_run("desk", {"name": "desk", "train": {"epochs": 3}}, tmp_path, 7)
        store.add_variant(manifest, tmp_path / "desk")
        store.add_evaluation("f" * 64, ["desk"], {"accuracy": 0.5, "rows": [1, None, "x"]})
    with open_store(place) as store:
        assert [run.name for run in store.runs()] == ["desk"]
        assert store.variants() == [{**manifest, "folder": str(tmp_path / "desk")}]
        assert store.evaluations() == [{"accuracy": 0.5, "rows": [1, None, "x"]}]


def test_an_update_changes_its_own_run_only(place: Path | str, tmp_path: Path) -> None:
    with open_store(place) as store:
        one = store.begin_run("one", {}, tmp_path / "1", 5)
        two = store.begin_run("two", {}, tmp_path / "2", 5)
        assert one != two
        store.update_run(one, step=3, loss=1.25, status="stopped")
        changed, other = run_of(store, "one"), run_of(store, "two")
        assert (changed.step, changed.loss, changed.status) == (3, 1.25, "stopped")
        assert (other.step, other.loss, other.status) == (0, None, "running")
        assert changed.num_steps == 5


def test_lists_begin_with_the_newest(place: Path | str, tmp_path: Path) -> None:
    with open_store(place) as store:
        for number in range(4):
            store.begin_run(f"run{number}", {}, tmp_path / str(number), 1)
            store.add_variant({"content_hash": f"{number}" * 64, "name": f"v{number}"}, tmp_path)
            store.add_evaluation("f" * 64, ["v"], {"number": number})
        assert [run.name for run in store.runs()] == ["run3", "run2", "run1", "run0"]
        assert [found["name"] for found in store.variants()] == ["v3", "v2", "v1", "v0"]
        assert [found["number"] for found in store.evaluations()] == [3, 2, 1, 0]


def test_the_same_content_is_one_variant(place: Path | str, tmp_path: Path) -> None:
    with open_store(place) as store:
        for name in ("first", "second"):
            store.add_variant({"content_hash": "a" * 64, "name": name}, tmp_path / name)
        (found,) = store.variants()
        assert (found["name"], found["folder"]) == ("second", str(tmp_path / "second"))


def test_evaluations_are_found_by_variant(place: Path | str) -> None:
    with open_store(place) as store:
        store.add_evaluation("f" * 64, ["a", "b"], {"number": 1})
        store.add_evaluation("f" * 64, ["b"], {"number": 2})
        assert [found["number"] for found in store.evaluations("a")] == [1]
        assert [found["number"] for found in store.evaluations("b")] == [2, 1]
        assert store.evaluations("c") == []


def test_two_may_have_it_open(place: Path | str, tmp_path: Path) -> None:
    with open_store(place) as one, open_store(place) as two:
        run = one.begin_run("desk", {}, tmp_path, 5)
        two.update_run(run, step=2)
        assert run_of(one, "desk").step == 2
