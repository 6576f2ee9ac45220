"""A finished run answers at once; what differs is looked at; what never began leaves nothing."""

import os
import shutil
from pathlib import Path

import pytest

from kamerton.core.errors import (
    DataError,
    EvaluationError,
    InterruptedRun,
    KamertonError,
    ModelError,
)
from kamerton.core.events import Event, Notice, Progress, StepDone
from kamerton.evaluation.settings import EvaluationSettings
from kamerton.flows import train
from kamerton.flows.evaluate import evaluate_variants
from kamerton.flows.finished import stamps_of_data
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import Made, make_variant
from kamerton.flows.workspace import Workspace
from kamerton.models import load
from kamerton.store.variants import find_variant
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


def test_a_test_file_is_part_of_what_a_run_is_made_from(tmp_path: Path) -> None:
    make_project(tmp_path, num_rows=12)
    shutil.copy(tmp_path / "desk.jsonl", tmp_path / "test.jsonl")
    recipe = Recipe.read(tmp_path / "recipe.toml", ("data.test=test.jsonl",))
    stamps = stamps_of_data(recipe, tmp_path)
    assert stamps is not None
    assert [Path(name).name for name, _, _ in stamps] == ["desk.jsonl", "test.jsonl"]


def test_a_base_that_is_fetched_first_is_known_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(tmp_path, num_rows=12)
    shutil.copytree(load.find_base("builtin:nano"), tmp_path / "snapshots" / "abc")
    cached: list[bool] = []

    def from_hub(name: str, commit: str, *, online: bool) -> Path:
        if online:
            cached.append(True)
        if not cached:
            raise ModelError("not in the cache")
        return tmp_path / "snapshots" / "abc"

    monkeypatch.setattr(load, "from_hub", from_hub)
    made_in(tmp_path, "base.id=acme/small")
    assert cached == [True]
    _, said = made_in(tmp_path, "base.id=acme/small")
    assert said == ["this run is finished: nothing is left to train"]
    assert cached == [True]


def test_what_is_done_after_the_last_step_is_named(tmp_path: Path) -> None:
    make_project(tmp_path, num_rows=12)
    heard: list[Event] = []
    recipe = Recipe.read(tmp_path / "recipe.toml", ("train.max_steps=1",))
    make_variant(recipe, tmp_path, Workspace(tmp_path), heard.append)
    last = [event for event in heard if isinstance(event, Progress)][-3:]
    # On a large base this takes minutes: a bar, or a line in a log.
    assert {event.task for event in last} == {"measuring general loss"}
    assert [(event.done, event.total) for event in last] == [(0, 2), (1, 2), (2, 2)]


@pytest.mark.parametrize(
    "option", ["data.train=none.jsonl", "base.id=nowhere/at-all", "start_from=nothing"]
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


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("base.id=builtin:typo", "there is no builtin:typo"),
        ("base.device=typo", "there is no 'typo'"),
    ],
)
def test_a_mistyped_base_is_said_before_the_data_are_read(
    option: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("data are read")

    make_project(tmp_path, num_rows=12)
    monkeypatch.setattr(train, "read_examples", refuse)
    with pytest.raises(ModelError, match=said):
        made_in(tmp_path, option)


def test_a_fresh_run_that_was_stopped_goes_on_without_fresh(tmp_path: Path) -> None:
    make_project(tmp_path, num_rows=12)
    made_in(tmp_path)
    recipe = Recipe.read(tmp_path / "recipe.toml", ("train.max_steps=2",))
    steps: list[Event] = []

    def one_step() -> bool:
        return any(isinstance(event, StepDone) for event in steps)

    with pytest.raises(InterruptedRun, match="stopped after step 1 of 2") as caught:
        make_variant(
            recipe, tmp_path, Workspace(tmp_path), steps.append, should_stop=one_step, fresh=True
        )
    assert caught.value.hint == "the same command without --fresh goes on from here"
    heard: list[Event] = []
    make_variant(recipe, tmp_path, Workspace(tmp_path), heard.append)
    assert [event.step for event in heard if isinstance(event, StepDone)] == [2]


def test_a_variant_is_compared_with_what_it_was(tmp_path: Path) -> None:
    make_project(tmp_path, num_rows=12)
    made_in(tmp_path, "data.holdout=0.4")
    made, _ = made_in(tmp_path, "data.holdout=0.4", "train.learning_rate=0.02", fresh=True)
    workspace = Workspace(tmp_path)
    both = [find_variant(name, workspace.variants) for name in (made.variant.name, "desk.1")]
    settings = EvaluationSettings(max_new_tokens=2, shots=0, resamples=100)
    found = evaluate_variants(both, workspace, lambda event: None, settings=settings)
    assert found.comparison.variants[-2:] == ("desk", "desk.1")
    assert find_variant("desk.1", workspace.variants).manifest.name == "desk"
    with pytest.raises(EvaluationError, match="different names"):
        evaluate_variants([both[0], both[0]], workspace, lambda event: None, settings=settings)
