"""Variant folders: whole or absent, hashed, refused when damaged or for another base."""

import json
from pathlib import Path
from typing import Any

import pytest

from kamerton.core import files as core_files
from kamerton.core.errors import VariantError
from kamerton.store.variants import (
    BaseRecord,
    DataRecord,
    VariantManifest,
    add_metrics,
    check_base,
    find_variant,
    list_variants,
    read_variant,
    write_variant,
)

FILES = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"\x00" * 40}


def manifest(name: str = "desk", **changes: Any) -> VariantManifest:
    made = VariantManifest(
        name=name,
        base=BaseRecord(
            id="builtin:nano", architecture="LlamaForCausalLM", num_parameters=5,
            weight_hash="w" * 64, tokenizer_hash="t" * 64, template_hash="c" * 64,
        ),
        prompt={"system": None, "demonstrations": []},
        method="lora", objective="sft", recipe={"name": name},
        data=DataRecord(place="d.jsonl", fingerprint="f", num_train=3, num_holdout=1),
        seed=0, kamerton_version="0", created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    return made.model_copy(update=changes)


def test_round_trip(tmp_path: Path) -> None:
    written = write_variant(tmp_path / "desk", manifest(), FILES)
    found = read_variant(tmp_path / "desk")
    assert found.manifest == written.manifest
    assert found.files() == FILES
    assert "desk" in (tmp_path / "desk" / "CARD.md").read_text()
    assert [v.name for v in list_variants(tmp_path)] == ["desk"]


def test_the_hash_is_of_what_decides_the_answers(tmp_path: Path) -> None:
    one = write_variant(tmp_path / "a", manifest("a"), FILES).manifest.content_hash
    assert write_variant(tmp_path / "b", manifest("b", seed=4), FILES).manifest.content_hash == one
    other_files = {**FILES, "adapter_config.json": b"{ }"}
    assert write_variant(tmp_path / "c", manifest("c"), other_files).manifest.content_hash != one
    other = manifest("d", prompt={"system": "Be brief.", "demonstrations": []})
    assert write_variant(tmp_path / "d", other, FILES).manifest.content_hash != one


@pytest.mark.parametrize("file", sorted(FILES))
def test_damage_is_found(tmp_path: Path, file: str) -> None:
    write_variant(tmp_path / "desk", manifest(), FILES)
    (tmp_path / "desk" / file).write_bytes(b"other")
    with pytest.raises(VariantError, match=file):
        read_variant(tmp_path / "desk")
    (tmp_path / "desk" / file).unlink()
    with pytest.raises(VariantError, match="missing"):
        read_variant(tmp_path / "desk")


def test_a_changed_manifest_is_found(tmp_path: Path) -> None:
    write_variant(tmp_path / "desk", manifest(), FILES)
    path = tmp_path / "desk" / "variant.json"
    plain = json.loads(path.read_text())
    for change, message in (
        ({"method": "none"}, "changed"),
        ({"format_version": 99}, "format 99"),
        ({"seed": "x"}, "damaged"),
        ({"files": {"../../etc/passwd": "0" * 64}}, "missing"),
    ):
        path.write_text(json.dumps({**plain, **change}))
        with pytest.raises(VariantError, match=message):
            read_variant(tmp_path / "desk")
    path.write_bytes(b"{")
    with pytest.raises(VariantError, match="damaged"):
        read_variant(tmp_path / "desk")


def test_a_crash_while_writing_leaves_the_old_one(tmp_path: Path, monkeypatch) -> None:
    write_variant(tmp_path / "desk", manifest(), FILES)
    real = core_files.os.replace

    def fail(source: Any, target: Any) -> None:
        if Path(target) == tmp_path / "desk":
            raise OSError("disk is gone")
        real(source, target)

    monkeypatch.setattr(core_files.os, "replace", fail)
    changed = {**FILES, "adapter_config.json": b"[]"}
    with pytest.raises(OSError, match="disk"):
        write_variant(tmp_path / "new", manifest("new"), FILES) and write_variant(
            tmp_path / "desk", manifest(), changed, replace=True
        )
    monkeypatch.undo()
    assert read_variant(tmp_path / "new").files() == FILES
    assert [
        path.name for path in tmp_path.iterdir() if ".desk" in path.name and "old" not in path.name
    ] == []


def test_other_content_is_not_replaced_by_accident(tmp_path: Path) -> None:
    write_variant(tmp_path / "desk", manifest(), FILES)
    write_variant(tmp_path / "desk", manifest(), FILES)
    with pytest.raises(VariantError, match="another variant"):
        write_variant(tmp_path / "desk", manifest(), {**FILES, "x": b""})
    write_variant(tmp_path / "desk", manifest(), {**FILES, "x": b""}, replace=True)


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "with space", "a\n"])
def test_unsafe_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(VariantError, match="name must be"):
        write_variant(tmp_path / "x", manifest(name), FILES)


def test_another_base_is_refused() -> None:
    hashes = {"weight_hash": "w" * 64, "tokenizer_hash": "t" * 64, "template_hash": "c" * 64}
    check_base(manifest(), **hashes)
    for key, word in (("weight_hash", "weights"), ("template_hash", "chat template")):
        with pytest.raises(VariantError, match=word):
            check_base(manifest(), **{**hashes, key: "0" * 64})


def test_finding(tmp_path: Path) -> None:
    write_variant(tmp_path / "support-lora", manifest("support-lora"), FILES)
    assert find_variant("support-lora", tmp_path).name == "support-lora"
    assert find_variant(str(tmp_path / "support-lora"), tmp_path / "none").name == "support-lora"
    with pytest.raises(VariantError, match="did you mean 'support-lora'"):
        find_variant("suport-lora", tmp_path)


def test_metrics_do_not_change_identity(tmp_path: Path) -> None:
    one = write_variant(tmp_path / "desk", manifest(), FILES)
    two = add_metrics(one, "| table |", {"accuracy": 0.9})
    assert two.manifest.content_hash == one.manifest.content_hash
    assert read_variant(tmp_path / "desk").manifest.metrics == {"accuracy": 0.9}
    assert "| table |" in (tmp_path / "desk" / "CARD.md").read_text()
