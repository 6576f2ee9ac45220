"""`kamerton variant`: what it lists, and where it writes."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from kamerton.cli import variant as verbs
from kamerton.store.variants import write_variant
from tests.unit.store.test_variants import FILES, manifest


def test_the_list_says_what_a_loss_is_of(tmp_path: Path) -> None:
    for name, objective in (("desk", "sft"), ("desk-dpo", "dpo")):
        write_variant(tmp_path / "variants" / name, manifest(name, objective=objective), FILES)
    listed = CliRunner().invoke(verbs.variant, ["list", "--project", str(tmp_path)])
    head, *rows = [line.split() for line in listed.stdout.splitlines()]
    assert head[:3] == ["name", "method", "objective"]
    assert [row[2] for row in rows] == ["sft", "dpo"]


def test_the_folder_of_variants_is_no_project(tmp_path: Path) -> None:
    write_variant(tmp_path / "variants" / "desk", manifest(), FILES)
    arguments = ["list", "--project", str(tmp_path / "variants")]
    assert "a project is the folder above" in CliRunner().invoke(verbs.variant, arguments).stderr


@pytest.mark.parametrize("ending", ["", "/"])
def test_an_export_is_named_after_the_variant(ending: str, tmp_path: Path, monkeypatch) -> None:
    # The path of a folder once put the export among the variants.
    written: list[Path] = []
    monkeypatch.setattr(verbs, "_export", lambda *given: written.append(given[2]))
    given = f"{tmp_path / 'variants' / 'desk'}{ending}"
    CliRunner().invoke(verbs.variant, ["export", given, "--project", str(tmp_path)])
    assert written == [tmp_path / "exports" / "desk-peft"]
