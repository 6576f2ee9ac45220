"""Suggestions as lines, and the command that trains anew."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from kamerton.advisor.suggestion import Suggestion
from kamerton.cli.suggestions import print_suggestions, train_command
from kamerton.cli.train import train
from tests.e2e.project import make_project


def test_settings_replace_those_that_were_given() -> None:
    command = train_command(Path("my recipe.toml"), ("train.epochs=3", "name=other"), Path("there"))
    assert command({"train.epochs": 8}) == (
        "kamerton train 'my recipe.toml' --project there --fresh --set name=other "
        "--set train.epochs=8"
    )


def test_no_suggestions_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_suggestions([])
    assert capsys.readouterr() == ("", "")


def test_a_suggestion_has_its_command_below(capsys: pytest.CaptureFixture[str]) -> None:
    print_suggestions([Suggestion("more", "kamerton train x"), Suggestion("look \x1b[1m at it")])
    assert capsys.readouterr().err.splitlines() == [
        "what to do next:",
        "- more",
        "  kamerton train x",
        "- look \\x1b[1m at it",
    ]


def test_a_run_is_advised_on_and_again_when_it_is_finished(tmp_path: Path) -> None:
    recipe = make_project(tmp_path, num_rows=12)
    given = [str(recipe), "--project", str(tmp_path), "--set", "train.learning_rate=1e-6"]
    given += ["--set", "train.max_steps=4", "--set", "data.holdout=0.5"]
    for _ in range(2):
        done = CliRunner().invoke(train, given, catch_exceptions=False)
        assert "the variant hardly learned anything" in done.stderr
        assert "--set data.holdout=0.5 --set train.learning_rate=3e-06" in done.stderr
        assert done.stdout.strip() == str(tmp_path / "variants" / "desk")
