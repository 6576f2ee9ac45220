"""A finished run answers at once; what differs is looked at; what never began leaves nothing."""

import os
from pathlib import Path

import pytest

from kamerton.core.errors import DataError, KamertonError
from kamerton.core.events import Event, Notice
from kamerton.flows import train
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import Made, make_variant
from kamerton.flows.workspace import Workspace
from tests.e2e.project import make_project


class Loaded(Exception):
    """The base would be loaded."""


def made_in(folder: Path, *options: str, fresh: bool = False) -> tuple[Made, list[str]]:
    heard: list[Event] = []
    recipe = Recipe.read(folder / "recipe.toml", ("train.max_steps=2", *options))
    made = make_variant(recipe, folder, Workspace(folder), heard.append, fresh=fresh)
    return made, [event.message for event in heard if isinstance(event, Notice)]


def test_a_finished_run_loads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_project(tmp_path, num_rows=12)
    before, _ = made_in(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise Loaded

    monkeypatch.setattr(train, "load_base", refuse)
    again, said = made_in(tmp_path)
    assert said == ["this run is finished: nothing is left to train"]
    assert again.variant == before.variant
    assert again.outcome == before.outcome
    with pytest.raises(Loaded):
        made_in(tmp_path, "train.max_steps=3")
    with pytest.raises(Loaded):
        made_in(tmp_path, fresh=True)
    os.utime(tmp_path / "desk.jsonl", (1, 1))
    with pytest.raises(Loaded):
        made_in(tmp_path)
    os.utime(tmp_path / "desk.jsonl")
    monkeypatch.undo()
    _, said = made_in(tmp_path)
    assert said[-1] == "this run is finished: nothing is left to train"
    (before.variant.folder / "adapter_config.json").write_text("{}")
    monkeypatch.setattr(train, "load_base", refuse)
    with pytest.raises(Loaded):
        made_in(tmp_path)


@pytest.mark.parametrize(
    "option", ["data.train=none.jsonl", "base.id=nowhere/at-all", "start=nothing"]
)
def test_what_never_began_leaves_no_folders(tmp_path: Path, option: str) -> None:
    make_project(tmp_path, num_rows=12)
    with pytest.raises(KamertonError):
        made_in(tmp_path, option)
    assert {path.name for path in tmp_path.iterdir()} == {"desk.jsonl", "recipe.toml"}


def test_a_run_that_began_is_kept(tmp_path: Path) -> None:
    make_project(tmp_path, num_rows=12)
    made_in(tmp_path)
    with pytest.raises(DataError):
        made_in(tmp_path, "data.train=none.jsonl")
    assert (tmp_path / "runs/desk/events.jsonl").is_file()
