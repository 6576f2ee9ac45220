"""Options that several verbs share."""

from pathlib import Path

from kamerton.cli.options import in_project


def test_a_next_command_finds_the_same_project() -> None:
    assert in_project(Path()) == in_project(Path(".")) == ""
    assert in_project(Path("some where")) == " --project 'some where'"
