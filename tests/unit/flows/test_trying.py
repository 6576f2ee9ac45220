"""Short runs choose the learning rate, and the real run is as if the recipe had named it."""

import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kamerton.cli.train import train as train_verb
from kamerton.core.errors import InterruptedRun, SettingsError, TrainingError
from kamerton.core.events import Event, Notice, Progress, StepDone
from kamerton.flows import trying
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.trying import TRIED_FILE, Tried, try_rates, with_rate
from kamerton.flows.workspace import Workspace
from kamerton.models.base import Base
from kamerton.models.load import load_base
from kamerton.store.variants import read_variant
from kamerton.training.trial import Trial
from tests.e2e.project import make_project


def never() -> bool:
    return False


def tried_in(
    folder: Path,
    *options: str,
    fresh: bool = False,
    heard: list[Event] | None = None,
    should_stop: Callable[[], bool] = never,
) -> Tried:
    recipe = Recipe.read(folder / "recipe.toml", options)
    sink = (lambda event: None) if heard is None else heard.append
    return try_rates(recipe, folder, Workspace(folder), sink, fresh=fresh, should_stop=should_stop)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tried")
    make_project(folder)
    return folder


def test_a_rate_that_is_too_high_is_stopped_early_and_not_taken(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases: list[weakref.ref[Base]] = []

    def remembered(*given: Any, **settings: Any) -> Base:
        base = load_base(*given, **settings)
        bases.append(weakref.ref(base))
        return base

    monkeypatch.setattr(trying, "load_base", remembered)
    tried = tried_in(project, "train.learning_rate=0.03")
    # One base for all short runs, and it is gone before the real run loads its own.
    assert [base() for base in bases] == [None]
    by_rate = {one.rate: one for one in tried.trials}
    assert list(by_rate)[:3] == [0.03, 0.01, 0.09]
    assert by_rate[0.03].held_out_loss is None
    assert by_rate[0.03].num_steps < 8
    assert tried.rate < 0.03
    # The smallest of the three was the best, so a tenth of it was tried.
    assert list(by_rate)[3:] == [0.001]
    chosen = by_rate[tried.rate].held_out_loss
    assert chosen is not None
    assert chosen < tried.loss_before
    assert all(one.held_out_loss is None or one.held_out_loss >= chosen for one in tried.trials)


def test_the_run_has_the_bits_of_one_whose_recipe_names_the_rate(tmp_path: Path) -> None:
    make_project(tmp_path, num_rows=16)
    given = [str(tmp_path / "recipe.toml"), "--project", str(tmp_path), "--try"]
    given += ["--set", "train.max_steps=4", "--set", "train.tokens_per_step=120"]
    done = CliRunner().invoke(train_verb, given, catch_exceptions=False)
    assert "trying 3 learning rates for 4 steps each, 300 % of the run together" in done.stderr
    taken = next(line for line in done.stderr.splitlines() if line.endswith("taken"))
    rate = float(taken.split()[0])
    found = read_variant(tmp_path / "variants" / "desk")
    assert found.manifest.recipe["train"]["learning_rate"] == rate
    options = ("train.max_steps=4", "train.tokens_per_step=120", f"train.learning_rate={rate}")
    plain = Recipe.read(tmp_path / "recipe.toml", ("name=plain", *options))
    made = make_variant(plain, tmp_path, Workspace(tmp_path), lambda event: None)
    assert made.variant.files() == found.files()
    # The same command finds the choice and the finished run again.
    done = CliRunner().invoke(train_verb, given, catch_exceptions=False)
    assert f"the learning rate {rate:g} was chosen before" in done.stderr
    assert "nothing is left to train" in done.stderr


def test_the_choice_is_kept_until_something_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(tmp_path, num_rows=24)

    def found(*_: object) -> Tried:
        return Tried([Trial(1e-3, 1.0, 8), Trial(3e-3, None, 3)], 1e-3, 3.0)

    monkeypatch.setattr(trying, "_run_trials", found)
    first = tried_in(tmp_path)
    again = tried_in(tmp_path)
    assert first.is_new
    assert not again.is_new
    assert (again.rate, list(again.trials)) == (first.rate, list(first.trials))
    assert tried_in(tmp_path, fresh=True).is_new
    assert tried_in(tmp_path, "train.seed=1").is_new
    (tmp_path / "runs" / "desk" / TRIED_FILE).write_text("{")
    assert tried_in(tmp_path, "train.seed=1").is_new
    with (tmp_path / "desk.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "And now?", "completion": "Now."}) + "\n")
    assert tried_in(tmp_path, "train.seed=1").is_new


def test_a_run_of_another_rate_is_not_tried_over(tmp_path: Path) -> None:
    make_project(tmp_path, num_rows=12)
    (tmp_path / "runs" / "desk").mkdir(parents=True)
    (tmp_path / "runs" / "desk" / "checkpoint.safetensors").write_bytes(b"")
    with pytest.raises(TrainingError, match="has a run already") as refused:
        tried_in(tmp_path)
    assert "--try --fresh" in str(refused.value.hint)


def test_a_stop_leaves_nothing_and_the_next_command_tries_anew(project: Path) -> None:
    heard: list[Event] = []

    def after_two_steps() -> bool:
        return any(isinstance(one, Progress) and one.done >= 2 and one.total == 24 for one in heard)

    with pytest.raises(InterruptedRun) as stopped:
        tried_in(project, "name=stopped", heard=heard, should_stop=after_two_steps)
    assert stopped.value.hint == "the same command tries them anew"
    assert not (project / "runs" / "stopped" / TRIED_FILE).exists()
    # Of the short runs only how far they are is shown.
    assert sum(isinstance(one, Notice) for one in heard) == 1
    assert not any(isinstance(one, StepDone) for one in heard)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (('adapter={kind="none"}',), "trains nothing"),
        (('objective={kind="dpo"}',), "too high a rate"),
        (("data.holdout=0",), "holds nothing out"),
        (
            ('objective={kind="rloo", rewards=[{kind="function", function="r.py:f"}]}',),
            "the model's own answers",
        ),
    ],
)
def test_what_cannot_be_judged_is_refused(
    options: tuple[str, ...], said: str, project: Path
) -> None:
    with pytest.raises(SettingsError, match=said):
        tried_in(project, *options)


def test_a_recipe_with_the_rate_is_as_if_it_were_written_there(project: Path) -> None:
    written = Recipe.read(project / "recipe.toml", ("train.learning_rate=0.5",))
    assert with_rate(Recipe.read(project / "recipe.toml"), 0.5).to_plain() == written.to_plain()
