"""`kamerton variant`: what it lists, and where it writes."""

import json
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


def test_a_variant_is_shown_to_people_and_as_json(tmp_path: Path) -> None:
    parent = write_variant(tmp_path / "variants" / "first", manifest("first"), FILES).manifest
    made = manifest(
        recipe={
            "name": "desk", "purpose": "Answers \x1b[2Jabout boxes.",
            "adapter": {"kind": "lora", "rank": 4, "dora": False},
        },
        generation={"temperature": 0.0, "max_new_tokens": 64, "stop": ["\n\n"]},
        prompt={"system": "Be brief.", "demonstrations": [{}, {}]},
        metrics={"holdout_loss": 1.5, "steps": 3.0},
        parents=[parent.content_hash, "f" * 64],
    )  # fmt: skip
    written = write_variant(tmp_path / "variants" / "desk", made, FILES).manifest
    arguments = ["show", "desk", "--project", str(tmp_path)]
    shown = CliRunner().invoke(verbs.variant, arguments).stdout
    rows = dict(line.rstrip().split("  ", 1) for line in shown.splitlines() if line[0] != " ")
    assert {name: value.strip() for name, value in rows.items()} == {
        "name": "desk",
        "purpose": "Answers \\x1b[2Jabout boxes.",
        "base": "builtin:nano (LlamaForCausalLM, 5 parameters)",
        "computation": "dtype auto, device auto",
        "method": "lora, rank 4",
        "objective": "sft, seed 0",
        "system text": "Be brief.",
        "demonstrations": "2",
        "generation": 'temperature 0.0, max_new_tokens 64, stop ["\\n\\n"]',
        "data": "d.jsonl",
        "examples": "3 examples learned from, 1 held out",
        "parents": "first, ffffffffffff",
        "made": "2026-01-01 00:00 UTC, Kamerton 0",
        "content hash": written.content_hash,
        "metrics": "holdout loss: 1.5",
    }
    plain = CliRunner().invoke(verbs.variant, [*arguments, "--json"]).stdout
    assert json.loads(plain) == written.model_dump(mode="json")


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
