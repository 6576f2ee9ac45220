"""`kamerton prompt search` over the bundled base."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from kamerton.cli.main import main
from kamerton.core.errors import DataError, SettingsError
from kamerton.core.events import Event
from kamerton.flows.prompt_search import SEARCH_FILE, search_prompts
from kamerton.flows.recipe import Recipe, recipe_of
from kamerton.flows.workspace import Workspace

COLOURS = {"red": "tomato blood brick", "green": "grass leaf frog", "blue": "sea sky ink"}
ROWS = [
    {"text": f"the {thing} number {number}", "label": label}
    for label, things in COLOURS.items()
    for thing in things.split()
    for number in range(5)
]


def ignore(_event: Event) -> None:
    """Receive nothing."""


def recipe(folder: Path, rows: list[dict[str, str]], holdout: float = 0.2) -> Recipe:
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    plain = {"train": "rows.jsonl", "holdout": holdout}
    return Recipe.parse({"name": "colours", "base": "builtin:nano", "data": plain}, source="test")


def test_the_winner_is_a_prompt_variant_and_all_that_was_tried_is_kept(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    made = recipe(tmp_path, ROWS)
    found = search_prompts(made, tmp_path, workspace, ignore, most_questions=12)
    assert found.variant.name == "colours-prompt"
    assert found.variant.manifest.method == "none"
    assert recipe_of(found.variant).prompt == found.winner
    assert found.trials[0].num_questions == found.num_questions == 12
    # Without a system text there are three: none, the one of the data, and its first sentence.
    assert len(found.trials) == 24
    assert {one.system for one in found.settings} > {""}
    assert any("red" in one.system for one in found.settings)
    kept = json.loads((workspace.runs / "colours-prompt" / SEARCH_FILE).read_text("utf-8"))
    assert kept == found.to_json()
    assert kept["tried"][0]["right"] == max(one["right"] for one in kept["tried"])


def test_no_question_of_the_search_is_shown_as_an_example(tmp_path: Path) -> None:
    # Of so few examples the prompts show nearly all.
    few = recipe(tmp_path, ROWS[::2])
    with pytest.raises(DataError, match="at least 12 training examples"):
        search_prompts(few, tmp_path, Workspace(tmp_path), ignore)


def test_something_must_be_kept_aside(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nothing is kept aside"):
        search_prompts(recipe(tmp_path, ROWS, 0.0), tmp_path, Workspace(tmp_path), ignore)


def test_the_command_prints_lines_for_a_recipe(tmp_path: Path) -> None:
    recipe(tmp_path, ROWS)
    (tmp_path / "r.toml").write_text(
        'name = "colours"\nbase = "builtin:nano"\n[data]\ntrain = "rows.jsonl"\nholdout = 0.2\n',
        encoding="utf-8",
    )
    (tmp_path / "texts.txt").write_text("Name the colour.\n\nWhich colour is it?\n", "utf-8")
    arguments = ["prompt", "search", str(tmp_path / "r.toml"), "--questions", "12"]
    arguments += ["--instructions", str(tmp_path / "texts.txt"), "--project", str(tmp_path)]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "[prompt]" in done.output
    assert "Which colour is it?" in done.output
    assert "kamerton evaluate colours-prompt" in done.output
