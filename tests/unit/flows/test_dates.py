"""Templates that write today's date: a run keeps the one it began with, and so does its variant."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kamerton.core.errors import InterruptedRun, TrainingError
from kamerton.core.events import Event, StepDone
from kamerton.flows.recipe import Recipe, recipe_of
from kamerton.flows.train import Made, make_variant
from kamerton.flows.workspace import Workspace
from kamerton.models.load import find_base
from kamerton.variants.load import load_base_for
from kamerton.variants.rendering import renderer_of
from tests.e2e.project import make_project

CHAT = [{"role": "user", "content": "What is in box 4?"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project over a base whose template writes the date and a tone."""
    folder = tmp_path_factory.mktemp("dates")
    make_project(folder, num_rows=8)
    base = folder / "base"
    shutil.copytree(find_base("builtin:nano"), base)
    settings = json.loads((base / "tokenizer_config.json").read_text(encoding="utf-8"))
    written = "{{ 'Today: ' + strftime_now('%d %b %Y') + (tone or '') + '\\n' }}"
    settings["chat_template"] = written + settings["chat_template"]
    (base / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def train(
    folder: Path, name: str, day: int, monkeypatch: pytest.MonkeyPatch, *options: str,
    stop_after: int = 0, fresh: bool = False,
) -> Made:  # fmt: skip
    class Then(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime(2026, 11, day, 23, 50, tzinfo=UTC)

    monkeypatch.setattr("kamerton.flows.dates.datetime", Then)
    steps: list[Event] = []

    def follow(event: Event) -> None:
        if isinstance(event, StepDone):
            steps.append(event)

    settings = (f"name={name}", f"base={folder / 'base'}", "train.max_steps=3", *options)
    recipe = Recipe.read(folder / "recipe.toml", settings)
    return make_variant(
        recipe, folder, Workspace(folder), follow,
        should_stop=lambda: bool(stop_after) and len(steps) >= stop_after, fresh=fresh,
    )  # fmt: skip


def weights(made: Made) -> bytes:
    return (made.variant.folder / "adapter_model.safetensors").read_bytes()


def test_a_run_resumed_after_midnight_ends_as_an_undisturbed_one(folder: Path, monkeypatch) -> None:
    whole = train(folder, "whole", 28, monkeypatch)
    with pytest.raises(InterruptedRun):
        train(folder, "cut", 28, monkeypatch, stop_after=1)
    resumed = train(folder, "cut", 29, monkeypatch)
    assert weights(resumed) == weights(whole)
    # What it learned from is what it is asked with.
    recipe = recipe_of(resumed.variant)
    assert recipe.render.date == "2026-11-28"
    base = load_base_for(resumed.variant)
    asked = renderer_of(base, recipe.render, recipe.adapter.added_tokens).prompt_ids(CHAT)
    assert base.tokenizer.decode(asked).count("Today: 28 Nov 2026\n") == 1
    # A run that begins anew has its own day.
    again = train(folder, "cut", 29, monkeypatch, fresh=True)
    assert recipe_of(again.variant).render.date == "2026-11-29"
    assert weights(again) != weights(whole)


def test_the_recipe_may_say_the_date_and_other_arguments(folder: Path, monkeypatch) -> None:
    options = ("render.date=2020-02-29", 'render.template_arguments={ tone = ", briefly" }')
    made = train(folder, "said", 28, monkeypatch, *options)
    recipe = recipe_of(made.variant)
    base = load_base_for(made.variant)
    asked = renderer_of(base, recipe.render, recipe.adapter.added_tokens).prompt_ids(CHAT)
    assert "Today: 29 Feb 2020, briefly\n" in base.tokenizer.decode(asked)


def test_a_run_does_not_go_on_with_other_tokens(folder: Path, monkeypatch) -> None:
    with pytest.raises(InterruptedRun):
        train(folder, "other", 28, monkeypatch, stop_after=1)
    hashes = "kamerton.flows.task._rows_hash"
    monkeypatch.setattr(hashes, lambda rows: "0" * 12)
    with pytest.raises(TrainingError, match=r"tokens\.train: [0-9a-f]{12}, now 000000000000"):
        train(folder, "other", 28, monkeypatch)


def test_a_template_without_a_date_leaves_the_recipe_as_it_is(folder: Path, monkeypatch) -> None:
    made = train(folder, "plain", 28, monkeypatch, "base=builtin:nano")
    assert recipe_of(made.variant).render.date == ""
    assert not (folder / "runs" / "plain" / "date.txt").exists()
