"""Paths are shown from the working directory, and short."""

from pathlib import Path

import pytest

from kamerton.cli.locations import short_location, short_locations, short_path


def test_paths_inside_the_working_directory_become_relative(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert short_path(str(tmp_path / "data" / "a.jsonl")) == "data/a.jsonl"
    assert short_location(f"{tmp_path / 'data' / 'a.jsonl'}:7") == "data/a.jsonl:7"


@pytest.mark.parametrize("name", ["data/a.jsonl", "hub:owner/name", "/etc/a.csv"])
def test_short_names_stay(name: str) -> None:
    assert short_path(name) == name


def test_long_paths_keep_their_last_two_names() -> None:
    assert short_path("/a/very/long/path/to/some/project/folder/desk/train.jsonl") == (
        "…/desk/train.jsonl"
    )


def test_places_of_the_same_file_are_lines() -> None:
    assert short_locations(["/x/a.jsonl:3", "/x/a.jsonl:7"], "/x/a.jsonl") == "lines 3, 7"
    assert short_locations(["/x/a.jsonl:3"], "/x/a.jsonl") == "line 3"
    assert short_locations(["/x/b.jsonl:3"], "/x/a.jsonl") == "/x/b.jsonl:3"
